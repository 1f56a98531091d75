//! `kill -9`, again and again: nothing acknowledged is lost, nothing is done twice, and every start is quick.

use crate::{
    process::Phase,
    rounds::{START_RECORDS_MAX, Target, Torture},
};

/// How many rounds there are, unless `FACTUM_TORTURE_ROUNDS` says it.
const ROUNDS: u32 = 20;

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse().ok();
    assert!(number.is_some(), "{variable} is not a number: {text:?}");
    number
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::disallowed_methods,
    reason = "the seed itself, which is printed"
)]
async fn nothing_acknowledged_is_lost_or_doubled_by_kills_at_any_moment() {
    let rounds = number("FACTUM_TORTURE_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("FACTUM_TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}");
    let mut torture = Torture::begin(seed).await;
    let mut missed: Vec<Target> = Target::ALL.into();
    let mut round = 0;
    // After the last round kills go on until each kind of moment was hit: a moment may pass before the signal comes.
    while round < rounds || !missed.is_empty() {
        assert!(round < 3 * rounds + 20, "no kill fell into {missed:?}");
        let target = match missed.first() {
            Some(missed) if round >= rounds => *missed,
            _ => Target::ALL[round as usize % Target::ALL.len()],
        };
        let wrong = torture.round(target).await;
        round += 1;
        missed.retain(|target| !torture.died_in.contains_key(target));
        if !wrong.is_empty() {
            let commands = torture.book.lock().unwrap().0.len();
            let (data, lines) = torture.keep();
            panic!(
                "seed {seed}, round {round} ({target:?}), {commands} commands, data in {}:\n{}\n\nthe last lines:\n{}",
                data.display(),
                wrong.join("\n"),
                lines.join("\n")
            );
        }
        eprintln!(
            "round {round} of {rounds}: {target:?}; {} commands acknowledged, {} records, {} read at a start at most, \
             {:?} pages and records found by one, died in {:?}",
            torture.book.lock().unwrap().0.len(),
            torture.records(),
            torture.start_records,
            torture.found,
            torture.died_in
        );
    }
    assert!(torture.kills >= rounds);
    // The bound shows something only when there is more to read.
    if rounds >= ROUNDS {
        assert!(
            torture.records() > START_RECORDS_MAX,
            "{}",
            torture.records()
        );
    }
    // Starts have found what kills left, and have said so.
    let (pages, read) = torture.found;
    assert!(pages > 0 && read > 0, "{:?}", torture.found);
    assert!(read <= START_RECORDS_MAX, "{:?}", torture.found);
    assert!(
        !torture
            .died_in
            .contains_key(&Target::Phase(Phase::Migration))
    );
    torture.stop();
}
