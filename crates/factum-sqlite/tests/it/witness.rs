//! The witness: what a start notices, and what it then asks for.

use std::{fs, path::Path};

use factum_core::{At, Epoch, ExpectedVersion::Any, LogFilter, Position, ServiceName, Store as _};
use factum_sqlite::{Accept, Restore, Sqlite, SqliteOptions, SqliteStore};

use crate::support::{AT, Directory, appending, env, store};

const FILES: [&str; 3] = ["factum.db", "factum.db-wal", "factum.witness"];

fn refused(options: &SqliteOptions) -> String {
    let error = Sqlite::open(options).expect_err("a start is refused");
    assert!(error.is_fatal(), "{error}");
    let text = error.to_string();
    let file = options.directory.join("factum.db");
    assert!(text.contains(&*file.to_string_lossy()), "no file: {text}");
    assert!(text.contains("--new-epoch"), "no way out: {text}");
    text
}

async fn append(store: &SqliteStore, count: usize) {
    for _ in 0..count {
        store
            .commit(appending("order/1", Any))
            .await
            .expect("it is applied");
    }
}

async fn positions(store: &SqliteStore) -> Vec<u64> {
    let page = store
        .read_log(At::ZERO, &LogFilter::default(), 1_000)
        .await
        .expect("the log is read");
    let positions = page.records.iter().map(|record| record.at.position.0);
    positions.collect()
}

fn anew(directory: &Directory) -> SqliteOptions {
    directory.options().new_epoch(AT, "a test")
}

/// All that lies in `from`, in place of what is in `to`: the files stay the same ones.
fn overwrite(from: &Path, to: &Path, names: &[&str]) {
    for name in names {
        let bytes = fs::read(from.join(name)).unwrap_or_default();
        fs::write(to.join(name), bytes).expect("a file can be written");
    }
}

#[tokio::test]
async fn a_copied_directory_is_refused_until_somebody_says_what_it_is() {
    let directory = Directory::new();
    let order = directory.store().await;
    append(&order, 3).await;
    let (copy, other) = (directory.copy(), directory.copy());
    let text = refused(&copy.options());
    assert!(
        text.contains("was copied, or moved") && text.contains("--moved"),
        "{text}"
    );

    // Moved: nothing else has changed, and from then on it is known.
    let sqlite = Sqlite::open(&copy.options().moved()).expect("it was moved");
    let moved = store(&sqlite, "order").await;
    assert_eq!(moved.identity(), order.identity());
    append(&moved, 1).await;
    drop((sqlite, moved));
    assert_eq!(positions(&*copy.store().await).await, [1, 2, 3, 4]);

    // A copy beside the original: another time line, which no position of the first is taken for.
    let sqlite = Sqlite::open(&anew(&other)).expect("it begins a new epoch");
    let forked = store(&sqlite, "order").await;
    assert_eq!(forked.identity().id, order.identity().id);
    assert!(forked.identity().epoch > order.identity().epoch);
    let spans = forked.epochs().await.expect("they are listed");
    assert_eq!(spans[1].first, Position(4));
    assert!(spans[1].reason.contains("a test"), "{:?}", spans[1]);
    drop((sqlite, forked));
    other.store().await;

    // The original goes on, whatever was made of its copies.
    drop(order);
    directory.store().await;
}

#[tokio::test]
async fn a_start_never_serves_less_than_was_acknowledged() {
    let directory = Directory::new();
    let order = directory.store().await;
    append(&order, 12).await;
    let wal = fs::read(directory.path().join("factum.db-wal")).expect("there is a log");
    let frame = 4_096 + 24;
    let mut refusals = 0;
    for frames in 0..=(wal.len() - 32) / frame {
        for more in [0, 24, 1_000] {
            let copy = directory.copy();
            let end = (32 + frames * frame + more).min(wal.len());
            fs::write(copy.path().join("factum.db-wal"), &wal[..end]).expect("it is cut");
            if let Ok(sqlite) = Sqlite::open(&copy.options().moved()) {
                let order = store(&sqlite, "order").await;
                assert_eq!(positions(&order).await.len(), 12, "cut at {end}");
                continue;
            }
            let text = refused(&copy.options().moved());
            assert!(
                text.contains("does not hold all that was acknowledged"),
                "{text}"
            );
            refusals += 1;
        }
    }
    assert!(
        refusals > 20,
        "it was refused {refusals} times: too few to show anything"
    );
}

/// The fault that the test above must find: with the witness of the beginning, a cut log is served as a whole one.
#[tokio::test]
async fn without_its_witness_a_cut_log_would_be_taken_for_a_whole_one() {
    let directory = Directory::new();
    let order = directory.store().await;
    let old = fs::read(directory.path().join("factum.witness")).expect("there is a witness");
    append(&order, 12).await;
    let copy = directory.copy();
    let wal = fs::read(copy.path().join("factum.db-wal")).expect("there is a log");
    fs::write(copy.path().join("factum.db-wal"), &wal[..wal.len() - 4_000]).expect("it is cut");
    refused(&copy.options().moved());
    fs::write(copy.path().join("factum.witness"), old).expect("it is put back");
    let sqlite = Sqlite::open(&copy.options().moved()).expect("nothing speaks against it");
    assert_eq!(positions(&*store(&sqlite, "order").await).await.len(), 11);
}

/// A refusal changes nothing: what a person puts back is still good, and what is left can still be looked at.
#[tokio::test]
async fn a_refused_start_leaves_the_files_as_they_are() {
    let directory = Directory::new();
    let order = directory.store().await;
    append(&order, 12).await;
    let copy = directory.copy();
    let whole = fs::read(copy.path().join("factum.db-wal")).expect("there is a log");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    fs::write(copy.path().join("factum.db-wal"), &flipped).expect("it is damaged");
    let bytes = |name: &str| fs::read(copy.path().join(name)).expect("it is there");
    let before = FILES.map(bytes);
    let text = refused(&copy.options().moved());
    assert!(
        text.contains("factum.db-wal` is damaged in its frame"),
        "{text}"
    );
    assert!(FILES.map(bytes) == before, "a refused start has written");
    fs::write(copy.path().join("factum.db-wal"), &whole).expect("it is put back");
    let sqlite = Sqlite::open(&copy.options().moved()).expect("all is there");
    assert_eq!(positions(&*store(&sqlite, "order").await).await.len(), 12);
}

#[tokio::test]
async fn what_is_missing_is_named_and_not_made_anew() {
    let directory = Directory::new();
    let order = directory.store().await;
    append(&order, 3).await;
    for (name, expected) in [
        ("factum.db", "factum.db` is missing"),
        ("factum.db-wal", "does not hold all that was acknowledged"),
        ("factum.witness", "factum.witness` is missing"),
    ] {
        let copy = directory.copy();
        fs::remove_file(copy.path().join(name)).expect("it was there");
        let text = refused(&copy.options().moved());
        assert!(text.contains(expected), "{text}");
        assert!(!copy.path().join(name).exists() || name == "factum.db-wal");
        // With what is left a new time line begins, and is a file like any other from then on.
        let sqlite = Sqlite::open(&anew(&copy)).expect("it is taken as it is");
        let order = store(&sqlite, "order").await;
        append(&order, 1).await;
        let identity = order.identity();
        drop((sqlite, order));
        assert_eq!(copy.store().await.identity(), identity);
    }
    let copy = directory.copy();
    fs::write(copy.path().join("factum.witness"), [7; 8_192]).expect("it is damaged");
    let text = refused(&copy.options().moved());
    assert!(text.contains("factum.witness` is damaged"), "{text}");
}

/// Groups without a record count too: a fence that was raised, a pinned topic, a message of a topic.
#[tokio::test]
async fn a_lost_commit_that_moves_no_log_is_noticed() {
    let directory = Directory::new();
    let order = directory.store().await;
    append(&order, 1).await;
    let before = directory.copy();
    order.claim_relay().await.expect("the relay is claimed");
    let after = directory.copy();
    fs::copy(
        after.path().join("factum.witness"),
        before.path().join("factum.witness"),
    )
    .expect("it is the newer witness");
    let text = refused(&before.options().moved());
    assert!(text.contains("its last commits are missing"), "{text}");
    Sqlite::open(&after.options().moved()).expect("all is there");
}

#[tokio::test]
async fn an_older_file_in_the_same_place_is_noticed_and_another_one_too() {
    let directory = Directory::new();
    let order = directory.store().await;
    append(&order, 3).await;
    let old = directory.copy();
    append(&order, 2).await;
    drop(order);
    let overwritten = directory.copy();
    drop(Sqlite::open(&overwritten.options().moved()).expect("it was moved"));
    overwrite(old.path(), overwritten.path(), &FILES[..2]);
    let text = refused(&overwritten.options());
    assert!(
        text.contains("ends at 1-3, and it had reached 1-5"),
        "{text}"
    );
    let sqlite = Sqlite::open(&anew(&overwritten)).expect("it is taken as it is");
    let order = store(&sqlite, "order").await;
    let spans = order.epochs().await.expect("they are listed");
    assert!(
        spans[1]
            .reason
            .contains("in place of a log that had reached 1-5"),
        "{:?}",
        spans[1]
    );
    assert_eq!(positions(&order).await, [1, 2, 3]);
    drop((sqlite, order));
    overwritten.store().await;

    // A log of the same length with other records.
    let twin = old.copy();
    let sqlite = Sqlite::open(&twin.options().moved()).expect("it was moved");
    append(&*store(&sqlite, "order").await, 2).await;
    sqlite.close().await;
    overwrite(twin.path(), directory.path(), &FILES[..2]);
    let text = refused(&directory.options());
    assert!(
        text.contains("is not the one that was written there"),
        "{text}"
    );

    // And a file of somebody else.
    let stranger = Directory::new();
    let sqlite = stranger.open();
    append(&*store(&sqlite, "order").await, 9).await;
    sqlite.close().await;
    overwrite(stranger.path(), directory.path(), &FILES[..2]);
    assert!(refused(&directory.options()).contains("is not in it"));
}

#[tokio::test]
async fn an_older_backup_is_restored_as_another_time_line_and_never_opened_as_it_is() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let order = store(&sqlite, "order").await;
    append(&order, 3).await;
    let backup = directory.path().join("order.backup");
    order.backup(&backup).await.expect("a backup is written");
    append(&order, 4).await;
    drop(order);
    sqlite.close().await;
    let restore = Restore {
        at: AT,
        epoch_min: Epoch(0),
        reason: "a test".into(),
    };
    let restored =
        Sqlite::restore(&backup, &directory.options(), &restore).expect("it is restored");
    assert_eq!(restored.epoch, Epoch(2));
    // The witness knew of seven records, and of the restore it knows, too.
    let order = directory.store().await;
    assert_eq!(order.identity(), restored);
    append(&order, 1).await;
    assert_eq!(positions(&order).await, [1, 2, 3, 4]);

    let placed = Directory::new();
    fs::copy(&backup, placed.file()).expect("a backup is a file");
    let text = refused(&placed.options());
    assert!(
        text.contains("is a backup of one store") && text.contains("restore it"),
        "{text}"
    );
    let sqlite = Sqlite::open(&anew(&placed)).expect("it is taken as it is");
    let order = sqlite
        .store(&ServiceName::of("order"), &env())
        .await
        .expect("it opens");
    assert_eq!(
        (order.identity().id, order.identity().epoch),
        (restored.id, Epoch(2))
    );
}

/// A restore into a directory that a start would refuse is refused as well: it could hide what is missing.
#[tokio::test]
async fn a_restore_hides_no_other_loss() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let (order, payment) = (
        store(&sqlite, "order").await,
        store(&sqlite, "payment").await,
    );
    append(&order, 3).await;
    let backup = directory.path().join("order.backup");
    order.backup(&backup).await.expect("a backup is written");
    append(&payment, 3).await;
    let copy = directory.copy();
    let wal = fs::read(copy.path().join("factum.db-wal")).expect("there is a log");
    fs::write(copy.path().join("factum.db-wal"), &wal[..wal.len() - 1]).expect("it is cut");
    let restore = Restore {
        at: AT,
        epoch_min: Epoch(0),
        reason: "a test".into(),
    };
    let options = copy.options().moved();
    let error =
        Sqlite::restore(&backup, &options, &restore).expect_err("the directory is not whole");
    assert!(
        error.to_string().contains("store `payment` ends at 1-2"),
        "{error}"
    );
    refused(&options);
    Sqlite::restore(&backup, &anew(&copy), &restore).expect("it is taken as it is");
    copy.store().await;
}

#[test]
fn nothing_is_accepted_unless_it_is_said() {
    assert_eq!(SqliteOptions::new("data").accept, Accept::Nothing);
}

/// A new epoch begins in all stores of the file, and in the same transaction.
#[tokio::test]
async fn a_new_epoch_is_greater_than_all_that_the_witness_knows() {
    let directory = Directory::new();
    let sqlite = directory.open();
    let (order, payment) = (
        store(&sqlite, "order").await,
        store(&sqlite, "payment").await,
    );
    append(&order, 2).await;
    let old = directory.copy();
    order
        .open_epoch(Epoch(40), AT, "a restore that is lost again")
        .await
        .expect("it is opened");
    append(&order, 1).await;
    append(&payment, 1).await;
    overwrite(directory.path(), old.path(), &FILES[2..]);
    refused(&old.options().moved());
    let sqlite = Sqlite::open(&anew(&old)).expect("it is taken as it is");
    assert_eq!(store(&sqlite, "order").await.identity().epoch, Epoch(41));
    assert_eq!(store(&sqlite, "payment").await.identity().epoch, Epoch(2));
}
