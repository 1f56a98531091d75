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
            // Who is paused would hear of it later.
            self.resume()?;
            signal("TERM", &[id])?;
            if !wait(|| !self.is_alive(), STOP_MAX) {
                self.kill()?;
            }
        }
        match fs::remove_file(&self.noted) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Kills it and all that it has forked, as a crash of their machine does. A process that is not there is fine.
    pub(super) fn kill(&self) -> io::Result<()> {
        let Some(id) = self.id() else { return Ok(()) };
        // One that is paused forks nothing any more, and does nothing about the death of what it has forked.
        self.pause()?;
        let all = with_descendants(id);
        signal("KILL", &all)?;
        wait(|| all.iter().all(|id| began(*id).is_none()), STOP_MAX);
        Ok(())
    }

    /// Stops it and all that it has forked, wherever they are. A process that is not there is fine.
    pub(super) fn pause(&self) -> io::Result<()> {
        let Some(id) = self.id() else { return Ok(()) };
        // First itself, so that it forks nothing unseen.
        signal("STOP", &[id])?;
        signal("STOP", &with_descendants(id))
    }

    /// Lets it and all that it has forked go on.
    pub(super) fn resume(&self) -> io::Result<()> {
        let Some(id) = self.id() else { return Ok(()) };
        signal("CONT", &with_descendants(id))
    }

    /// Waits until `condition` holds. `false`: it ended before, or it took too long.
    pub(super) fn wait_until(&self, condition: impl Fn() -> bool, at_most: Duration) -> bool {
        let met = || self.is_alive() && condition();
        wait(|| met() || !self.is_alive(), at_most) && met()
    }
}

/// Sends a signal to processes, of which some may be gone meanwhile.
fn signal(name: &str, ids: &[u32]) -> io::Result<()> {
    let send = |ids: &[u32]| {
        let ids = ids.iter().map(u32::to_string);
        super::done(Command::new("kill").arg(format!("-{name}")).args(ids))
    };
    if send(ids).is_ok() {
        return Ok(());
    }
    // All but those that are gone have got it. To get it again does nothing to them.
    let left = ids.iter().filter(|id| began(**id).is_some());
    left.copied().try_for_each(|id| match send(&[id]) {
        Err(error) if began(id).is_some() => Err(error),
        _ => Ok(()),
    })
}

/// What the kernel says of a process behind its name; `None`: there is none, or it is over and not yet taken note of.
fn stat(id: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name before may hold anything, a parenthesis too.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = fields.split(' ').map(str::to_owned).collect();
    (fields.first()? != "Z").then_some(fields)
}

/// When the process began, in the kernel's count.
fn began(id: u32) -> Option<String> {
    stat(id)?.get(19).cloned()
}

/// The process, those that it has forked, and those that they have.
fn with_descendants(id: u32) -> Vec<u32> {
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok());
    let parents: Vec<(u32, u32)> = ids
        .filter_map(|id| Some((id, stat(id)?.get(1)?.parse().ok()?)))
        .collect();
    let mut found = vec![id];
    let mut looked = 0;
    while let Some(parent) = found.get(looked).copied() {
        looked += 1;
        let children = parents.iter().filter(|(_, of)| *of == parent);
        found.extend(children.map(|(child, _)| *child));
    }
    found
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
    fn what_a_process_has_forked_is_paused_and_killed_with_it() {
        let folder = std::env::temp_dir().join(format!("factum-forks-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let process = Process::noted_in(folder.join("pid"));
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "setsid sleep 100 & setsid sleep 100 & echo ready; wait",
        ]);
        process.start(command, &folder.join("log")).unwrap();
        let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        let forked = || with_descendants(process.id().unwrap());
        assert!(process.wait_until(
            || log().contains("ready") && forked().len() == 3,
            Duration::from_secs(20)
        ));
        let forked = forked();
        let all_paused = |paused: bool| {
            let is = |id: &u32| stat(*id).is_some_and(|stat| (stat[0] == "T") == paused);
            wait(|| forked.iter().all(is), Duration::from_secs(20))
        };
        process.pause().unwrap();
        assert!(all_paused(true), "{forked:?} are paused");
        process.resume().unwrap();
        assert!(all_paused(false), "{forked:?} go on");
        process.kill().unwrap();
        assert!(!process.is_alive());
        assert_eq!(forked.iter().find_map(|id| stat(*id)), None);
        // To do it to nobody is fine.
        for deed in [
            Process::kill,
            Process::pause,
            Process::resume,
            Process::stop,
        ] {
            deed(&process).unwrap();
        }
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
