//! The rounds: the platform under load is killed, started again on what is left, and looked at.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use fastrand::Rng;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    check::{self, check},
    http::Client,
    ledger::{Answer, Command as LedgerCommand, What},
    load::{Book, Load, SKUS, send},
    process::{Aim, Life, Phase, Process, log},
    seen::Seen,
};

/// How many bytes each partition of a topic keeps: so few that retention has something to drop all the time, and far
/// more than clients ever have on its way.
const RETENTION_BYTES: u64 = 128 * 1024;
/// After how many events a snapshot is kept.
const SNAPSHOT_EVERY: u64 = 5;
/// How many there are of each thing at first.
const STOCK: u64 = 1_000_000_000;
/// How long the load goes on at least and at most before a kill.
const LOAD_MS: std::ops::Range<u64> = 50..1_500;
/// How long an aimed kill waits for its moment; then it comes without one.
const AIM_MAX: Duration = Duration::from_secs(8);
/// How long after its moment an aimed kill comes, in microseconds.
const DELAYS_US: [u64; 5] = [0, 0, 100, 500, 2_000];
/// How often a start is killed in a row. Three deaths of one message in its turn would make it a dead letter.
const STARTS_KILLED_MAX: usize = 2;
/// How long it may take until all is quiet after a death, on a busy machine.
const QUIET_MAX: Duration = Duration::from_mins(3);
const LOOK_EVERY: Duration = Duration::from_millis(30);
/// How many records all services together may have read when they are ready: what was not indexed, not shown and not
/// published yet at the death. The index trails a log by 512 records and a group of commits; projections and relay
/// by what is under way.
pub(crate) const START_RECORDS_MAX: u64 = 5 * 1_024;

/// What a kill is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// Any moment under load.
    Load,
    /// The start after another kill.
    Start,
    /// The middle of something that goes on now and then.
    Phase(Phase),
}

impl Target {
    pub(crate) const ALL: [Self; 6] = [
        Self::Load,
        Self::Phase(Phase::Checkpoint),
        Self::Phase(Phase::Snapshot),
        Self::Phase(Phase::Retention),
        Self::Phase(Phase::Rebuild),
        Self::Start,
    ];
}

/// All projections of the platform.
const PROJECTIONS: [&str; 6] = [
    "users/users",
    "order/orders",
    "order/levels",
    "payment/payments",
    "stock/shelves",
    "notification/notifications",
];

/// A platform under torture.
pub(crate) struct Torture {
    data: TempDir,
    process: Process,
    pub(crate) client: Client,
    pub(crate) book: Book,
    pub(crate) rng: Rng,
    /// How many commands were looked at by a check.
    checked: usize,
    pub(crate) before: Seen,
    /// How often the process died in the middle of what.
    pub(crate) died_in: BTreeMap<Target, u32>,
    pub(crate) kills: u32,
    /// The most records that a start has read.
    pub(crate) start_records: u64,
    /// A rebuild was asked for and may go on after a start, which then reads the whole log.
    rebuilds: bool,
    /// How long the last start took.
    start: Duration,
    /// How long it may take until all is quiet after a death.
    pub(crate) patience: Duration,
    last_lines: Vec<String>,
    /// How long each log was known to be when the process was started.
    known: BTreeMap<String, u64>,
    /// What was wrong with what starts have said.
    wrong: Vec<String>,
    /// The most pages of the write-ahead log that a start has found, and the most records that it has said to have read.
    pub(crate) found: (u64, u64),
}

/// The command that serves the platform on `data`, with all bounds so low that something happens all the time.
pub(crate) fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orders"));
    command
        .args(["--listen", "127.0.0.1:0"])
        .arg("--data")
        .arg(data)
        .args(["--retention-bytes", &RETENTION_BYTES.to_string()])
        .args(["--snapshot-every", &SNAPSHOT_EVERY.to_string()])
        .env_remove("FACTUM_TOKEN")
        .env("RUST_LOG", log())
        .env("NO_COLOR", "1");
    command
}

impl Torture {
    /// A new platform, with full shelves.
    pub(crate) async fn begin(seed: u64) -> Self {
        let data = TempDir::new().unwrap();
        let process = Process::start(command(data.path())).unwrap();
        let mut torture = Self::on(data, process, Book::default(), seed);
        fill(&torture.book);
        torture.settle().await;
        torture
    }

    /// A platform that serves already, and of which clients know what is in `book`.
    pub(crate) fn on(data: TempDir, process: Process, book: Book, seed: u64) -> Self {
        Self {
            client: Client::new(&process.url),
            data,
            process,
            book,
            rng: Rng::with_seed(seed),
            checked: 0,
            before: Seen::default(),
            died_in: BTreeMap::new(),
            kills: 0,
            start_records: 0,
            rebuilds: false,
            start: Duration::from_millis(50),
            patience: QUIET_MAX,
            last_lines: Vec::new(),
            known: BTreeMap::new(),
            wrong: Vec::new(),
            found: (0, 0),
        }
    }

    /// One round: load, death, start, and a look at everything. What is wrong, if anything is.
    pub(crate) async fn round(&mut self, target: Target) -> Vec<String> {
        self.die_under_load(target).await;
        if target == Target::Start {
            for _ in 0..self.rng.usize(1..=STARTS_KILLED_MAX) {
                self.die_while_starting();
            }
        }
        match self.start().await {
            Ok(()) => {}
            Err(wrong) => return vec![wrong],
        }
        self.settle().await;
        self.look().await
    }

    /// Lets clients give commands until the process is killed.
    pub(crate) async fn die_under_load(&mut self, target: Target) {
        let load = Load::begin(&self.client, &self.book, &mut self.rng);
        let millis = Duration::from_millis(self.rng.u64(LOAD_MS));
        tokio::time::sleep(millis).await;
        if let Target::Phase(phase) = target {
            let delay = Duration::from_micros(self.rng.choice(DELAYS_US).unwrap());
            self.process.aim(Aim { phase, delay });
            if phase == Phase::Rebuild {
                self.rebuilds = true;
                let projection = self.rng.choice(PROJECTIONS).unwrap();
                let path = format!("/admin/projections/{projection}/rebuild");
                // It may die before it has answered.
                let why = json!({ "reason": "to die in it" });
                drop(self.client.ask(Method::POST, &path, Some(&why), None).await);
            }
            let died = tokio::time::timeout(AIM_MAX, async {
                while self.process.ended().is_none() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            });
            // If its moment did not come, any will do.
            died.await.unwrap_or_default();
        }
        self.die(target);
        load.end().await;
    }

    /// Kills the process.
    pub(crate) fn die(&mut self, target: Target) {
        let (_, life) = self.process.kill();
        self.hear(&life);
        self.died(target, &life);
    }

    fn die_while_starting(&mut self) {
        let within = self.start.mul_f64(self.rng.f64());
        match Process::start_or_kill(command(self.data.path()), within, None) {
            Err((_, life)) => {
                *self.died_in.entry(Target::Start).or_default() += 1;
                self.died(Target::Start, &life);
            }
            // It was quick, and dies now.
            Ok(mut process) => {
                let (_, life) = process.kill();
                self.hear(&life);
                self.died(Target::Load, &life);
            }
        }
    }

    /// Takes note of what the start of a life that was ready has said.
    fn hear(&mut self, life: &Life) {
        self.wrong.extend(check::start(&life.found, &self.known));
        let (pages, read) = (life.found.pages.unwrap_or_default().0, life.found.read());
        self.found = (self.found.0.max(pages), self.found.1.max(read));
    }

    fn died(&mut self, target: Target, life: &Life) {
        self.kills += 1;
        self.last_lines = life.last_lines.iter().cloned().collect();
        if target == Target::Load {
            *self.died_in.entry(target).or_default() += 1;
        }
        for phase in Phase::ALL {
            if life.died_in(phase) {
                *self.died_in.entry(Target::Phase(phase)).or_default() += 1;
            }
        }
    }

    /// Starts it again on what is left. How much it has read when it is ready is bounded, whatever the log's length.
    pub(crate) async fn start(&mut self) -> Result<(), String> {
        let began = Instant::now();
        let logs = self.before.logs.iter();
        self.known = logs
            .map(|(service, log)| (service.clone(), log.len() as u64))
            .collect();
        self.process = match Process::start(command(self.data.path())) {
            Ok(process) => process,
            Err((status, life)) => {
                let said: Vec<_> = life.last_lines.into();
                return Err(format!("it does not start: {status}: {}", said.join("\n")));
            }
        };
        self.start = began.elapsed();
        self.client = Client::new(&self.process.url);
        let metrics = self.client.ask(Method::GET, "/metrics", None, None).await;
        let read = sum(&metrics.unwrap().text, "factum_store_records_read_total");
        // Whether what was being built is built on, or is finished by now, can't be told from outside.
        if self.rebuilds {
            return Ok(());
        }
        self.start_records = self.start_records.max(read);
        if read > START_RECORDS_MAX {
            return Err(format!(
                "the start has read {read} records, {START_RECORDS_MAX} at most"
            ));
        }
        Ok(())
    }

    /// Gives all commands again that were not answered, as any client would, until they are.
    pub(crate) async fn settle(&mut self) {
        settle(&self.client, &self.book).await;
    }

    /// Waits until all is quiet, and says what is wrong then.
    pub(crate) async fn look(&mut self) -> Vec<String> {
        let mut wrong = std::mem::take(&mut self.wrong);
        let mut last = Value::Null;
        let quiet = tokio::time::timeout(self.patience, async {
            loop {
                last = self.client.get("/invariants").await;
                let standing = last["standing"].as_str().unwrap_or_default();
                // Dead letters do not go away by themselves.
                let held = standing.contains("dead letters") && !self.redrive().await;
                let quiet = last["quiet"] == true && !self.is_building().await;
                if quiet || held {
                    return;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        if quiet.await.is_err() || last["quiet"] != true {
            let parked = self.client.get("/admin/parked").await;
            wrong.push(format!("it does not become quiet: {last} {parked}"));
            return wrong;
        }
        let broken = serde_json::from_value(last["broken"].take()).unwrap();
        let ledger = self.book.lock().unwrap().clone();
        let seen = Seen::by(&self.client, &ledger, self.checked, broken, &mut self.rng).await;
        wrong.extend(check(&ledger, &self.before, &seen));
        self.checked = ledger.0.len();
        self.before = seen;
        self.rebuilds = false;
        wrong
    }

    /// Whether rows are being built anew.
    async fn is_building(&self) -> bool {
        let shown = self.client.get("/admin/projections").await;
        let projections = shown["projections"].as_array().unwrap();
        projections
            .iter()
            .any(|projection| projection.get("rebuilding").is_some())
    }

    /// Redrives dead letters as an operator would, if they all are of an outside that did not answer: the gateway's
    /// line breaks some times in each life, and kills may use up the tries. Others are faults.
    async fn redrive(&self) -> bool {
        let dead = self.client.get("/admin/parked?state=dead&limit=500").await;
        let dead = dead["parked"].as_array().unwrap();
        if dead
            .iter()
            .any(|one| one["failure"]["class"] != "transient")
        {
            return false;
        }
        let why = json!({ "all": true, "reason": "the line holds again" });
        self.client.post("/admin/parked/redrive", &why).await;
        true
    }

    /// Ends it in good order.
    pub(crate) fn stop(&mut self) {
        let (status, life) = self.process.terminate();
        assert!(status.success(), "{status}: {:?}", life.last_lines);
    }

    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// Keeps the data directory, and says where it and the last lines of the log are.
    pub(crate) fn keep(self) -> (PathBuf, Vec<String>) {
        let Self {
            data,
            mut process,
            last_lines,
            ..
        } = self;
        let (_, life) = process.kill();
        let lines = last_lines.into_iter().chain(life.last_lines).collect();
        (data.keep(), lines)
    }

    /// How many records there are in all logs.
    pub(crate) fn records(&self) -> u64 {
        self.before.logs.values().map(|log| log.len() as u64).sum()
    }
}

/// Gives all commands again that were not answered, as any client would, until they are.
pub(crate) async fn settle(client: &Client, book: &Book) {
    let ledger = book.lock().unwrap().clone();
    for (number, command) in ledger.0.iter().enumerate() {
        if command.answer != Answer::Unknown {
            continue;
        }
        let answer = tokio::time::timeout(QUIET_MAX, async {
            loop {
                let answer = send(client, command).await.unwrap();
                if answer != Answer::Unknown {
                    return answer;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        // What is never answered is found by the check.
        let answer = answer.await.unwrap_or(Answer::Unknown);
        book.lock().unwrap().0[number].answer = answer;
    }
}

/// Enters that the shelves are to be filled, with more than will ever be ordered.
pub(crate) fn fill(book: &Book) {
    let receive = |sku: &str| LedgerCommand {
        key: format!("first-{sku}"),
        path: format!("/stock/{sku}/receive"),
        body: json!({ "qty": STOCK }),
        what: What::Receive {
            sku: sku.into(),
            qty: STOCK,
        },
        answer: Answer::Unknown,
    };
    book.lock().unwrap().0.extend(SKUS.map(receive));
}

/// The sum of a metric over all its labels.
fn sum(metrics: &str, name: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    lines
        .map(|line| {
            let value = line.rsplit(' ').next().unwrap();
            value.parse::<u64>().unwrap()
        })
        .sum()
}

/// Copies what is in a data directory into another, as it is.
pub(crate) fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let (name, from) = entry
            .map(|entry| (entry.file_name(), entry.path()))
            .unwrap();
        if from.is_dir() {
            fs::create_dir_all(to.join(&name)).unwrap();
            copy(&from, &to.join(&name));
        } else {
            fs::copy(&from, to.join(&name)).unwrap();
        }
    }
}
