//! A process that outlives the command that started it, known by a file with its id.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// How long a server may take to end when it is asked to.
const STOP_MAX: Duration = Duration::from_secs(30);

/// How often is looked whether something has come about.
const LOOK: Duration = Duration::from_millis(100);

pub(super) struct Process {
    noted: PathBuf,
}

impl Process {
    pub(super) fn noted_in(noted: PathBuf) -> Self {
        Self { noted }
    }

    /// Its id, and that of no other process that got the same id later: when it began is noted with it.
    fn id(&self) -> Option<u32> {
        let noted = fs::read_to_string(&self.noted).ok()?;
        let (id, began) = noted.trim().split_once(' ')?;
        let id = id.parse().ok()?;
        (self::began(id)? == began).then_some(id)
    }

    pub(super) fn is_alive(&self) -> bool {
        self.id().is_some()
    }

    /// Starts it in a group of its own, so that Ctrl-C at the terminal is not meant for it.
    pub(super) fn start(&self, mut command: Command, log: &Path) -> io::Result<()> {
        let log = File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|error| {
                let program = command.get_program().to_string_lossy().into_owned();
                io::Error::other(format!("can't start `{program}`: {error}"))
            })?;
        let id = child.id();
        let began = began(id).unwrap_or_default();
        fs::write(&self.noted, format!("{id} {began}"))
    }

    /// Asks it to end, and ends it if it takes too long. A process that is not there is fine.
    pub(super) fn stop(&self) -> io::Result<()> {
        if let Some(id) = self.id() {
            signal(id, "TERM")?;
            if !wait(|| !self.is_alive(), STOP_MAX) {
                signal(id, "KILL")?;
                wait(|| !self.is_alive(), STOP_MAX);
            }
        }
        match fs::remove_file(&self.noted) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until `condition` holds. `false`: it ended before, or it took too long.
    pub(super) fn wait_until(&self, condition: impl Fn() -> bool, at_most: Duration) -> bool {
        let met = || self.is_alive() && condition();
        wait(|| met() || !self.is_alive(), at_most) && met()
    }
}

fn signal(id: u32, name: &str) -> io::Result<()> {
    super::done(Command::new("kill").args([format!("-{name}"), id.to_string()]))
}

/// When the process began, in the kernel's count; `None`: there is none, or it is over and not yet taken note of.
fn began(id: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name before may hold anything, a parenthesis too.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    (fields.next()? != "Z").then(|| fields.nth(18).map(str::to_owned))?
}

#[expect(
    clippy::disallowed_methods,
    reason = "a chore waits for processes by the real clock"
)]
fn wait(condition: impl Fn() -> bool, at_most: Duration) -> bool {
    let until = Instant::now() + at_most;
    while !condition() {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_started_found_again_and_stopped() {
        let folder = std::env::temp_dir().join(format!("factum-process-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let process = Process::noted_in(folder.join("pid"));
        assert!(!process.is_alive());
        let mut command = Command::new("sh");
        command.args(["-c", "echo ready; sleep 100 & wait"]);
        process.start(command, &folder.join("log")).unwrap();
        let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(process.wait_until(|| log().contains("ready"), Duration::from_secs(20)));
        let again = Process::noted_in(folder.join("pid"));
        assert!(again.is_alive());
        again.stop().unwrap();
        assert!(!process.is_alive());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn another_process_with_the_same_id_is_not_taken_for_it() {
        let folder = std::env::temp_dir().join(format!("factum-reused-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // This very process has the id, and began at another time.
        fs::write(folder.join("pid"), format!("{} 1", std::process::id())).unwrap();
        assert!(!Process::noted_in(folder.join("pid")).is_alive());
        fs::remove_dir_all(folder).unwrap();
    }
}
