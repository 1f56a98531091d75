//! Apache Kafka, one node that is broker and controller at once (KRaft).

use std::{
    fs, io,
    net::{Ipv4Addr, TcpStream},
    process::Command,
};

use super::{Place, Server, done, free_port, jars};

const POM: &str = include_str!("../../servers/kafka.pom.xml");

/// What it says when it takes requests.
const STARTED: &str = "Kafka Server started";

pub(super) struct Kafka;

impl Server for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn variable(&self) -> &'static str {
        "FACTUM_TEST_KAFKA"
    }

    fn address(&self, port: u16) -> String {
        format!("127.0.0.1:{port}")
    }

    fn missing_packages(&self) -> Vec<&'static str> {
        jars::missing_packages()
    }

    fn prepare(&self, place: &Place) -> io::Result<()> {
        jars::bring(&place.parts, POM)?;
        let properties = place.join("server.properties");
        if !properties.exists() {
            fs::write(&properties, configuration(place, free_port()?))?;
        }
        let data = place.join("data");
        if data.join("meta.properties").exists() {
            return Ok(());
        }
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        // Any id will do; a cluster of one is never taken for another.
        let mut format = jars::java(&place.parts);
        format
            .args(["kafka.tools.StorageTool", "format"])
            .args(["--cluster-id", "ZmFjdHVtLXRlc3RzLTAwMQ", "--config"])
            .arg(&properties);
        done(&mut format)
    }

    fn command(&self, place: &Place) -> io::Result<Command> {
        let mut command = jars::java(&place.parts);
        command
            .arg("kafka.Kafka")
            .arg(place.join("server.properties"));
        let logging = place.join("log4j2.properties");
        fs::write(&logging, LOGGING)?;
        let mut with_logging = Command::new(command.get_program());
        with_logging
            .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
            .args(command.get_args());
        Ok(with_logging)
    }

    fn answers(&self, place: &Place) -> bool {
        let started = fs::read_to_string(place.log()).is_ok_and(|log| log.contains(STARTED));
        started && TcpStream::connect((Ipv4Addr::LOCALHOST, place.port)).is_ok()
    }
}

const LOGGING: &str = "\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %m (%c)%n
";

fn configuration(place: &Place, controller: u16) -> String {
    let (port, data) = (place.port, place.join("data"));
    let data = data.display();
    format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
# One node has no copies.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
# A group of tests waits for nobody.
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"
    )
}
