//! The killer of servers: the program that started them, which kills and pauses them too.

use std::{path::PathBuf, process::Command, time::Duration};

use factum_testkit::engines;

/// How long a start may take: a machine that compiles meanwhile has needed three minutes for OpenSearch.
const START_MAX: Duration = Duration::from_mins(6);

/// How long between two tries to start a server.
const AGAIN: Duration = Duration::from_millis(500);

/// The program that started the servers, and where they live.
#[derive(Debug)]
pub(crate) struct Killer {
    program: PathBuf,
    directory: PathBuf,
}

impl Killer {
    /// None, which is then said, where whoever runs this has no servers to be killed: those of all tests are not.
    pub(crate) fn found() -> Option<Self> {
        let told = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
        let program = told("FACTUM_TORTURE_SERVERS");
        let (Some(program), Some(directory)) = (program, told("FACTUM_TORTURE_DIRECTORY")) else {
            engines::skipped(
                "it kills servers, so `cargo xtask torture --engines` starts some for it",
            );
            return None;
        };
        Some(Self { program, directory })
    }

    async fn does(&self, deed: &str, server: &str) -> bool {
        let mut command = Command::new(&self.program);
        let directory = self.directory.as_os_str();
        command.args(["servers", deed, server, "--directory"]);
        command.arg(directory);
        let status = tokio::task::spawn_blocking(move || command.status());
        status.await.unwrap().unwrap().success()
    }

    async fn must(&self, deed: &str, server: &str) {
        assert!(self.does(deed, server).await, "`servers {deed} {server}`");
    }

    /// Kills a server, as a crash of its machine does.
    pub(crate) async fn kill(&self, server: &str) {
        self.must("kill", server).await;
    }

    /// Stops a server in the middle of whatever it does.
    pub(crate) async fn pause(&self, server: &str) {
        self.must("pause", server).await;
    }

    /// Lets a server go on.
    pub(crate) async fn resume(&self, server: &str) {
        self.must("resume", server).await;
    }

    /// Starts a server on what it left.
    pub(crate) async fn start(&self, server: &str) {
        let started = async {
            while !self.does("up", server).await {
                tokio::time::sleep(AGAIN).await;
            }
        };
        let started = tokio::time::timeout(START_MAX, started).await;
        assert!(started.is_ok(), "`{server}` does not start again");
    }
}
