//! Redis, which keeps what it is told.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    process::Command,
    time::Duration,
};

use super::{Place, Server, has};

pub(super) struct Redis;

impl Server for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn variable(&self) -> &'static str {
        "FACTUM_TEST_REDIS"
    }

    fn address(&self, port: u16) -> String {
        format!("redis://127.0.0.1:{port}/0")
    }

    fn missing_packages(&self) -> Vec<&'static str> {
        if has("redis-server") {
            Vec::new()
        } else {
            vec!["redis-server"]
        }
    }

    fn prepare(&self, place: &Place) -> io::Result<()> {
        fs::create_dir_all(place.join("data"))
    }

    fn command(&self, place: &Place) -> io::Result<Command> {
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--appendonly", "yes", "--save", ""])
            .args(["--port", &place.port.to_string(), "--dir"])
            .arg(place.join("data"));
        Ok(command)
    }

    fn answers(&self, place: &Place) -> bool {
        let ask = || -> io::Result<bool> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, place.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(b"PING\r\n")?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer)?;
            Ok(&answer == b"+PONG")
        };
        ask().unwrap_or(false)
    }
}
