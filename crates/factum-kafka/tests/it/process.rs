//! A process of a test's own, to be stopped, woken and killed: this very program, with one test as its body.

use std::{
    env,
    process::{Child, Command, Stdio},
};

/// What tells a test that it is the body of such a process, and what it is to do.
const PART: &str = "FACTUM_TEST_PART";

/// What this process is to do as the body of another's test; `None` in a process of its own.
pub(crate) fn part() -> Option<Vec<String>> {
    let part = env::var(PART).ok()?;
    Some(part.split(' ').map(str::to_owned).collect())
}

/// A process that runs until this is dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts one whose body is the test `body`, to do what `part` says.
    pub(crate) fn start(body: &str, part: &[&str]) -> Self {
        let program = env::current_exe().expect("this program has a path");
        let child = Command::new(program)
            .args([body, "--exact", "--test-threads=1"])
            .env(PART, part.join(" "))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("it starts"))
    }

    /// Sends it a signal (`STOP`, `CONT`, `KILL`).
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args(["-s", signal, &self.0.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits until it has ended well.
    pub(crate) fn wait(mut self) {
        assert!(self.0.wait().expect("it ends").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
