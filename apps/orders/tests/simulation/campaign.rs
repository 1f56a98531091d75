//! A campaign: many seeds, each a story of its own, on all cores. It ends with the first one that fails.

use std::{
    collections::BTreeMap,
    io::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use factum_sim::Kind;

use crate::{
    plant::Plant,
    report::report,
    script::Script,
    story::{Failure, Told, tell},
};

/// How many seeds a test run tells at least: together they come to every kind of point.
const SEEDS: u64 = 1_000;

/// And how many commits they have, at least: one story has about 690, so that it takes 1,450 or so.
pub(crate) const COMMITS: u64 = 1_000_000;

/// How often progress is said.
const SAID_EVERY: Duration = Duration::from_secs(2);

/// Which seeds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Campaign {
    /// The first one.
    pub(crate) from: u64,
    /// How many, at least.
    pub(crate) seeds: u64,
    /// As many seeds more as it takes for so many commits.
    pub(crate) commits: u64,
    /// On how many threads.
    pub(crate) threads: usize,
    /// Whether progress is said.
    pub(crate) progress: bool,
    /// What is wrong with the world on purpose.
    pub(crate) plant: Option<Plant>,
}

/// How often it is looked whether all is done.
const LOOKED_EVERY: Duration = Duration::from_millis(50);

/// What all stories came to.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) seeds: u64,
    pub(crate) commits: u64,
    pub(crate) steps: u64,
    pub(crate) readings: usize,
    /// How often owners were kept out that had been followed by others.
    pub(crate) fenced: BTreeMap<String, u64>,
    pub(crate) kinds: BTreeMap<String, Kind>,
    failed: Option<(Script, Failure)>,
}

impl Totals {
    fn add(&mut self, told: Told) {
        self.seeds += 1;
        self.commits += told.commits;
        self.steps += told.steps;
        self.readings += told.readings;
        for (role, times) in told.fenced {
            *self.fenced.entry(role).or_default() += times;
        }
        for (kind, count) in told.kinds {
            let total = self.kinds.entry(kind).or_default();
            total.passed += count.passed;
            total.crashed += count.crashed;
        }
    }
}

impl Campaign {
    /// What each test run tells.
    pub(crate) fn usual() -> Self {
        Self {
            from: 1,
            seeds: SEEDS,
            commits: COMMITS,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            progress: false,
            plant: None,
        }
    }

    /// What `cargo xtask simulate` asks for, in variables: other seeds, so many threads, a plant by its name.
    pub(crate) fn asked_for() -> Option<Self> {
        let text = |what| std::env::var(format!("FACTUM_SIMULATE_{what}")).ok();
        let number = |what, otherwise| match text(what) {
            Some(text) => text.parse().unwrap_or_else(|error| {
                panic!("FACTUM_SIMULATE_{what} is `{text}`, and should be a number: {error}")
            }),
            None => otherwise,
        };
        let usual = Self::usual();
        text("SEEDS")?;
        let plant = text("PLANT").map(|name| {
            Plant::named(&name)
                .unwrap_or_else(|| panic!("unknown plant `{name}` (known: {:?})", Plant::ALL))
        });
        let threads = number("THREADS", usual.threads as u64);
        Some(Self {
            from: number("FROM", usual.from),
            seeds: number("SEEDS", usual.seeds),
            commits: 0,
            threads: usize::try_from(threads).map_or(1, |threads| threads.max(1)),
            progress: true,
            plant,
        })
    }

    /// Tells all stories. The first failure ends it: as text, what failed and its short version.
    pub(crate) fn run(self) -> Result<Totals, String> {
        let totals = Mutex::new(Totals::default());
        let (next, stop) = (AtomicU64::new(self.from), AtomicBool::new(false));
        let commits = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let worker = || {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let enough = commits.load(Ordering::Relaxed) >= self.commits;
                    if seed >= self.from.saturating_add(self.seeds) && enough {
                        break;
                    }
                    let script = Script {
                        plant: self.plant,
                        ..Script::draw(seed)
                    };
                    let told = tell(&script);
                    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                    match told {
                        Ok(told) => {
                            commits.fetch_add(told.commits, Ordering::Relaxed);
                            totals.add(told);
                        }
                        Err(failure) => {
                            stop.store(true, Ordering::Relaxed);
                            let first = totals
                                .failed
                                .as_ref()
                                .is_none_or(|(known, _)| seed < known.seed);
                            if first {
                                totals.failed = Some((script, *failure));
                            }
                        }
                    }
                }
            };
            let workers: Vec<_> = (0..self.threads).map(|_| scope.spawn(worker)).collect();
            self.say(&totals, || {
                workers
                    .iter()
                    .all(std::thread::ScopedJoinHandle::is_finished)
            });
        });
        let mut totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
        match totals.failed.take() {
            None => Ok(totals),
            Some((script, failure)) => Err(report(&script, failure)),
        }
    }

    /// Says how far it has come, until `done`: then in any case.
    fn say(self, totals: &Mutex<Totals>, done: impl Fn() -> bool) {
        let began = now();
        let mut said = began;
        loop {
            let finished = done();
            let due = self.progress && now().duration_since(said) >= SAID_EVERY;
            if due || finished {
                said = now();
                let totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                let line = self.line(&totals, said.duration_since(began));
                // Where it can't be said, it need not be.
                drop(writeln!(std::io::stderr().lock(), "simulate: {line}"));
            }
            if finished {
                return;
            }
            std::thread::park_timeout(LOOKED_EVERY);
        }
    }

    fn line(self, totals: &Totals, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64().max(0.001);
        let per_second = |count: u64| {
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            let count = count as f64;
            count / seconds
        };
        let goal = match self.commits {
            0 => format!("{} seeds", self.seeds),
            commits => format!("{} seeds and {commits} commits", self.seeds),
        };
        format!(
            "{} seeds from {} of {goal}; {:.1} seeds/s; {} commits, {:.0}/s; {} points, {} reads; {seconds:.0} s",
            totals.seeds,
            self.from,
            per_second(totals.seeds),
            totals.commits,
            per_second(totals.commits),
            totals.steps,
            totals.readings,
        )
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how fast stories are told is a matter of real time"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
