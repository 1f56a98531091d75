//! How the file is opened.

use std::path::PathBuf;

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
}
