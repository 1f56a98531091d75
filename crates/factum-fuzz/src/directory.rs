//! Data directories that hold what was never written there: garbage, wrong sizes, directories and links in place of
//! files.
//!
//! Opening one either works, and then everything that was acknowledged is there and as it was; or it is refused in
//! words. Who takes it as it is, whatever it lacks, gets nothing that was not written. Nothing panics or hangs, neither
//! in opening it nor in verifying it.

use std::{
    fs,
    path::Path,
    sync::{OnceLock, mpsc},
};

use bytes::Bytes;
use factum::{
    Accept, Append, At, Codec, Commit, CommitError, Draft, Error, ExpectedVersion, LogFilter,
    Record, RecordKind, ServiceName, Sqlite, SqliteOptions, Store as _, StreamId, TypeName,
    Version, system_env,
};
use serde::Deserialize;
use tempfile::TempDir;

use crate::world::{PATIENCE, runtime};

const FILES: [&str; 5] = [
    "factum.db",
    "factum.db-wal",
    "factum.db-shm",
    "factum.lock",
    "factum.witness",
];
const SERVICE: &str = "order";
/// How many events a stream gets at once.
const EVENTS: u32 = 20;

/// What stands in a file's place: which file in the first byte, what in the second and what a person says about it,
/// where in the next four, and the rest is what is written there.
pub(crate) fn directory(bytes: &[u8]) {
    let (head, rest) = bytes.split_first_chunk::<6>().unwrap_or((&[0; 6], bytes));
    let [file, what, at @ ..] = *head;
    let directory = TempDir::new().expect("there is room for a temporary directory");
    let path = directory.path();
    for (name, content) in whole() {
        fs::write(path.join(name), content).expect("it can be written");
    }
    let name = FILES[usize::from(file) % FILES.len()];
    replace(&path.join(name), what, u32::from_be_bytes(at), rest);

    // On a thread of its own: one that hangs can't be ended, only told.
    let (done, opened) = mpsc::sync_channel(1);
    // It is a copy of the one that was made. Who opens it as it is has to be told so.
    let options = match what / 8 % 4 {
        1 => SqliteOptions::new(path).new_epoch(system_env().now(), "whatever it lacks"),
        2 => SqliteOptions::new(path),
        _ => SqliteOptions::new(path).moved(),
    };
    let opening = std::thread::spawn(move || {
        drop(Sqlite::verify(&options.directory, |_| ()));
        let result = runtime().block_on(read_all(&options));
        drop(done.send(result));
    });
    let result = match opened.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("opening it with another `{name}` hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(Error::fatal("it panicked")),
    };
    if let Err(panic) = opening.join() {
        std::panic::resume_unwind(panic);
    }
    if let Err(error) = result {
        let words = format!("{error:#}");
        assert!(error.is_fatal(), "{words}");
        assert!(words.len() <= 2_000, "{words:.200}");
    }
}

/// Puts something else in the place of the file at `path`.
fn replace(path: &Path, what: u8, at: u32, bytes: &[u8]) {
    let here = path.parent().expect("it is in a directory");
    let old = fs::read(path).unwrap_or_default();
    let done = match what % 8 {
        // Bytes that were changed.
        0 => {
            let mut new = old;
            let at = at as usize % new.len().max(1);
            new.resize(new.len().max(at + bytes.len()), 0);
            new[at..at + bytes.len()].copy_from_slice(bytes);
            fs::write(path, new)
        }
        // A file that was cut.
        1 => fs::write(path, &old[..at as usize % (old.len() + 1)]),
        // A file that has grown.
        2 => fs::write(path, [&*old, bytes].concat()),
        // Another file.
        3 => fs::write(path, bytes),
        // No file.
        4 => fs::remove_file(path).or(Ok(())),
        // A directory.
        5 => fs::remove_file(path)
            .or(Ok(()))
            .and_then(|()| fs::create_dir(path)),
        // A link: to itself, to nowhere, to a directory, to another file.
        6 => fs::remove_file(path).or(Ok(())).and_then(|()| {
            let to = ["factum.db", "nowhere/at/all", ".", "factum.lock"];
            link(&here.join(to[at as usize % to.len()]), path)
        }),
        // What nobody ever writes to.
        _ => fs::remove_file(path).or(Ok(())).and_then(|()| pipe(path)),
    };
    done.expect("a temporary directory can be changed");
}

#[cfg(unix)]
fn link(to: &Path, path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(to, path)
}

#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> std::io::Result<()> {
    Ok(())
}

/// A named pipe, where there are any.
fn pipe(path: &Path) -> std::io::Result<()> {
    match std::process::Command::new("mkfifo").arg(path).status() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        made => made.map(drop),
    }
}

fn data(number: u32) -> String {
    format!("{{\"number\":{number},\"note\":\"{}\"}}", "n".repeat(200))
}

/// The number in an event's data.
fn number(record: &Record) -> u32 {
    #[derive(Deserialize)]
    struct Data {
        number: u32,
    }
    let data: Result<Data, _> = serde_json::from_slice(&record.draft.data);
    data.expect("what is served is what was written").number
}

fn was_written(record: &Record) {
    let data = data(number(record));
    assert!(data.as_bytes() == record.draft.data, "it was not written");
}

/// Opens the directory as a service does, and reads all that it has.
async fn read_all(options: &SqliteOptions) -> Result<(), Error> {
    let env = system_env();
    let sqlite = Sqlite::open(options)?;
    let read = async {
        let store = sqlite.store(&ServiceName::of(SERVICE), &env).await?;
        let head = store.head().await?;
        let mut after = At::ZERO;
        while after < head {
            let page = store.read_log(after, &LogFilter::default(), 7).await?;
            page.records.iter().for_each(was_written);
            if page.next <= after {
                break;
            }
            after = page.next;
        }
        let stream: StreamId = "order/o-1".parse().expect("it is one");
        let page = store.read_stream(&stream, Version(1), 100).await?;
        page.records.iter().for_each(was_written);
        if !matches!(options.accept, Accept::NewEpoch { .. }) {
            let numbers: Vec<_> = page.records.iter().map(number).collect();
            let all: Vec<_> = (0..EVENTS).collect();
            assert_eq!(numbers, all, "what was acknowledged is not all there");
        }
        store.commit(commit("o-2")).await.map_err(failed)?;
        Ok(())
    };
    let result = read.await;
    sqlite.close().await;
    result
}

fn failed(error: CommitError) -> Error {
    match error {
        CommitError::Failed(error) => error,
        refused => Error::fatal(format!("a good commit was refused: {refused}")),
    }
}

fn commit(id: &str) -> Commit {
    let env = system_env();
    let stream: StreamId = format!("order/{id}").parse().expect("it is one");
    let draft = |number: u32| Draft {
        kind: RecordKind::Event,
        stream: Some(stream.clone()),
        event_id: env.message_id(),
        event_type: TypeName::new("OrderCreated", 1),
        destination: None,
        timestamp: env.now(),
        correlation_id: env.message_id(),
        causation_id: None,
        metadata: factum::Metadata::new(),
        tags: Vec::new(),
        codec: Codec::Json,
        protection: None,
        data: Bytes::from(data(number)),
    };
    let mut commit = Commit::new(env.commit_id(), env.now());
    commit.appends.push(Append {
        stream: stream.clone(),
        expected: ExpectedVersion::Any,
        drafts: (0..EVENTS).map(draft).collect(),
    });
    commit
}

/// The files of a directory in good order, whose owner was killed: with a log that was not yet moved into the file.
fn whole() -> &'static [(&'static str, Vec<u8>)] {
    static WHOLE: OnceLock<Vec<(&'static str, Vec<u8>)>> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let directory = TempDir::new().expect("there is room for a temporary directory");
        let made = std::thread::scope(|scope| {
            let making = scope.spawn(|| {
                runtime().block_on(async {
                    let env = system_env();
                    let sqlite = Sqlite::open(&SqliteOptions::new(directory.path()))?;
                    let store = sqlite.store(&ServiceName::of(SERVICE), &env).await?;
                    store.commit(commit("o-1")).await.map_err(failed)?;
                    // The witness is written behind a commit: by now it knows of the first.
                    store.commit(commit("o-0")).await.map_err(failed)?;
                    let read = |name| fs::read(directory.path().join(name)).ok();
                    let files = FILES
                        .into_iter()
                        .filter_map(|name| Some((name, read(name)?)));
                    let files: Vec<_> = files.collect();
                    drop(store);
                    sqlite.close().await;
                    Ok::<_, Error>(files)
                })
            });
            making.join().expect("it doesn't panic")
        });
        made.expect("a directory can be made")
    })
}
