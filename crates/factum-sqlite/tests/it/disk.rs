//! A disk that fails: the real store in a process of its own, with a library preloaded that breaks calls or writes
//! down what reaches the disk. `tests/faults/faults.c` says how.

mod damage;
mod failing;
mod journal;
mod judge;
mod power;
mod worker;

use std::{
    io::{BufRead as _, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

/// The preloaded library, built once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = LIBRARY.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let path = directory.path().join("libfaults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/faults.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&path)
            .arg(source)
            .args(["-ldl", "-lpthread"])
            .status();
        assert!(
            built.is_ok_and(|status| status.success()),
            "`cc` builds the library"
        );
        (directory, path)
    });
    path
}

/// What a worker says in a line.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// An event was acknowledged: its stream and version.
    Acked(String, u64),
    /// Something failed: the error's class and text.
    Failed(String, String),
    /// It has nothing more to do.
    Ended,
}

/// A worker's life, killed when a test fails.
struct Life {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Life {
    /// Starts a worker on `directory`, with these settings besides.
    fn start(directory: &Path, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("a test has a program"));
        command
            .args([
                "disk::worker::works_where_it_is_told_to",
                "--exact",
                "--nocapture",
            ])
            .env("FACTUM_TEST_WORK", directory)
            .env("LD_PRELOAD", library())
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        for (name, value) in settings {
            command.env(name, value);
        }
        let mut child = command.spawn().expect("a worker starts");
        let out = child.stdout.take().expect("it was piped");
        Self {
            child,
            lines: BufReader::new(out).lines(),
        }
    }

    /// What it says next; `None` when it has gone.
    fn next(&mut self) -> Option<Said> {
        loop {
            let line = self.lines.next()?.expect("a worker speaks plainly");
            let mut words = line.splitn(3, ' ');
            let mut word = || words.next().unwrap_or_default().to_owned();
            let (first, second, third) = (word(), word(), word());
            // Whatever else there is comes from the test runner.
            match &*first {
                "acked" => return Some(Said::Acked(second, third.parse().expect("a version"))),
                "failed" => return Some(Said::Failed(second, third)),
                "ended" => return Some(Said::Ended),
                _ => {}
            }
        }
    }

    /// Everything up to its end.
    fn rest(&mut self) -> Vec<Said> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Kills it, and gives what it said before.
    fn kill(mut self) -> Vec<Said> {
        self.child.kill().expect("it can be killed");
        self.rest()
    }

    /// Waits for its end, which must be near.
    fn has_ended_well(&mut self) -> bool {
        self.child.wait().expect("it was started").success()
    }

    /// Waits for its end, and says whether it ended well.
    fn end(mut self) -> (Vec<Said>, bool) {
        let said = self.rest();
        let ended_well = self.has_ended_well();
        (said, ended_well)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// The seed of a run that is given none.
const SEED: u64 = 7;

/// What a run draws from: `FACTUM_TEST_SEED`, or always the same, so that a change is judged by what it changes. Whoever
/// looks for more gives other seeds, and more rounds.
#[expect(clippy::print_stderr, reason = "whoever repeats a run needs its seed")]
fn seed() -> u64 {
    let told = std::env::var("FACTUM_TEST_SEED").ok();
    let seed = told.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(SEED);
    eprintln!("FACTUM_TEST_SEED={seed}");
    seed
}

/// Chance from a seed.
struct Dice(u64);

impl Dice {
    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("it is below a length")
    }
}
