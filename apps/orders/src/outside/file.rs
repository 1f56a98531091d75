//! A ledger in a file: one line of JSON for each entry, synced before it is answered.
//!
//! One thread writes. It takes what has gathered in its queue, writes it at once and syncs once, so that many callers
//! share the cost of one sync. A caller that stops waiting changes nothing: what was queued is entered.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::{Ledger, MemoryLedger};

/// How many entries may wait for the writer: 256 of at most a few hundred bytes each. More callers wait outside.
const QUEUE_MAX: usize = 256;

/// A ledger in a file.
#[derive(Debug)]
pub struct FileLedger {
    path: PathBuf,
    /// What stands in the file.
    book: MemoryLedger,
    queue: mpsc::Sender<Entering>,
}

struct Entering {
    key: String,
    entry: String,
    answer: oneshot::Sender<io::Result<String>>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    entry: String,
}

impl FileLedger {
    /// The ledger in the file at `path`, which is made if it isn't there. A last line that a crash cut off was
    /// never answered, and is cut away.
    ///
    /// # Errors
    ///
    /// When the file can't be opened, or has a line in it that is no entry.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let book = MemoryLedger::default();
        for (number, line) in (1..).zip(text[..whole].lines()) {
            let line: Line = serde_json::from_str(line).map_err(|error| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "line {number} of ledger `{}` is no entry: {error}",
                        path.display()
                    ),
                )
            })?;
            book.enter_now(&line.key, line.entry);
        }
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        let (queue, entering) = mpsc::channel(QUEUE_MAX);
        let writer = Writer {
            file,
            book: book.clone(),
            failed: None,
        };
        thread::Builder::new()
            .name("ledger".into())
            .spawn(move || writer.run(entering))?;
        Ok(Self {
            path: path.into(),
            book,
            queue,
        })
    }
}

#[async_trait]
impl Ledger for FileLedger {
    async fn enter(&self, key: &str, entry: String) -> io::Result<String> {
        let (answer, answered) = oneshot::channel();
        let entering = Entering {
            key: key.into(),
            entry,
            answer,
        };
        let gone = || {
            io::Error::other(format!(
                "the writer of ledger `{}` has ended",
                self.path.display()
            ))
        };
        self.queue.send(entering).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    fn entry(&self, key: &str) -> Option<String> {
        self.book.entry(key)
    }

    fn entries(&self) -> Vec<(String, String)> {
        self.book.entries()
    }
}

struct Writer {
    file: File,
    /// What stands in the file, synced.
    book: MemoryLedger,
    /// Why the file can't be written any more. After a failed write or sync nobody knows what stands in it; it is
    /// read anew at the next start.
    failed: Option<String>,
}

impl Writer {
    fn run(mut self, mut entering: mpsc::Receiver<Entering>) {
        let mut batch = Vec::with_capacity(QUEUE_MAX);
        while let Some(first) = entering.blocking_recv() {
            batch.push(first);
            while batch.len() < QUEUE_MAX
                && let Ok(next) = entering.try_recv()
            {
                batch.push(next);
            }
            let written = match &self.failed {
                Some(failed) => Err(io::Error::other(failed.clone())),
                None => self.write(&batch),
            };
            if let Err(error) = &written {
                self.failed = Some(error.to_string());
            }
            for Entering { key, entry, answer } in batch.drain(..) {
                let standing = match &written {
                    Ok(()) => Ok(self.book.enter_now(&key, entry)),
                    Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
                };
                // Whoever stopped waiting asks again with the same key.
                drop(answer.send(standing));
            }
        }
    }

    /// Writes what is new in `batch`, and syncs it.
    fn write(&mut self, batch: &[Entering]) -> io::Result<()> {
        let mut lines = Vec::new();
        let mut new = std::collections::BTreeSet::new();
        for Entering { key, entry, .. } in batch {
            if self.book.entry(key).is_none() && new.insert(key) {
                let line = Line {
                    key: key.clone(),
                    entry: entry.clone(),
                };
                serde_json::to_writer(&mut lines, &line)?;
                lines.push(b'\n');
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        self.file.write_all(&lines)?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_entry_under_a_key_stands_after_a_restart_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("book.jsonl");
        let ledger = FileLedger::open(&path).unwrap();
        assert_eq!(
            ledger.enter("a", "first\n\"quoted\"".into()).await.unwrap(),
            "first\n\"quoted\""
        );
        assert_eq!(
            ledger.enter("a", "second".into()).await.unwrap(),
            "first\n\"quoted\""
        );
        drop(ledger);
        let ledger = FileLedger::open(&path).unwrap();
        assert_eq!(
            ledger.entries(),
            [("a".to_string(), "first\n\"quoted\"".to_string())]
        );
        assert_eq!(
            ledger.enter("a", "third".into()).await.unwrap(),
            "first\n\"quoted\""
        );
    }

    #[tokio::test]
    async fn of_many_at_once_under_one_key_one_stands() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = FileLedger::open(&directory.path().join("book.jsonl")).unwrap();
        let (one, two) = tokio::join!(ledger.enter("a", "1".into()), ledger.enter("a", "2".into()));
        assert_eq!(one.unwrap(), two.unwrap());
        assert_eq!(ledger.entries().len(), 1);
    }

    #[tokio::test]
    async fn a_line_that_a_crash_cut_off_is_cut_away_and_a_broken_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("book.jsonl");
        let whole = "{\"key\":\"a\",\"entry\":\"1\"}\n";
        std::fs::write(&path, format!("{whole}{{\"key\":\"b\",\"ent")).unwrap();
        let ledger = FileLedger::open(&path).unwrap();
        assert_eq!(ledger.entries(), [("a".to_string(), "1".to_string())]);
        assert_eq!(ledger.enter("c", "3".into()).await.unwrap(), "3");
        drop(ledger);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{whole}{{\"key\":\"c\",\"entry\":\"3\"}}\n"));

        std::fs::write(&path, format!("nonsense\n{whole}")).unwrap();
        let error = FileLedger::open(&path).unwrap_err();
        assert!(error.to_string().contains("line 1 of ledger"), "{error}");
    }
}
