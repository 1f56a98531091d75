//! How the brokers are reached and used.

mod url;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use factum_core::Error;

/// The largest message, in bytes: as the embedded brokers take. An event that a store takes fits into it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// How many messages of one producer may be on the way: twenty batches of the relay.
const IN_FLIGHT_MESSAGES_MAX: usize = 10_000;

/// How many bytes of messages of one producer may be on the way: at 1 KB each, the bound above is reached first.
const IN_FLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many bytes of messages one member fetches ahead, over all partitions that may become its own.
const PREFETCH_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How long a message may be on the way: longer than a leader is elected, or a broker restarted.
const STALL_MAX: Duration = Duration::from_secs(30);

/// How long a question to the brokers may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How to reach Kafka. All but the servers has a sensible default.
///
/// ```
/// use factum_kafka::{GroupProtocol, KafkaOptions, Sasl};
///
/// let by_hand = KafkaOptions::new(["one.example.org:9092", "two.example.org:9092"]).replication(3);
/// let by_url = KafkaOptions::parse("kafka://one.example.org,two.example.org:9092?replication=3")?;
/// assert_eq!(by_hand.servers, by_url.servers);
/// assert_eq!(by_url.replication, Some(3));
///
/// let error = KafkaOptions::parse("kafka://localhost?replicas=3").unwrap_err();
/// assert!(error.to_string().contains("`replication`"), "{error}");
/// # Ok::<(), factum_core::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct KafkaOptions {
    /// Some of the cluster's brokers, each as `host:port`: the others are learned from them.
    pub servers: Vec<String>,
    /// TLS, when it is spoken. Takes the cargo feature `tls`.
    pub tls: Option<Tls>,
    /// The user, when the brokers want one.
    pub sasl: Option<Sasl>,
    /// What the process is called in the brokers' logs. Members of groups are called as they are.
    pub client: String,
    /// How many copies a topic that is made has; `None`: as the brokers' own default says.
    pub replication: Option<u16>,
    /// The largest message, in bytes of key, value and headers: 1 MiB or more. Topics that are made allow it, and those that
    /// are there must.
    pub message_bytes_max: usize,
    /// How many messages of one producer may be on the way.
    pub in_flight_messages_max: usize,
    /// How many bytes of messages of one producer may be on the way; a larger batch goes alone.
    pub in_flight_bytes_max: usize,
    /// How long the oldest message of a producer may be on the way before all that are count as failed.
    pub stall_max: Duration,
    /// How messages are compressed.
    pub compression: Compression,
    /// How many bytes of messages one member of a group fetches ahead, shared out to the partitions of its topics.
    pub prefetch_bytes_max: usize,
    /// Who shares out the partitions of a group.
    pub group_protocol: GroupProtocol,
    /// A name for this process that it has again after a restart: its partitions wait for it through its session, and
    /// no others have to be given new owners. No two members of a group may have the same at a time.
    pub instance: Option<String>,
    /// Whether topics are used that lose what they acknowledged when one broker of several fails.
    pub accept_weak_topics: bool,
    /// How long a question to the brokers may take.
    pub patience: Duration,
    /// Further settings of librdkafka, for whoever knows what they do. Those that correctness rests on are refused.
    pub settings: BTreeMap<String, String>,
}

/// What TLS is checked with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authorities whose certificates are believed, as a PEM file; `None`: those of the system.
    pub authorities: Option<PathBuf>,
    /// A certificate and its key as PEM files, where the brokers want to know who calls.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Whether any name is believed that an authority signed, and not only the server's own.
    pub any_name: bool,
}

/// A user, and how the password is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Sasl {
    /// How it is shown.
    pub mechanism: Mechanism,
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

/// How a password is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// As it is: only with TLS.
    Plain,
    /// By a proof that doesn't tell it. Takes the cargo feature `tls`, for the hashes.
    ScramSha256,
    /// The same with a longer hash.
    ScramSha512,
}

/// Who shares out the partitions of a group. All members of a group must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GroupProtocol {
    /// A member of the group, cooperatively: what stays where it is goes on meanwhile.
    #[default]
    Classic,
    /// The broker (KIP-848). Sessions are then set at the broker; by default it notices a crash after 45 s only.
    Consumer,
}

/// How messages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// With gzip.
    Gzip,
    /// With snappy.
    Snappy,
    /// With lz4.
    Lz4,
    /// With zstd. Takes the cargo feature `zstd`.
    Zstd,
}

impl KafkaOptions {
    /// The cluster that has these brokers, with defaults.
    pub fn new(servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            tls: None,
            sasl: None,
            client: "factum".to_owned(),
            replication: None,
            message_bytes_max: MESSAGE_BYTES_MAX,
            in_flight_messages_max: IN_FLIGHT_MESSAGES_MAX,
            in_flight_bytes_max: IN_FLIGHT_BYTES_MAX,
            stall_max: STALL_MAX,
            compression: Compression::None,
            prefetch_bytes_max: PREFETCH_BYTES_MAX,
            group_protocol: GroupProtocol::Classic,
            instance: None,
            accept_weak_topics: false,
            patience: PATIENCE,
            settings: BTreeMap::new(),
        }
    }

    /// The options that an address states: `kafka://user:password@host:port,host:port?name=value&name=value`.
    ///
    /// A port that is not given is 9092. `%40` in a user or a password is an `@`, and so on. The names are
    /// `tls` (`true`), `tls_ca`, `tls_cert`, `tls_key` (PEM files), `tls_name` (`any`: believe every name that an
    /// authority signed), `sasl` (`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`), `client`, `replication`,
    /// `message_bytes_max`, `in_flight_messages_max`, `in_flight_bytes_max`, `stall_max_ms`, `compression` (`none`,
    /// `gzip`, `snappy`, `lz4`, `zstd`), `prefetch_bytes_max`, `group_protocol` (`classic`, `consumer`), `instance`,
    /// `accept_weak_topics`, `patience_ms`, and `rdkafka.<setting>` for settings of librdkafka.
    ///
    /// # Errors
    ///
    /// Class fatal, naming what is wrong and what would be right. The password is not repeated.
    pub fn parse(url: &str) -> Result<Self, Error> {
        url::parse(url)
    }

    /// With TLS.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// As this user.
    #[must_use]
    pub fn sasl(mut self, sasl: Sasl) -> Self {
        self.sasl = Some(sasl);
        self
    }

    /// Called so in the brokers' logs.
    #[must_use]
    pub fn client(mut self, client: impl Into<String>) -> Self {
        self.client = client.into();
        self
    }

    /// With so many copies of each topic that is made.
    #[must_use]
    pub fn replication(mut self, copies: u16) -> Self {
        self.replication = Some(copies);
        self
    }

    /// With another bound of a message's size.
    #[must_use]
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// With another bound of the time that a message may be on the way.
    #[must_use]
    pub fn stall_max(mut self, stall: Duration) -> Self {
        self.stall_max = stall;
        self
    }

    /// With messages compressed.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// With another bound of what a member fetches ahead.
    #[must_use]
    pub fn prefetch_bytes_max(mut self, bytes: usize) -> Self {
        self.prefetch_bytes_max = bytes;
        self
    }

    /// With partitions shared out by this protocol.
    #[must_use]
    pub fn group_protocol(mut self, protocol: GroupProtocol) -> Self {
        self.group_protocol = protocol;
        self
    }

    /// With a name that this process has again after a restart.
    #[must_use]
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    /// Using topics that lose what they acknowledged when one broker of several fails.
    #[must_use]
    pub fn accept_weak_topics(mut self) -> Self {
        self.accept_weak_topics = true;
        self
    }

    /// With another bound of the time that a question to the brokers may take.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// With a further setting of librdkafka.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sasl")
            .field("mechanism", &self.mechanism)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Settings may be secrets: their names are enough.
        let settings: Vec<_> = self.settings.keys().collect();
        f.debug_struct("KafkaOptions")
            .field("servers", &self.servers)
            .field("tls", &self.tls)
            .field("sasl", &self.sasl)
            .field("replication", &self.replication)
            .field("group_protocol", &self.group_protocol)
            .field("instance", &self.instance)
            .field("settings", &settings)
            .finish_non_exhaustive()
    }
}
