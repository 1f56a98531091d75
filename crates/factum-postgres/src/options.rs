//! How the database is reached and used.

use std::time::Duration;

/// How to reach a database. All but the address has a sensible default.
///
/// ```
/// use factum_postgres::PostgresOptions;
/// let options = PostgresOptions::new("postgres://factum@db.example.org/shop?sslmode=verify-full").readers(8);
/// assert_eq!(options.readers, 8);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// The address, as libpq takes it: `postgres://user:password@host:port/database?sslmode=…`. Of libpq's parameters
    /// are known, besides what tokio-postgres knows: `sslmode` up to `verify-full`, `sslrootcert` (a file, or
    /// `system`), `sslcert` and `sslkey`.
    pub url: String,
    /// What comes before the service's name in the name of its schema: nothing, or what keeps several systems in
    /// one database apart.
    pub schema_prefix: String,
    /// How many connections read. Each store has two more: one that writes, one that listens.
    pub readers: usize,
    /// How often the head of the log is looked at, in case that a notification was lost.
    pub poll: Duration,
    /// Whether a pooler that hands out connections by transaction stands between: nothing is then left behind in a
    /// session, neither prepared statements nor settings, and nobody listens, so `poll` should be short.
    pub pooled: bool,
    /// How long a statement may take before the server gives it up.
    pub statement_max: Duration,
    /// How long a transaction may wait for this process before the server gives it up: as long as a process that was
    /// stopped at the wrong moment holds up the others.
    pub idle_max: Duration,
    /// How long the writer tries to reach the server before it tells those who wait.
    pub patience: Duration,
}

/// Reads are short, and the machine of the database has other things to do.
const READERS: usize = 4;

/// Notifications are lost when a connection is: seldom. A poll is one look at the end of an index.
const POLL: Duration = Duration::from_millis(500);

/// Far beyond what any statement takes; the largest group of commits takes a tenth of a second.
const STATEMENT_MAX: Duration = Duration::from_secs(30);

/// All of a transaction is sent at once, so that it waits for packets at most.
const IDLE_MAX: Duration = Duration::from_secs(3);

/// As long as a restart of the server takes, or a fail-over.
const PATIENCE: Duration = Duration::from_secs(10);

impl PostgresOptions {
    /// The database at `url`, with defaults.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema_prefix: String::new(),
            readers: READERS,
            poll: POLL,
            pooled: false,
            statement_max: STATEMENT_MAX,
            idle_max: IDLE_MAX,
            patience: PATIENCE,
        }
    }

    /// With schemas whose names begin so.
    #[must_use]
    pub fn schema_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.schema_prefix = prefix.into();
        self
    }

    /// With this many connections that read, one at least.
    #[must_use]
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers.max(1);
        self
    }

    /// With another pause between two looks at the head of the log.
    #[must_use]
    pub fn poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }

    /// Through a pooler that hands out connections by transaction.
    #[must_use]
    pub fn pooled(mut self) -> Self {
        self.pooled = true;
        self
    }

    /// With another bound of the time that a statement takes.
    #[must_use]
    pub fn statement_max(mut self, max: Duration) -> Self {
        self.statement_max = max;
        self
    }

    /// With another bound of the time that a transaction may wait for this process.
    #[must_use]
    pub fn idle_max(mut self, max: Duration) -> Self {
        self.idle_max = max;
        self
    }

    /// With another time that the writer tries to reach the server before it tells those who wait.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}
