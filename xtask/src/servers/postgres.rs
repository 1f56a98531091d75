//! PostgreSQL, which refuses to run as root: it gets the user that its package made.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use super::{Place, Server, done};

/// Name and password of the one who may do everything.
const USER: &str = "factum";

pub(super) struct Postgres;

impl Server for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn variable(&self) -> &'static str {
        "FACTUM_TEST_POSTGRES"
    }

    fn address(&self, port: u16) -> String {
        format!("postgres://{USER}:{USER}@127.0.0.1:{port}/postgres")
    }

    fn missing_packages(&self) -> Vec<&'static str> {
        if binaries().is_some() {
            Vec::new()
        } else {
            vec!["postgresql"]
        }
    }

    fn prepare(&self, place: &Place) -> io::Result<()> {
        let data = place.join("data");
        if data.join("PG_VERSION").exists() {
            return Ok(());
        }
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        fs::create_dir(&data)?;
        let password = place.join("password");
        fs::write(&password, USER)?;
        if is_root()? {
            done(Command::new("chown").args(["-R", "postgres:"]).arg(&data))?;
        }
        let mut init = program("initdb")?;
        init.args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"])
            .arg(format!("--username={USER}"))
            .arg(format!("--pwfile={}", password.display()))
            .arg("--pgdata")
            .arg(&data);
        done(&mut init)
    }

    fn command(&self, place: &Place) -> io::Result<Command> {
        let mut command = program("postgres")?;
        command.arg("-D").arg(place.join("data"));
        command.args(["-p", &place.port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=300",
        ] {
            command.args(["-c", setting]);
        }
        Ok(command)
    }

    /// It is up when it answers a request for TLS, with yes or no.
    fn answers(&self, place: &Place) -> bool {
        let ask = || -> io::Result<bool> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, place.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            // SSLRequest: its length, and the number that stands for it.
            stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?;
            let mut answer = [0];
            stream.read_exact(&mut answer)?;
            Ok(matches!(answer, [b'S' | b'N']))
        };
        ask().unwrap_or(false)
    }
}

/// One of PostgreSQL's programs, run by a user who may run it.
fn program(name: &str) -> io::Result<Command> {
    let binaries = binaries().ok_or_else(|| io::Error::other("PostgreSQL is not installed"))?;
    let path = binaries.join(name);
    if !is_root()? {
        return Ok(Command::new(path));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    command.arg(path);
    // A user who may not look into the present folder would say so with every command.
    command.current_dir("/");
    Ok(command)
}

/// Where Debian puts the newest version's programs.
fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let newest = versions
        .filter_map(|version| version.ok()?.file_name().into_string().ok()?.parse().ok())
        .max();
    let newest: u32 = newest?;
    let folder = PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"));
    folder.join("postgres").is_file().then_some(folder)
}

fn is_root() -> io::Result<bool> {
    let output = Command::new("id").arg("-u").output()?;
    Ok(output.stdout.trim_ascii() == b"0")
}
