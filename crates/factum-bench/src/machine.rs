//! The machine that the figures are of.

use std::{fmt, fs, io::Write as _, path::Path, process::Command, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use crate::{
    failure::Failure,
    times::{Times, millis},
};

/// How many times a small block is written and synced to learn what a sync costs.
const SYNCS: usize = 200;

/// The machine, its disk, and the code that runs on it.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_mb: u64,
    system: String,
    /// What 4 KiB at the end of a file and an fdatasync take: median and 99th percentile.
    sync_ms_p50: f64,
    sync_ms_p99: f64,
    commit: String,
    optimised: bool,
}

impl Machine {
    /// Looks around, and measures what a sync costs in `directory`.
    pub(crate) fn look(directory: &Path) -> Result<Self, Failure> {
        let syncs = syncs(directory)
            .map_err(|error| Failure::while_("measuring the disk's sync", error))?;
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kilobytes: Option<u64> = after(&memory, "MemTotal:")
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        Ok(Self {
            cpu: after(&cpu, "model name").map_or_else(
                || std::env::consts::ARCH.into(),
                |name| name.trim_start_matches([' ', '\t', ':']).to_owned(),
            ),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            memory_mb: kilobytes.unwrap_or_default() / 1_024,
            system: output("uname", &["-sr"]).unwrap_or_else(|| std::env::consts::OS.into()),
            sync_ms_p50: millis(syncs.percentile(50)),
            sync_ms_p99: millis(syncs.percentile(99)),
            commit: commit(),
            optimised: !cfg!(debug_assertions),
        })
    }
}

fn syncs(directory: &Path) -> std::io::Result<Times> {
    let path = directory.join("sync");
    let mut file = fs::File::create(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let started = Instant::now();
        file.write_all(&[7; 4_096])?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    drop(file);
    fs::remove_file(path)?;
    Ok(Times::of(times))
}

fn commit() -> String {
    let Some(commit) = output("git", &["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".into();
    };
    match output("git", &["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit}, changed"),
    }
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The rest of the line that begins with `name`.
fn after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

/// The memory of this process that the system holds, in megabytes.
pub(crate) fn resident_mb() -> f64 {
    status_mb("VmRSS:")
}

/// The most that it ever was since [`forget_peak`], in megabytes.
pub(crate) fn peak_mb() -> f64 {
    status_mb("VmHWM:")
}

/// The processor time that this process has used, where the system says.
pub(crate) fn processor_time() -> Option<Duration> {
    /// Clock ticks are hundredths of a second wherever Linux runs programs of users.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in parentheses, may hold anything; what follows it begins with the third field.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u32>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some(TICK * (user + system))
}

/// Lets the peak begin anew, where the system can.
pub(crate) fn forget_peak() {
    if fs::write("/proc/self/clear_refs", "5").is_err() {
        // The peak then includes what ran before.
    }
}

fn status_mb(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes: Option<f64> =
        after(&status, name).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kilobytes.unwrap_or_default() / 1_024.0
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}, {} cores, {} MB, {}",
            self.cpu, self.cores, self.memory_mb, self.system
        )?;
        writeln!(
            f,
            "4 KiB and fdatasync: p50 {:.3} ms, p99 {:.3} ms",
            self.sync_ms_p50, self.sync_ms_p99
        )?;
        write!(f, "commit {}", self.commit)?;
        if !self.optimised {
            write!(f, " — NOT OPTIMISED: build with --release")?;
        }
        Ok(())
    }
}

/// How long something may take before the benchmark gives up.
pub(crate) const PATIENCE: Duration = Duration::from_mins(5);
