//! Processes: 64 clients on one store, shared out to one, two and four processes of the same service.
//!
//! The processes are this program again. Each says when it is ready, begins when it is told to, and says what its clients came to.

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::Measuring;
use crate::{
    cli::Process,
    engines,
    failure::Failure,
    figures::{Aim, Figure, Unit},
    subject::{OnPostgres, Ours, Subject as _, World},
    times::millis,
};

const MEASURE: &str = "processes on one store, 64 clients";
const CLIENTS: usize = 64;

/// How many processes, and what share of one process's rate they should reach, in percent.
const PROCESSES: [(usize, &str, Option<f64>); 3] = [
    (1, "1 process", None),
    (2, "2 processes", Some(85.0)),
    (4, "4 processes", Some(45.0)),
];

/// What the clients of one process came to.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    rate: f64,
    p99_ms: f64,
}

/// Takes the figures. The numbers of processes take turns within each round.
pub(super) async fn measure(run: &mut Measuring<'_>, world: &World) -> Result<(), Failure> {
    if !run.wants(MEASURE) {
        return Ok(());
    }
    let mut rates = vec![Vec::new(); PROCESSES.len()];
    let mut tails = vec![Vec::new(); PROCESSES.len()];
    for round in run.rounds() {
        for (index, (processes, name, _)) in PROCESSES.into_iter().enumerate() {
            run.say(format!("{MEASURE}: {name}, round {round}"));
            let directory = run.directory()?;
            let told = together(&directory, processes, run.window()).await?;
            world.backend.remove(&directory).await?;
            rates[index].push(told.iter().map(|told| told.rate).sum());
            tails[index].push(told.iter().map(|told| told.p99_ms).fold(0.0, f64::max));
        }
    }
    for (index, (_, name, aim)) in PROCESSES.into_iter().enumerate() {
        run.add(Figure::of(
            MEASURE,
            format!("{name}, commands"),
            Unit::PerSecond,
            rates[index].clone(),
        ));
        let tails = std::mem::take(&mut tails[index]);
        run.add(Figure::of(
            MEASURE,
            format!("{name}, p99"),
            Unit::Millis,
            tails,
        ));
        if let Some(aim) = aim {
            // Of each round by itself: what disturbed a round has disturbed all.
            let pairs = rates[index].iter().zip(&rates[0]);
            let shares = pairs.map(|(many, one)| 100.0 * many / one).collect();
            let name = format!("{name} / {}", PROCESSES[0].1);
            run.add(Figure::of(MEASURE, name, Unit::Percent, shares).aim(Aim::AtLeast(aim)));
        }
    }
    Ok(())
}

/// Lets so many processes run together, and hears what each came to.
async fn together(
    directory: &Path,
    processes: usize,
    window: Duration,
) -> Result<Vec<Told>, Failure> {
    let mut started = Vec::new();
    for _ in 0..processes {
        started.push(Started::one(directory, CLIENTS / processes, window).await?);
    }
    for process in &mut started {
        process.begin().await?;
    }
    let mut told = Vec::new();
    for process in started {
        told.push(process.told().await?);
    }
    Ok(told)
}

/// A process that is ready. Dropping it ends it.
struct Started {
    child: Child,
    hears: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Started {
    async fn one(directory: &Path, clients: usize, window: Duration) -> Result<Self, Failure> {
        let starting = |error| Failure::while_("starting a process", error);
        let program = std::env::current_exe().map_err(starting)?;
        let mut child = Command::new(program)
            .arg("process")
            .arg("--directory")
            .arg(directory)
            .arg("--clients")
            .arg(clients.to_string())
            .arg("--window-ms")
            .arg(window.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(starting)?;
        let (hears, says) = (child.stdin.take(), child.stdout.take());
        let mut process = Self {
            child,
            hears: hears.expect("it was piped"),
            says: BufReader::new(says.expect("it was piped")),
        };
        let mut ready = String::new();
        let read = process.says.read_line(&mut ready).await;
        read.map_err(|error| Failure::while_("hearing a process", error))?;
        if ready.trim() != "ready" {
            return Err(Failure::new("a process did not get ready"));
        }
        Ok(process)
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        let told = self.hears.write_all(b"begin\n").await;
        told.map_err(|error| Failure::while_("telling a process to begin", error))
    }

    async fn told(mut self) -> Result<Told, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::while_("hearing a process", error);
        let mut text = String::new();
        let read = self.says.read_to_string(&mut text).await;
        read.map_err(|error| failed(&error))?;
        self.child.wait().await.map_err(|error| failed(&error))?;
        serde_json::from_str(&text).map_err(|error| failed(&error))
    }
}

/// Is one of the processes.
pub(crate) async fn be_one(process: &Process) -> Result<(), Failure> {
    let ours = Ours(Arc::new(OnPostgres(engines::postgres()?)));
    let opened = ours.open(&process.directory).await?;
    crate::say("ready")?;
    let hearing = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    hearing
        .await
        .map_err(std::io::Error::other)
        .flatten()
        .map_err(|error| Failure::while_("waiting for a word to begin", error))?;
    let window = Duration::from_millis(process.window_ms);
    let loaded = opened.for_a_while(process.clients, window).await?;
    opened.close().await;
    let told = Told {
        rate: loaded.rate,
        p99_ms: millis(loaded.times.percentile(99)),
    };
    let told = serde_json::to_string(&told)
        .map_err(|error| Failure::while_("writing what came of it", error))?;
    crate::say(&told)
}
