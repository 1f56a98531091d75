//! A server of a test's own, to be stopped, starved and dressed in TLS.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use factum_testkit::engines;

/// A server that runs until this is dropped.
pub(crate) struct Server {
    directory: tempfile::TempDir,
    port: u16,
    settings: Vec<String>,
    running: Option<Child>,
}

const USER: &str = "factum";

impl Server {
    /// Starts one with these settings; `None`, which is then said, where PostgreSQL is not installed.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        // Where no server is wanted, none is started either.
        engines::server("FACTUM_TEST_POSTGRES")?;
        let Some(binaries) = binaries() else {
            engines::skipped("PostgreSQL's own programs are not installed");
            return None;
        };
        let directory = tempfile::tempdir().expect("a directory can be made");
        let mut server = Self {
            directory,
            port: free_port(),
            settings: settings.iter().map(ToString::to_string).collect(),
            running: None,
        };
        let password = server.path().join("password");
        fs::write(&password, USER).expect("it can be written");
        server.give_to_postgres();
        let made = as_postgres(&binaries.join("initdb"))
            .args([
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ])
            .arg(format!("--username={USER}"))
            .arg(format!("--pwfile={}", password.display()))
            .arg("--pgdata")
            .arg(server.data())
            .stdout(Stdio::null())
            .status();
        assert!(
            made.expect("initdb runs").success(),
            "a database can be made"
        );
        server.up();
        Some(server)
    }

    /// A standby of this one, which follows it once it is up.
    pub(crate) fn standby(&self) -> Self {
        let binaries = binaries().expect("they were there");
        let standby = Self {
            directory: tempfile::tempdir().expect("a directory can be made"),
            port: free_port(),
            settings: Vec::new(),
            running: None,
        };
        standby.give_to_postgres();
        let copied = as_postgres(&binaries.join("pg_basebackup"))
            .env("PGPASSWORD", USER)
            .args(["--checkpoint=fast", "--no-sync", "--write-recovery-conf"])
            .args(["--host=127.0.0.1", &format!("--port={}", self.port)])
            .arg(format!("--username={USER}"))
            .arg("--pgdata")
            .arg(standby.data())
            .status();
        assert!(
            copied.expect("pg_basebackup runs").success(),
            "a server can be copied"
        );
        standby
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where the server's files are.
    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// The address of whichever of the two is the primary.
    pub(crate) fn url_with(&self, other: &Self) -> String {
        let (one, other) = (self.port, other.port);
        format!(
            "postgres://{USER}:{USER}@127.0.0.1:{one},127.0.0.1:{other}/postgres?target_session_attrs=read-write"
        )
    }

    /// Its address, and what comes behind the `?`.
    pub(crate) fn url(&self, parameters: &str) -> String {
        format!(
            "postgres://{USER}:{USER}@localhost:{}/postgres?{parameters}",
            self.port
        )
    }

    /// Adds a setting, to hold from the next start.
    pub(crate) fn set(&mut self, setting: &str) {
        self.settings.push(setting.into());
    }

    /// Puts a file beside the server's, which the server may read.
    pub(crate) fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.data().join(name);
        fs::write(&path, content).expect("it can be written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, mode).expect("it is ours");
        self.give_to_postgres();
        path
    }

    fn give_to_postgres(&self) {
        if is_root() {
            let given = Command::new("chown")
                .args(["-R", "postgres:"])
                .arg(self.path())
                .status();
            assert!(given.expect("chown runs").success());
        }
    }

    /// Starts it, and waits until it takes connections.
    #[expect(
        clippy::disallowed_methods,
        reason = "no executor waits here, and the server calls nobody back"
    )]
    pub(crate) fn up(&mut self) {
        let binaries = binaries().expect("they were there");
        let mut command = as_postgres(&binaries.join("postgres"));
        command
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories="] {
            command.args(["-c", setting]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let log = fs::File::create(self.path().join("log")).expect("it can be written");
        let child = command
            .stderr(log)
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .spawn();
        self.running = Some(child.expect("the server starts"));
        let ready = (0..600).any(|_| {
            thread::sleep(Duration::from_millis(50));
            let status = Command::new(binaries.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status();
            status.is_ok_and(|status| status.success())
        });
        let log = fs::read_to_string(self.path().join("log")).unwrap_or_default();
        assert!(ready, "the server takes no connections:\n{log}");
    }

    /// Stops it as a crash of the machine does (`QUIT`), or in good order without waiting for clients (`INT`).
    pub(crate) fn down(&mut self, signal: &str) {
        if let Some(mut running) = self.running.take() {
            // `setpriv` has become the server: the id is its own.
            let killed = Command::new("kill")
                .args(["-s", signal, &running.id().to_string()])
                .status();
            killed.expect("kill runs");
            running.wait().expect("it ends");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.down("QUIT");
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port is free")
        .port()
}

fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let newest = versions
        .filter_map(|version| {
            version
                .ok()?
                .file_name()
                .into_string()
                .ok()?
                .parse::<u32>()
                .ok()
        })
        .max()?;
    let folder = PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"));
    folder.join("postgres").is_file().then_some(folder)
}

/// One of PostgreSQL's programs, which refuse to run as root.
fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    command.arg(program).current_dir("/");
    command
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
