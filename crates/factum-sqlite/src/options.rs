//! How the file is opened.

use std::path::PathBuf;

use factum_core::Timestamp;

/// How to open a data directory. All but the directory has a sensible default.
///
/// ```
/// use factum_sqlite::SqliteOptions;
/// let options = SqliteOptions::new("data").readers(2);
/// assert_eq!(options.directory, std::path::Path::new("data"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// The directory that holds the file. It is made if it does not exist.
    pub directory: PathBuf,
    /// How many threads read.
    pub readers: usize,
    /// At which size of the write-ahead log the writer pauses until it was moved into the file.
    pub wal_bytes_max: u64,
    /// The largest size of the file in pages of 4,096 bytes; `None`: as large as the disk. At this size commits
    /// fail as on a full disk.
    pub pages_max: Option<u32>,
    /// What a person has said about a file that a start would refuse.
    pub accept: Accept,
}

/// What is accepted though it speaks against opening the file. See the guide's page on operating.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    /// Nothing.
    #[default]
    Nothing,
    /// The file lies in another place than before: the directory was moved, and the former one is never used again.
    Moved,
    /// The file as it is, whatever it lacks: each store of it begins a new epoch.
    NewEpoch {
        /// The present time: the new epoch is its milliseconds, unless a greater one was used.
        at: Timestamp,
        /// Who wants it, and why; it is kept with the epochs.
        reason: String,
    },
}

/// Reads are short; more threads than this wait for each other on machines of a usual size.
const READERS: usize = 3;

/// 64 MB: at 100 MB of log a second there is one pause of some tens of milliseconds a second at worst, and in
/// practice none, because passive checkpoints come first. Readers look for a page in the log's index, which
/// grows with it.
const WAL_BYTES_MAX: u64 = 64 << 20;

impl SqliteOptions {
    /// The file in `directory`, with defaults.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            readers: READERS,
            wal_bytes_max: WAL_BYTES_MAX,
            pages_max: None,
            accept: Accept::Nothing,
        }
    }

    /// With this many threads that read, one at least.
    #[must_use]
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers.max(1);
        self
    }

    /// With another bound of the write-ahead log.
    #[must_use]
    pub fn wal_bytes_max(mut self, bytes: u64) -> Self {
        self.wal_bytes_max = bytes;
        self
    }

    /// With a largest size of the file.
    #[must_use]
    pub fn pages_max(mut self, pages: u32) -> Self {
        self.pages_max = Some(pages);
        self
    }

    /// Accepts that the directory was moved. To be said once, and only when the former one is never used again.
    #[must_use]
    pub fn moved(mut self) -> Self {
        self.accept = Accept::Moved;
        self
    }

    /// Takes the file as it is and begins a new epoch in each of its stores. To be said once: a start that says it
    /// again begins another one.
    #[must_use]
    pub fn new_epoch(mut self, at: Timestamp, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        self.accept = Accept::NewEpoch { at, reason };
        self
    }
}
