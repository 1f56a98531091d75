//! A server of a test's own, to be killed, set back, starved and dressed in TLS.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use factum_testkit::engines;

use crate::support::redis_at;

/// A server that runs until this is dropped.
pub(crate) struct Server {
    directory: tempfile::TempDir,
    pub(crate) port: u16,
    settings: Vec<String>,
    running: Option<Child>,
}

impl Server {
    /// Starts one with these settings; `None`, which is then said, where Redis is not installed.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        let mut server = Self::prepare(settings)?;
        server.up();
        Some(server)
    }

    /// The same, not started yet.
    pub(crate) fn prepare(settings: &[&str]) -> Option<Self> {
        // Where no server is wanted, none is started either.
        engines::server("FACTUM_TEST_REDIS")?;
        let version = Command::new("redis-server").arg("--version").output();
        if version.is_err() {
            engines::skipped("`redis-server` is not installed");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory can be made");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port is free")
            .port();
        Some(Self {
            directory,
            port,
            settings: settings.iter().map(ToString::to_string).collect(),
            running: None,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Adds settings, to hold from the next start.
    pub(crate) fn set(&mut self, settings: &[&str]) {
        self.settings
            .extend(settings.iter().map(ToString::to_string));
    }

    /// Puts a file beside the server's.
    pub(crate) fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, content).expect("it can be written");
        path
    }

    /// Starts it, and waits until it takes connections.
    #[expect(
        clippy::disallowed_methods,
        reason = "no executor waits here, and the server calls nobody back"
    )]
    pub(crate) fn up(&mut self) {
        let log = fs::File::create(self.path().join("log")).expect("it can be written");
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
            .args(["--port", &self.port.to_string(), "--dir"])
            .arg(self.path())
            .args(&self.settings)
            .stdout(log)
            .stderr(Stdio::null())
            .stdin(Stdio::null());
        self.running = Some(command.spawn().expect("the server starts"));
        let log = || fs::read_to_string(self.path().join("log")).unwrap_or_default();
        let ready = (0..600).any(|_| {
            thread::sleep(Duration::from_millis(20));
            log().contains("Ready to accept connections")
        });
        assert!(ready, "the server takes no connections:\n{}", log());
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill().expect("it is ours");
            running.wait().expect("it ends");
        }
    }

    fn log_directory(&self) -> PathBuf {
        self.path().join("appendonlydir")
    }

    /// A copy of what it has written to its files up to now.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(self.log_directory()).expect("it has files");
        let read = |entry: std::io::Result<fs::DirEntry>| {
            let path = entry.expect("it can be listed").path();
            let content = fs::read(&path).expect("it can be read");
            (path, content)
        };
        entries.map(read).collect()
    }

    /// Puts other files in place of its own, while it is down.
    pub(crate) fn set_back(&self, files: &[(PathBuf, Vec<u8>)]) {
        fs::remove_dir_all(self.log_directory()).expect("it is ours");
        fs::create_dir(self.log_directory()).expect("it is ours");
        for (path, content) in files {
            fs::write(path, content).expect("it can be written");
        }
    }

    /// A connection to look behind the curtain.
    pub(crate) fn connect(&self) -> redis::Connection {
        redis_at(&self.url())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
