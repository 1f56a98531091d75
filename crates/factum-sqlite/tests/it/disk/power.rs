//! Power cuts: acknowledged means on the disk.

use std::{collections::BTreeMap, fs, path::PathBuf};

use super::{
    Dice, Life, Said,
    journal::{self, Disk, Entry},
    judge::{Acked, judge},
    seed,
};
use crate::support::Directory;

/// Enough for the log to be moved into the file and started over more than once.
const BYTES: usize = 12_000;
const COMMITS: &str = "100";

/// A worker's life with a journal of all that it did, and with other settings.
fn live(directory: &Directory, settings: &[(&str, &str)]) -> Vec<Entry> {
    let book = Directory::new();
    let journal = book.path().join("journal");
    let (journal_text, of) = (
        journal.to_string_lossy(),
        directory.path().to_string_lossy(),
    );
    let bytes = BYTES.to_string();
    let mut all = vec![
        ("FACTUM_JOURNAL", &*journal_text),
        ("FACTUM_JOURNAL_OF", &*of),
        ("FACTUM_TEST_BYTES", &*bytes),
        ("FACTUM_TEST_COMMITS", COMMITS),
        ("FACTUM_TEST_CLOSE", "1"),
    ];
    all.extend_from_slice(settings);
    let (said, ended_well) = Life::start(directory.path(), &all).end();
    assert!(
        ended_well && said.last() == Some(&Said::Ended),
        "{:?}",
        said.last()
    );
    journal::read(&journal)
}

/// Cuts the power at `cuts` random moments of a journal, starts from what is left, and gives what is wrong then.
fn cut(entries: &[Entry], cuts: usize, dice: &mut Dice) -> Vec<String> {
    let mut moments: Vec<_> = (0..cuts).map(|_| dice.index(entries.len() + 1)).collect();
    moments.sort_unstable();
    let (mut disk, mut acked, mut wrong) = (Disk::default(), Acked::new(), Vec::new());
    let mut done = 0;
    for moment in moments {
        for entry in &entries[done..moment] {
            match entry {
                Entry::Write(path, _, data) if path.ends_with("acked") => note(&mut acked, data),
                entry => disk.apply(entry),
            }
        }
        done = moment;
        let after = Directory::new();
        for (path, bytes) in place(disk.cut(dice)) {
            fs::write(after.path().join(path), bytes).expect("a file can be written");
        }
        // Other files in another place: all that is accepted is that.
        if let Err(error) = judge(&after.options().moved(), &acked, BYTES) {
            wrong.push(format!(
                "cut before entry {moment} of {}: {error}",
                entries.len()
            ));
        }
    }
    wrong
}

fn place(files: BTreeMap<PathBuf, Vec<u8>>) -> impl Iterator<Item = (PathBuf, Vec<u8>)> {
    let named = |(path, bytes): (PathBuf, Vec<u8>)| Some((path.file_name()?.into(), bytes));
    files.into_iter().filter_map(named)
}

fn note(acked: &mut Acked, line: &[u8]) {
    let line = String::from_utf8_lossy(line);
    let words: Vec<_> = line.split_whitespace().collect();
    let [_, stream, version] = words[..] else {
        panic!("the book has {line:?}")
    };
    acked.insert(stream.into(), version.parse().expect("a version"));
}

/// At whatever moment the power fails, and whatever of the unsynced writes the disk has then: the start succeeds, and
/// every acknowledged event is there.
#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_moment() {
    let mut dice = Dice(seed());
    let directory = Directory::new();
    let entries = live(&directory, &[]);
    let starts_over = entries.iter().filter(|entry| {
        matches!(entry, Entry::Write(path, 0, _) if path.to_string_lossy().ends_with("-wal"))
    });
    assert!(
        starts_over.count() > 1,
        "the log never started over: too little was written"
    );
    let wrong = cut(&entries, 60, &mut dice);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What `synchronous = OFF` does: the log is not synced, and everything is acknowledged all the same.
#[test]
fn a_log_that_is_not_synced_is_found_out_by_a_power_cut() {
    let mut dice = Dice(seed());
    let directory = Directory::new();
    let entries = live(
        &directory,
        &[("FACTUM_FAULTS", "factum.db-wal:sync:1:SKIP:0")],
    );
    // Events are missing that were acknowledged, or the start finds that out itself and says what would be lost.
    let wrong = cut(&entries, 20, &mut dice);
    assert!(wrong.len() > 5, "{wrong:#?}");
}
