//! Damage at rest: bits that flip and files that are cut, on copies of a directory.
//!
//! What must hold: a start refuses, with the file's name and the way out, or the log and the topics are served as they
//! were written, or not at all; and what a verification finds nothing wrong with is whole. An index that lost an entry
//! can hide a stream from those who ask for it by name: SQLite's pages have no checksums. Verification finds it.

mod index;

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
};

use factum_core::{
    Broker as _, Error, Headers, MessageId, Outgoing, Position, Record, ServiceName, Snapshot,
    Store as _, Topic, TopicPartition, TopicSpec, Version,
};
use factum_sqlite::{Sqlite, SqliteStore};
use futures_util::future::join_all;
use rusqlite::Connection;

use super::{Dice, judge, seed};
use crate::support::{AT, Directory, appending, env, store, stream};
use factum_core::ExpectedVersion::Any;

const STREAMS: u64 = 30;
const MESSAGES: u64 = 200;

/// A directory with something of everything, open, and what is in it.
struct Original {
    directory: Directory,
    sqlite: Option<Sqlite>,
    contents: Contents,
}

/// All that can be read of a directory: for each question, the answer or the error.
#[derive(Debug)]
struct Contents {
    log: Result<Vec<Record>, Error>,
    streams: Vec<Result<Vec<Record>, Error>>,
    story: Result<Vec<Record>, Error>,
    snapshot: Result<Option<Snapshot>, Error>,
    messages: Result<Vec<Option<bytes::Bytes>>, Error>,
}

impl Original {
    async fn create() -> Self {
        let directory = Directory::new();
        let sqlite = directory.open();
        let order = store(&sqlite, "order").await;
        let commit =
            |number: u64| order.commit(appending(&format!("order/{}", number % STREAMS), Any));
        // The index trails the log by some of them.
        let commits = join_all((0..1_300).map(commit)).await;
        assert!(commits.iter().all(Result::is_ok));
        let state = Snapshot {
            version: Version(3),
            event_id: "the third".into(),
            state: bytes::Bytes::from_static(b"{\"total\":12}"),
        };
        order
            .save_snapshot(&stream("order/1"), "1", state)
            .await
            .expect("a snapshot is kept");
        let broker = sqlite.broker(&env()).await.expect("the topics open");
        broker
            .ensure_topic(&TopicSpec::new(Topic::of("payments"), 1))
            .await
            .expect("a topic is made");
        let mut producer = broker.producer().await.expect("a producer");
        let message = |number: u64| Outgoing {
            topic: Topic::of("payments"),
            partition: 0,
            key: None,
            headers: Headers::new(),
            value: Some(format!("message {number} of {MESSAGES}").into()),
            timestamp: AT,
        };
        for number in 0..MESSAGES {
            producer
                .send(vec![(number, message(number))])
                .await
                .expect("it is sent");
            producer.reports().await.expect("it is reported");
        }
        let contents = Contents::read(&sqlite, &order).await;
        assert!(contents.log.as_ref().is_ok_and(|log| log.len() == 1_300));
        assert!(
            contents
                .messages
                .as_ref()
                .is_ok_and(|all| all.len() as u64 == MESSAGES)
        );
        Self {
            directory,
            sqlite: Some(sqlite),
            contents,
        }
    }
}

impl Contents {
    async fn read(sqlite: &Sqlite, order: &SqliteStore) -> Self {
        let mut streams = Vec::new();
        for number in 0..STREAMS {
            let name = stream(&format!("order/{number}"));
            let page = order.read_stream(&name, Version(1), usize::MAX).await;
            streams.push(page.map(|page| page.records));
        }
        let log = judge::read_all(order).await;
        let id = |log: &Vec<Record>| log[7].draft.correlation_id.clone();
        let id = log.as_ref().map_or(MessageId::from("none"), id);
        let messages = async {
            let broker = sqlite.broker(&env()).await?;
            let partition = TopicPartition::new(Topic::of("payments"), 0);
            let mut messages = Vec::new();
            while (messages.len() as u64) < MESSAGES {
                let page = broker.read(&partition, messages.len() as u64, 50).await?;
                if page.is_empty() {
                    break;
                }
                messages.extend(page.into_iter().map(|message| message.value));
            }
            Ok(messages)
        };
        Self {
            streams,
            story: order.read_correlated(&id, Position(0), 10).await,
            snapshot: order.snapshot(&stream("order/1"), "1").await,
            messages: messages.await,
            log,
        }
    }

    /// What is answered, and answered wrong: first what has checksums, then what an index can hide.
    fn wrong(&self, right: &Self) -> (Vec<&'static str>, Vec<&'static str>) {
        fn differs<T: PartialEq>(found: &Result<T, Error>, right: &Result<T, Error>) -> bool {
            matches!((found, right), (Ok(found), Ok(right)) if found != right)
        }
        let (mut wrong, mut hidden) = (Vec::new(), Vec::new());
        if differs(&self.log, &right.log) {
            wrong.push("the log");
        }
        if differs(&self.messages, &right.messages) {
            wrong.push("the messages");
        }
        if !matches!(&self.snapshot, Ok(None)) && differs(&self.snapshot, &right.snapshot) {
            wrong.push("a snapshot");
        }
        for (found, right) in self.streams.iter().zip(&right.streams) {
            let (Ok(found), Ok(right)) = (found, right) else {
                continue;
            };
            if !right.starts_with(found) {
                wrong.push("a stream");
            } else if found != right {
                hidden.push("a stream");
            }
        }
        // Without the log nobody knows which story to ask for.
        if self.log.is_ok() && differs(&self.story, &right.story) {
            hidden.push("a story");
        }
        (wrong, hidden)
    }

    fn errors(&self) -> Vec<&Error> {
        let streams = self
            .streams
            .iter()
            .filter_map(|stream| stream.as_ref().err());
        let others = [
            self.log.as_ref().err(),
            self.story.as_ref().err(),
            self.snapshot.as_ref().err(),
            self.messages.as_ref().err(),
        ];
        streams.chain(others.into_iter().flatten()).collect()
    }
}

/// Damages one file, and says how.
fn damage(directory: &Directory, dice: &mut Dice) -> String {
    // What the log has is read from there, and not from the file.
    let log = fs::metadata(directory.path().join("factum.db-wal")).map_or(0, |log| log.len());
    let names = if log > 0 {
        [
            "factum.db-wal",
            "factum.db-wal",
            "factum.db",
            "factum.witness",
        ]
    } else {
        ["factum.db", "factum.db", "factum.db", "factum.witness"]
    };
    let name = names[dice.index(names.len())];
    let path = directory.path().join(name);
    let mut bytes = fs::read(&path).unwrap_or_default();
    if bytes.is_empty() {
        return format!("{name} is empty");
    }
    // A page of some table or index first: otherwise the log's pages would have nearly all of it.
    let (mut start, mut end, mut of) = (0, bytes.len(), String::new());
    if name == "factum.db" && dice.below(4) > 0 {
        let pages = pages(directory);
        let mut names: Vec<_> = pages.iter().map(|(name, _)| name).collect();
        names.dedup();
        let name = names[dice.index(names.len())];
        let pages: Vec<_> = pages.iter().filter(|(of, _)| of == name).collect();
        let page = pages[dice.index(pages.len())].1;
        // Pages that are in the log only are not in the file yet.
        if page * 4_096 <= bytes.len() {
            (start, end, of) = ((page - 1) * 4_096, page * 4_096, format!(" ({name})"));
        }
    }
    let at = start + dice.index(end - start);
    let how = match dice.below(6) {
        0 => {
            bytes.truncate(at);
            "cut at"
        }
        1 => {
            let sector = at / 512 * 512;
            let end = (sector + 512).min(bytes.len());
            bytes[sector..end].fill(0);
            "a sector of zeros at"
        }
        2 => {
            for _ in 0..20 {
                let at = start + dice.index(end - start);
                bytes[at] = u8::try_from(dice.below(256)).expect("it is a byte");
            }
            "20 bytes around"
        }
        _ => {
            bytes[at] ^= 1 << dice.below(8);
            "a bit at"
        }
    };
    fs::write(&path, bytes).expect("a file can be written");
    format!("{name}{of}: {how} {at}")
}

/// The pages of the file, by table and index.
fn pages(directory: &Directory) -> Vec<(String, usize)> {
    let other = Directory::new();
    // Looking would change the copy's own log.
    fs::copy(directory.file(), other.file()).expect("a file is copied");
    let connection = Connection::open(other.file()).expect("it is a SQLite file");
    let mut statement = connection
        .prepare("SELECT name, pageno FROM dbstat ORDER BY name, pageno")
        .expect("SQLite knows its pages");
    let pages = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)));
    pages
        .expect("they are listed")
        .map(|page| page.expect("they are listed"))
        .map(|(name, number)| {
            (
                name,
                usize::try_from(number).expect("pages are counted from one"),
            )
        })
        .collect()
}

/// What a reader serves who believes whatever is in the file: whether it is another log than was written.
fn believed(directory: &Directory, right: &[Record]) -> bool {
    let copy = directory.copy();
    let read = || {
        let connection = Connection::open(copy.file())?;
        let mut statement = connection.prepare("SELECT data FROM records ORDER BY key")?;
        let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    let is_right = |data: &Vec<Vec<u8>>| {
        data.iter()
            .eq(right.iter().map(|record| &record.draft.data))
    };
    read().is_ok_and(|data| !is_right(&data))
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts panics of the store's own threads: nobody else would hear of them.
fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        if thread
            .name()
            .is_some_and(|name| name.starts_with("factum-"))
        {
            PANICS.fetch_add(1, Ordering::Relaxed);
        }
        before(panic);
    }));
}

#[test]
fn whatever_is_damaged_is_refused_or_found_and_never_served() {
    count_panics();
    let seed = seed();
    let rounds = std::env::var("FACTUM_TEST_ROUNDS").ok();
    let rounds = rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(120);
    let (mut refused, mut unread, mut hidden_ones, mut harmless, mut believed_ones) =
        (0, 0, 0, 0, 0);
    judge::run(async {
        let mut original = Original::create().await;
        for round in 0..rounds {
            // Half of the rounds have a log, as after a kill; half have all in the file.
            if round == rounds / 2 {
                let sqlite = original.sqlite.take().expect("it was open");
                sqlite.close().await;
            }
            let mut dice = Dice(seed.wrapping_add(round));
            let copy = original.directory.copy();
            let what = format!("round {round}: {}", damage(&copy, &mut dice));
            let log = original.contents.log.as_ref().expect("it was read");
            believed_ones += usize::from(believed(&copy, log));
            let verified = Sqlite::verify(copy.path(), |_| {});
            let is_whole = verified.is_ok_and(|verified| verified.damages.is_empty());
            let opened = async {
                let sqlite = open_when_free(&copy.options().moved()).await?;
                let order = sqlite.store(&ServiceName::of("order"), &env()).await?;
                Ok::<_, Error>((sqlite, order))
            };
            let (sqlite, order) = match opened.await {
                Ok(opened) => opened,
                Err(error) => {
                    let text = format!("{error:#}");
                    assert!(error.is_fatal(), "{what}: {text}");
                    assert!(
                        text.contains(&*copy.path().to_string_lossy()),
                        "{what}: no file in: {text}"
                    );
                    assert!(
                        ["restore", "put ", "--new-epoch"]
                            .iter()
                            .any(|way| text.contains(way)),
                        "{what}: no way out in: {text}"
                    );
                    assert!(
                        !is_whole,
                        "{what}: verification found nothing, and the start says: {text}"
                    );
                    refused += 1;
                    continue;
                }
            };
            let contents = Contents::read(&sqlite, &order).await;
            let (wrong, hidden) = contents.wrong(&original.contents);
            assert!(wrong.is_empty(), "{what}: served wrong: {wrong:?}");
            let errors = contents.errors();
            for error in &errors {
                let text = format!("{error:#}");
                assert!(error.is_fatal(), "{what}: {text}");
                assert!(
                    text.contains("restore the newest backup"),
                    "{what}: no way out in: {text}"
                );
            }
            if errors.is_empty() && hidden.is_empty() {
                harmless += 1;
            } else {
                assert!(
                    !is_whole,
                    "{what}: verification found nothing; hidden: {hidden:?}; {errors:?}"
                );
                unread += u64::from(!errors.is_empty());
                hidden_ones += usize::from(!hidden.is_empty());
            }
        }
    });
    eprintln!(
        "{rounds} damages: {refused} refused at the start, {unread} found by reading, {hidden_ones} found by \
         verification only, {harmless} harmless; {believed_ones} would have been believed without checksums"
    );
    assert_eq!(
        PANICS.load(Ordering::Relaxed),
        0,
        "a thread of the store has panicked"
    );
    assert!(refused > 0 && unread > 0);
    assert!(
        believed_ones > 0,
        "no damage would have been believed: the checksums were not needed"
    );
}

/// A key had flipped to one far behind the head: the log seemed to end before it, and whoever followed it would have
/// waited for ever.
#[test]
fn a_record_that_lies_elsewhere_is_not_taken_for_the_end_of_the_log() {
    judge::run(async {
        let directory = Directory::new();
        let order = directory.store().await;
        for _ in 0..4 {
            order
                .commit(appending("order/1", Any))
                .await
                .expect("it is applied");
        }
        let other = Connection::open(directory.file()).expect("it is a SQLite file");
        let sql = "UPDATE records SET key = key + (1 << 38) WHERE key & 1099511627775 = 4";
        assert_eq!(other.execute(sql, []), Ok(1));
        let error = judge::read_all(&order).await.expect_err("it is missing");
        assert!(
            error.is_fatal() && error.to_string().contains("position 4"),
            "{error}"
        );
    });
}

/// One row of each kind, changed behind the store's back, is named.
#[test]
fn verification_names_what_is_damaged_and_finds_nothing_in_what_is_whole() {
    judge::run(async {
        let original = Original::create().await;
        let damages = |copy: &Directory| {
            let mut lines = 0;
            let verified = Sqlite::verify(copy.path(), |_| lines += 1).expect("it can be verified");
            assert!(lines > 5, "it told {lines} times how far it was");
            assert_eq!(verified.stores[0].head.position, Position(1_300));
            verified.damages
        };
        let whole = original.directory.copy();
        assert_eq!(damages(&whole), [""; 0]);
        let before = fs::read(whole.file()).expect("it can be read");
        assert!(
            before == fs::read(original.directory.file()).expect("it can be read"),
            "it was changed"
        );
        for (sql, expected) in [
            (
                "UPDATE records SET data = x'7b7d' WHERE key & 1099511627775 = 9",
                "the record at position 9",
            ),
            (
                "DELETE FROM records WHERE key & 1099511627775 = 9",
                "the record at position 9",
            ),
            (
                "DELETE FROM stream_events WHERE version = 4",
                "index `stream_events` does not know 30 of the records",
            ),
            (
                "INSERT INTO stream_events SELECT stream, 900, record FROM stream_events WHERE version = 2",
                "index `stream_events` has",
            ),
            (
                "DELETE FROM correlated WHERE record & 1099511627775 = 9",
                "index `correlated` does not know 1 of the records",
            ),
            (
                "UPDATE snapshots SET state = x'7b7d'",
                "the snapshot of stream number",
            ),
            (
                "UPDATE chunks SET data = x'01' || x'00000000000000'",
                "partition `payments",
            ),
            (
                "DELETE FROM chunks WHERE place = (SELECT max(place) FROM chunks)",
                "partition `payments",
            ),
            ("UPDATE epochs SET ordinal = 'x'", "epoch"),
            ("DELETE FROM types", "names"),
        ] {
            let copy = original.directory.copy();
            let connection = Connection::open(copy.file()).expect("it is a SQLite file");
            if connection.execute_batch(sql).is_err() {
                continue;
            }
            drop(connection);
            let found = damages(&copy);
            assert!(
                found.iter().any(|text| text.contains(expected)),
                "{sql}: {found:?}"
            );
        }
        let error = Sqlite::verify(original.directory.path(), |_| {}).expect_err("it is in use");
        assert!(error.to_string().contains("in use"), "{error}");
        let nothing = Directory::new();
        Sqlite::verify(nothing.path(), |_| {}).expect_err("there is no file");
        assert!(
            fs::read_dir(nothing.path())
                .expect("it is there")
                .next()
                .is_none()
        );
    });
}

/// Opens a directory that was verified just now. A process that another test forks has a copy of the lock for a moment,
/// until it becomes another program.
async fn open_when_free(options: &factum_sqlite::SqliteOptions) -> Result<Sqlite, Error> {
    for _ in 0..1_000 {
        match Sqlite::open(options) {
            Err(error) if error.to_string().contains("is in use") => tokio::task::yield_now().await,
            opened => return opened,
        }
    }
    Sqlite::open(options)
}
