//! The process of the platform, from outside: how it starts, what it says, how it is killed and what it was at.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long a process may take until it says where it is.
const START_MAX: Duration = Duration::from_mins(1);
/// How many of the last lines of a log are kept, to be shown when something was wrong.
const LINES_KEPT: usize = 60;

/// What a process may be at when it is killed. It says in its log when each begins and has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The write-ahead log is moved into the file.
    Checkpoint,
    /// An aggregate's state is kept.
    Snapshot,
    /// Old messages of a topic are dropped.
    Retention,
    /// A projection's rows are built anew.
    Rebuild,
    /// The file is brought to the present schema.
    Migration,
}

impl Phase {
    pub(crate) const ALL: [Self; 5] = [
        Self::Checkpoint,
        Self::Snapshot,
        Self::Retention,
        Self::Rebuild,
        Self::Migration,
    ];

    /// What a line of the log has in it when it begins, and when it has ended.
    fn lines(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Checkpoint => (&["checkpoint begins"], &["checkpoint ended"]),
            Self::Snapshot => (&["snapshot begins"], &["snapshot ended"]),
            Self::Retention => (&["retention of", "begins"], &["retention of", "ended"]),
            Self::Rebuild => (&["is being built"], &["has caught up and is seen"]),
            Self::Migration => (&["migration begins"], &["migration ended"]),
        }
    }

    /// What has to be logged so that these lines are there.
    const LOG: &str = "warn,factum_sqlite::checkpointer=debug,factum_sqlite::broker=debug,\
         factum_sqlite::schema=info,factum::work=debug,factum::projector=info";
}

/// What has to be logged so that a process says what it is at, and at its start what it has found.
pub(crate) fn log() -> String {
    format!(
        "{},factum_sqlite::opening=info,factum_sqlite::sqlite=info",
        Phase::LOG
    )
}

/// What a start has said of what it found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// How many pages of the write-ahead log were whole, and how many were cut; `None`: it said nothing of that.
    pub(crate) pages: Option<(u64, u64)>,
    /// Of the store of each service, up to where its log goes and how many records of it were read.
    pub(crate) stores: BTreeMap<String, (u64, u64)>,
}

impl Found {
    /// Takes a line of the log, if it is one of these.
    fn take(&mut self, line: &str) {
        let number = |name: &str| {
            let rest = line.split_once(&format!("{name}="))?.1;
            let end = rest.find(|letter: char| !letter.is_ascii_digit());
            rest[..end.unwrap_or(rest.len())].parse::<u64>().ok()
        };
        if line.contains(" opened `") {
            let pages = number("wal.pages").zip(number("wal.cut"));
            self.pages = Some(pages.unwrap_or_default());
        }
        let Some((service, rest)) = line
            .split_once("store `")
            .and_then(|(_, rest)| rest.split_once("` goes on behind "))
        else {
            return;
        };
        // An epoch and a position, or 0.
        let head = rest
            .split(':')
            .next()
            .and_then(|head| head.rsplit('-').next());
        let head = head.and_then(|head| head.parse().ok());
        let read = number("start.indexed").zip(number("start.checked"));
        if let (Some(head), Some((indexed, checked))) = (head, read) {
            self.stores
                .insert(service.to_owned(), (head, indexed + checked));
        }
    }

    /// How many records were read in all.
    pub(crate) fn read(&self) -> u64 {
        self.stores.values().map(|(_, read)| read).sum()
    }
}

/// How often a process began with each phase and ended it, what it found at its start, and what it said last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    begun: [u32; Phase::ALL.len()],
    ended: [u32; Phase::ALL.len()],
    /// What its start has said.
    pub(crate) found: Found,
    pub(crate) last_lines: VecDeque<String>,
}

impl Life {
    /// Whether it began with the phase at all.
    pub(crate) fn began(&self, phase: Phase) -> bool {
        self.begun[phase as usize] > 0
    }

    /// Whether it died in the middle of the phase.
    pub(crate) fn died_in(&self, phase: Phase) -> bool {
        self.begun[phase as usize] > self.ended[phase as usize]
    }

    /// Takes a line of the log, and says which phase begins with it.
    fn take(&mut self, line: String) -> Option<Phase> {
        let has = |words: &[&str]| words.iter().all(|word| line.contains(word));
        let mut begun = None;
        for phase in Phase::ALL {
            let (begins, ends) = phase.lines();
            if has(begins) {
                self.begun[phase as usize] += 1;
                begun = Some(phase);
            } else if has(ends) {
                self.ended[phase as usize] += 1;
            }
        }
        self.found.take(&line);
        self.last_lines.push_back(line);
        if self.last_lines.len() > LINES_KEPT {
            self.last_lines.pop_front();
        }
        begun
    }
}

/// A kill that waits for its moment: so long after the next begin of a phase.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aim {
    pub(crate) phase: Phase,
    pub(crate) delay: Duration,
}

/// A process that serves the platform. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Arc<Mutex<Child>>,
    aim: Arc<Mutex<Option<Aim>>>,
    log: Option<JoinHandle<Life>>,
    pub(crate) url: String,
}

impl Process {
    /// Starts `command`, and waits until it says its URL; if it ends before that, how, and what its log says.
    pub(crate) fn start(command: Command) -> Result<Self, (ExitStatus, Life)> {
        Self::start_or_kill(command, START_MAX, None)
    }

    /// As [`start`](Self::start), but killed when it has not said its URL `within` that time, or by `aim`.
    pub(crate) fn start_or_kill(
        mut command: Command,
        within: Duration,
        aim: Option<Aim>,
    ) -> Result<Self, (ExitStatus, Life)> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = urls(BufReader::new(child.stdout.take().unwrap()));
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (child, aim) = (Arc::new(Mutex::new(child)), Arc::new(Mutex::new(aim)));
        let log = std::thread::spawn({
            let (child, aim) = (child.clone(), aim.clone());
            move || follow(errors, &child, &aim)
        });
        let mut process = Self {
            child,
            aim,
            log: Some(log),
            url: String::new(),
        };
        match said.recv_timeout(within) {
            Ok(url) => {
                process.url = url;
                Ok(process)
            }
            Err(RecvTimeoutError::Timeout) => Err(process.kill()),
            // Its output has ended, and so will it.
            Err(RecvTimeoutError::Disconnected) => Err(process.end()),
        }
    }

    /// Lets it be killed at a moment of its own log.
    pub(crate) fn aim(&self, aim: Aim) {
        *self.aim.lock().unwrap() = Some(aim);
    }

    /// Kills it, as `kill -9` does, if it has not died already.
    pub(crate) fn kill(&mut self) -> (ExitStatus, Life) {
        self.child.lock().unwrap().kill().unwrap_or_default();
        self.end()
    }

    /// Asks it to end in good order, and waits until it has.
    pub(crate) fn terminate(&mut self) -> (ExitStatus, Life) {
        let id = self.child.lock().unwrap().id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status();
        assert!(asked.unwrap().success());
        self.end()
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.lock().unwrap().try_wait().unwrap()
    }

    /// Waits until it has ended. Its log ends with it, and holds nobody's lock until then.
    fn end(&mut self) -> (ExitStatus, Life) {
        let life = self.log.take().map(|log| log.join().unwrap());
        let status = self.child.lock().unwrap().wait().unwrap();
        (status, life.unwrap_or_default())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.log.is_some() {
            self.kill();
        }
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

/// Reads the log to its end, and kills the process when its moment has come.
fn follow(log: BufReader<impl Read>, child: &Mutex<Child>, aim: &Mutex<Option<Aim>>) -> Life {
    let mut life = Life::default();
    for line in log.lines().map_while(Result::ok) {
        let Some(begun) = life.take(line) else {
            continue;
        };
        let mut aim = aim.lock().unwrap();
        if let Some(Aim { delay, .. }) = aim.take_if(|aim| aim.phase == begun) {
            spin(delay);
            // It may have died already.
            child.lock().unwrap().kill().unwrap_or_default();
        }
    }
    life
}

/// Waits for so short a time that no timer would do.
#[expect(
    clippy::disallowed_methods,
    reason = "the moment of a kill is what is random here"
)]
fn spin(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}
