//! Calls that fail: full disks, broken writes, and syncs that nobody may try again.

use std::fs;

use super::{
    Dice, Life, Said,
    judge::{Acked, add, judge},
    seed,
};
use crate::support::Directory;

const BYTES: usize = 300;

/// The names of the faults' log, in order: `sync factum.db-wal ok`.
fn log(directory: &Directory) -> Vec<String> {
    let log = fs::read_to_string(directory.path().join("faults.log")).unwrap_or_default();
    log.lines().map(String::from).collect()
}

/// What is synced after a sync has failed.
fn synced_after_failure(log: &[String]) -> Vec<String> {
    let is_failed = |line: &&String| line.starts_with("sync") && line.ends_with("EIO");
    let failed = log.iter().position(|line| is_failed(&line));
    let after = failed.map_or(0, |failed| failed + 1);
    let syncs = log[after..].iter().filter(|line| line.starts_with("sync"));
    syncs.cloned().collect()
}

fn faults_log(directory: &Directory) -> String {
    directory
        .path()
        .join("faults.log")
        .to_string_lossy()
        .into_owned()
}

/// The sync fails once, and every later one would succeed: they are not to be believed, and not to be tried.
#[test]
fn after_a_failed_sync_nothing_is_synced_again_and_every_commit_is_told() {
    let mut dice = Dice(seed());
    for file in ["factum.db-wal", "factum.db-wal", "/factum.db"] {
        let directory = Directory::new();
        // The first syncs of both files are those of making them.
        let rule = format!(
            "{file}:sync:{}:EIO:1",
            if file == "/factum.db" {
                4
            } else {
                8 + dice.below(40)
            }
        );
        let settings = [
            ("FACTUM_FAULTS", &*rule),
            ("FACTUM_FAULTS_LOG", &*faults_log(&directory)),
            ("FACTUM_TEST_COMMITS", "4000"),
            ("FACTUM_TEST_BYTES", "3000"),
            ("FACTUM_TEST_CLOSE", "1"),
        ];
        let (said, ended_well) = Life::start(directory.path(), &settings).end();
        assert!(ended_well, "{rule}: {:?}", said.last());
        let failed: Vec<_> = said
            .iter()
            .filter_map(|said| match said {
                Said::Failed(class, text) => Some((class, text)),
                _ => None,
            })
            .collect();
        // Each stream's commit is told, those of the group and those that came after it.
        assert!(failed.len() >= 8, "{rule}: {failed:?}");
        for (class, text) in failed {
            assert_eq!(class, "fatal", "{rule}: {text}");
            assert!(
                text.contains("did not confirm a sync") || text.contains("the writer has ended"),
                "{rule}: {text}"
            );
        }
        let log = log(&directory);
        assert!(
            log.iter().any(|line| line.ends_with("EIO")),
            "{rule}: no sync has failed"
        );
        let again = synced_after_failure(&log);
        // While the file's sync fails in its own thread, the writer may be on its way into one of the log.
        let under_way = usize::from(file == "/factum.db");
        assert!(again.len() <= under_way, "{rule}: {again:?}");
        let mut acked = Acked::new();
        add(&mut acked, &said);
        judge(&directory.options(), &acked, 3_000)
            .unwrap_or_else(|error| panic!("{rule}: {error}"));
    }
}

/// The fault that the test above must find.
#[test]
fn one_who_syncs_again_is_found_out() {
    let directory = Directory::new();
    let settings = [
        ("FACTUM_FAULTS", "factum.db-wal:sync:8:EIO:1"),
        ("FACTUM_FAULTS_LOG", &*faults_log(&directory)),
        ("FACTUM_TEST_PLAIN", "1"),
    ];
    let (said, _) = Life::start(directory.path(), &settings).end();
    assert_eq!(said.last(), Some(&Said::Ended));
    assert!(!synced_after_failure(&log(&directory)).is_empty());
}

/// The disk is full somewhere, in the log or in the file, for a while: commits fail as transient, nothing is lost, and
/// all goes on by itself when there is room.
#[test]
fn a_full_disk_is_waited_out() {
    let mut dice = Dice(seed());
    for round in 0..6 {
        let directory = Directory::new();
        let file = ["factum.db-wal", "/factum.db"][round % 2];
        let bytes = 200_000 + dice.below(3_000_000);
        let rule = format!("{file}:bytes:{bytes}:ENOSPC:0");
        let full = directory.path().join("full");
        fs::write(&full, "").expect("a file can be written");
        let full_text = full.to_string_lossy();
        let settings = [
            ("FACTUM_FAULTS", &*rule),
            ("FACTUM_FAULTS_WHILE", &*full_text),
            ("FACTUM_FAULTS_LOG", &*faults_log(&directory)),
            ("FACTUM_TEST_BYTES", "3000"),
        ];
        let mut life = Life::start(directory.path(), &settings);
        let (mut acked, mut after) = (Acked::new(), 0);
        let mut was_full = false;
        while after < 100 {
            let said = life
                .next()
                .unwrap_or_else(|| panic!("{rule}: the worker has ended"));
            match &said {
                Said::Failed(class, text) => {
                    assert_eq!(class, "transient", "{rule}: {text}");
                    assert!(text.contains("disk is full"), "{rule}: {text}");
                }
                Said::Acked(..) if was_full => after += 1,
                _ => {}
            }
            // A file that can't grow holds up nobody, as long as the log can.
            if !was_full && log(&directory).iter().any(|line| line.ends_with("ENOSPC")) {
                was_full = true;
                fs::remove_file(&full).expect("it was there");
            }
            add(&mut acked, &[said]);
        }
        add(&mut acked, &life.kill());
        judge(&directory.options(), &acked, 3_000)
            .unwrap_or_else(|error| panic!("{rule}: {error}"));
    }
}

/// Whatever call fails, once or for good, and wherever: what was acknowledged is there after a start.
/// What a run has acknowledged, and the directory that it has left.
fn run_of_100() -> (Directory, Acked) {
    let directory = Directory::new();
    let mut life = Life::start(directory.path(), &[("FACTUM_TEST_COMMITS", "100")]);
    let mut acked = Acked::new();
    while let Some(said) = life.next() {
        add(&mut acked, &[said]);
    }
    assert!(life.has_ended_well());
    (directory, acked)
}

/// Each of these is what a disk that lies may leave: of a write that was acknowledged, all or a part is not there. What
/// lies further back than the last records is not looked at by a start, but by whoever reads.
#[test]
fn an_acknowledged_write_that_was_dropped_is_noticed() {
    for dropped in [
        "DELETE FROM records WHERE key = (SELECT max(key) FROM records)",
        "DELETE FROM records WHERE key = (SELECT max(key) - 600 FROM records)",
        "DELETE FROM stream_events WHERE record = (SELECT max(record) - 600 FROM stream_events)",
        "UPDATE records SET data = substr(data, 2) WHERE key = (SELECT max(key) - 600 FROM records)",
    ] {
        let (directory, acked) = run_of_100();
        judge(&directory.options(), &acked, BYTES).expect("all is there");
        let file = rusqlite::Connection::open(directory.file()).expect("it is a SQLite file");
        let changed = file.execute(dropped, []).expect("the statement is right");
        assert_eq!(changed, 1, "{dropped}");
        drop(file);
        let noticed = judge(&directory.options(), &acked, BYTES);
        assert!(noticed.is_err(), "{dropped}: {noticed:?}");
    }
}

#[test]
fn whatever_call_fails_nothing_acknowledged_is_lost() {
    let mut dice = Dice(seed());
    let mut hits = 0;
    for round in 0..24 {
        let directory = Directory::new();
        let files = [
            "factum.db-wal",
            "/factum.db",
            "factum.db-shm",
            "factum.witness",
        ];
        let file = files[dice.index(files.len())];
        let call = ["write", "write", "truncate", "sync"][dice.index(4)];
        let fault = match call {
            "write" => ["EIO", "ENOSPC", "SHORT"][dice.index(3)],
            _ => ["EIO", "ENOSPC"][dice.index(2)],
        };
        let first = 1 + dice.below([3, 12, 60, 300][round % 4]);
        let rule = format!("{file}:{call}:{first}:{fault}:{}", dice.below(3));
        let settings = [
            ("FACTUM_FAULTS", &*rule),
            ("FACTUM_FAULTS_LOG", &*faults_log(&directory)),
            ("FACTUM_TEST_COMMITS", "100"),
        ];
        let mut life = Life::start(directory.path(), &settings);
        let (mut acked, mut failures) = (Acked::new(), 0);
        // A disk that stays full is given up after some tries.
        while failures < 50 {
            let Some(said) = life.next() else {
                assert!(life.has_ended_well(), "{rule}: the worker has panicked");
                break;
            };
            failures += usize::from(matches!(said, Said::Failed(..)));
            add(&mut acked, &[said]);
        }
        add(&mut acked, &life.kill());
        hits += usize::from(log(&directory).iter().any(|line| !line.ends_with("ok")));
        judge(&directory.options(), &acked, BYTES)
            .unwrap_or_else(|error| panic!("{rule}: {error}"));
    }
    assert!(
        hits > 5,
        "{hits} rounds had a fault: too few to show anything"
    );
}
