//! A broker of a test's own, dressed in TLS, with users.

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use factum_testkit::engines;

/// Where the broker's jars are, if not where `cargo xtask servers up` puts them.
const JARS: &str = "FACTUM_TEST_KAFKA_JARS";

/// What it says when it takes requests.
const STARTED: &str = "Kafka Server started";

pub(crate) const USER: &str = "alice";
pub(crate) const PASSWORD: &str = "s:e@c%ret";

/// A broker that runs until this is dropped: one listener for users with a password, one for those with a certificate.
pub(crate) struct Server {
    directory: tempfile::TempDir,
    users: u16,
    certificates: u16,
    running: Child,
}

impl Server {
    /// Starts one with this certificate and key, which believes certificates that `authority` signed; `None`, which is
    /// then said, where Kafka is not there.
    pub(crate) fn start(certificate: &str, key: &str, authority: &str) -> Option<Self> {
        // Where no server is wanted, none is started either.
        engines::server("FACTUM_TEST_KAFKA")?;
        let Some(jars) = jars() else {
            engines::skipped(&format!(
                "Kafka's jars are not there (`cargo xtask servers up kafka` brings them, `{JARS}` tells of others)"
            ));
            return None;
        };
        let directory = tempfile::tempdir().expect("a directory can be made");
        let path = directory.path();
        let put = |name: &str, content: &str| {
            fs::write(path.join(name), content).expect("it can be written");
        };
        put("server.pem", &format!("{key}{certificate}"));
        put("clients.pem", authority);
        put("log4j2.properties", LOGGING);
        let ports = ports();
        put("server.properties", &configuration(path, ports));
        let properties = path.join("server.properties");
        let password = |hash: &str| format!("{hash}=[name={USER},password={PASSWORD}]");
        let formatted = java(&jars, path)
            .args(["kafka.tools.StorageTool", "format"])
            .args(["--cluster-id", "ZmFjdHVtLXRlc3RzLTAwMQ", "--config"])
            .arg(&properties)
            .args(["--add-scram", &password("SCRAM-SHA-256")])
            .args(["--add-scram", &password("SCRAM-SHA-512")])
            .output()
            .expect("java runs");
        assert!(formatted.status.success(), "{formatted:?}");
        let log = fs::File::create(path.join("log")).expect("it can be written");
        let running = java(&jars, path)
            .arg("kafka.Kafka")
            .arg(&properties)
            .stdout(log.try_clone().expect("a file has many ends"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn();
        let [users, certificates, ..] = ports;
        let server = Self {
            users,
            certificates,
            running: running.expect("the broker starts"),
            directory,
        };
        server.wait();
        Some(server)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "no executor waits here, and the broker calls nobody back"
    )]
    fn wait(&self) {
        let log = || fs::read_to_string(self.path().join("log")).unwrap_or_default();
        let is_up = (0..1200).any(|_| {
            thread::sleep(Duration::from_millis(50));
            log().contains(STARTED)
        });
        assert!(is_up, "the broker does not start:\n{}", log());
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Puts a file where the test's own clients find it.
    pub(crate) fn put(&self, name: &str, content: &str) -> String {
        let path = self.path().join(name);
        fs::write(&path, content).expect("it can be written");
        path.display().to_string()
    }

    /// The address for users with a password, as `localhost`.
    pub(crate) fn users(&self) -> String {
        format!("localhost:{}", self.users)
    }

    /// The address for users with a certificate, as `localhost`.
    pub(crate) fn certificates(&self) -> String {
        format!("localhost:{}", self.certificates)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.running.kill());
        drop(self.running.wait());
    }
}

fn jars() -> Option<PathBuf> {
    let told = env::var(JARS).ok().map(PathBuf::from);
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.servers/kafka/lib");
    let jars = told.unwrap_or(usual);
    jars.is_dir().then_some(jars)
}

fn java(jars: &Path, directory: &Path) -> Command {
    let mut java = Command::new("java");
    let logging = directory.join("log4j2.properties");
    java.args(["-Xmx256m", "-classpath"])
        .arg(jars.join("*"))
        .arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
    java
}

/// Ports that nobody uses just now.
fn ports() -> [u16; 4] {
    // All are held until all are known, so that none comes twice.
    let held = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    held.map(|held| held.local_addr().expect("it has an address").port())
}

const LOGGING: &str = "\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %m (%c)%n
";

fn configuration(
    directory: &Path,
    [users, certificates, internal, controller]: [u16; 4],
) -> String {
    let directory = directory.display();
    format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=USERS://127.0.0.1:{users},CERTIFICATES://127.0.0.1:{certificates},INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=USERS://localhost:{users},CERTIFICATES://localhost:{certificates},INTERNAL://127.0.0.1:{internal}
listener.security.protocol.map=USERS:SASL_SSL,CERTIFICATES:SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=INTERNAL
log.dirs={directory}/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
ssl.keystore.type=PEM
ssl.keystore.location={directory}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={directory}/clients.pem
listener.name.certificates.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.users.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
listener.name.users.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.users.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"
    )
}
