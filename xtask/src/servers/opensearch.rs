//! OpenSearch, which speaks the API of Elasticsearch. Without its security plugin, and so without TLS.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    process::Command,
    time::Duration,
};

use super::{Place, Server, jars};

const POM: &str = include_str!("../../servers/opensearch.pom.xml");
const LAUNCHER: &str = include_str!("../../servers/OpenSearch.java");

pub(super) struct OpenSearch;

impl Server for OpenSearch {
    fn name(&self) -> &'static str {
        "opensearch"
    }

    fn variable(&self) -> &'static str {
        "FACTUM_TEST_OPENSEARCH"
    }

    fn address(&self, port: u16) -> String {
        format!("http://127.0.0.1:{port}")
    }

    fn missing_packages(&self) -> Vec<&'static str> {
        jars::missing_packages()
    }

    fn prepare(&self, place: &Place) -> io::Result<()> {
        jars::bring(&place.parts, POM)?;
        fs::create_dir_all(place.join("data"))?;
        fs::write(place.join("OpenSearch.java"), LAUNCHER)
    }

    fn command(&self, place: &Place) -> io::Result<Command> {
        let mut command = jars::java(&place.parts);
        command
            .arg(place.join("OpenSearch.java"))
            .arg(place.join("data"))
            .arg(place.port.to_string());
        Ok(command)
    }

    /// It is up when its cluster is ready to write.
    fn answers(&self, place: &Place) -> bool {
        let ask = || -> io::Result<bool> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, place.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /_cluster/health HTTP/1.0\r\nhost: localhost\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(["green", "yellow"]
                .iter()
                .any(|status| answer.contains(&format!("\"status\":\"{status}\""))))
        };
        ask().unwrap_or(false)
    }
}
