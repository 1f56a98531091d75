//! The process of the platform, from outside: how it starts, what it says, and how it ends.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    time::Duration,
};

/// How long a process may take until it says where it is.
const START_MAX: Duration = Duration::from_mins(1);

/// A process that serves the platform. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
}

impl Process {
    /// Starts `command`, and waits until it says its URL; if it ends before that, how.
    pub(crate) fn start(mut command: Command) -> Result<Self, ExitStatus> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = urls(BufReader::new(child.stdout.take().unwrap()));
        let mut process = Self {
            child,
            url: String::new(),
        };
        match said.recv_timeout(START_MAX) {
            Ok(url) => {
                process.url = url;
                Ok(process)
            }
            // Its output has ended, and so will it.
            Err(_) => Err(process.wait()),
        }
    }

    /// Kills it, as `kill -9` does.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        // It may have died by itself.
        self.child.kill().unwrap_or_default();
        self.wait()
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The first URL in what is said. All else is read too: a full pipe would stop the process.
fn urls(out: impl BufRead + Send + 'static) -> Receiver<String> {
    let (say, said) = sync_channel(1);
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            let url = line
                .split_whitespace()
                .find(|word| word.starts_with("http://"));
            if let Some(url) = url {
                // Nobody listens any more once the first was said.
                drop(say.try_send(url.trim_end_matches(',').to_owned()));
            }
        }
    });
    said
}
