//! How the cluster is reached and used.

use std::{fmt, time::Duration};

use base64::Engine as _;
use factum_core::Error;

/// How to reach a cluster. All but the address has a sensible default.
///
/// ```
/// use factum_elasticsearch::ElasticsearchOptions;
/// let options = ElasticsearchOptions::parse("elasticsearch+https://factum:s%40fe@search.example.org/shop?ca=/etc/ca.pem")?;
/// assert_eq!(options.address(), "https://search.example.org:9200");
/// assert_eq!(options.prefix, "shop");
/// # Ok::<(), factum_core::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct ElasticsearchOptions {
    https: bool,
    /// Host and port.
    authority: String,
    pub(crate) authorization: Option<String>,
    pub(crate) ca: Option<String>,
    /// What the names of all indexes begin with: what keeps several systems in one cluster apart.
    pub prefix: String,
    /// How many shards an index has.
    pub shards: u32,
    /// How many copies of each shard there are beside it; `None`: as many as the cluster says.
    pub replicas: Option<u32>,
    /// The analyzer that takes texts apart into words, for full-text queries: one that the cluster has.
    pub analyzer: String,
    /// How often the cluster makes searchable what was written. Queries that need it sooner say so.
    pub refresh: Duration,
    /// How long connecting may take.
    pub connect_max: Duration,
    /// How long any request may take.
    pub request_max: Duration,
    /// How long a cluster that has too much to do is given the same rows again before the writer is told.
    pub patience: Duration,
}

/// Elasticsearch's and OpenSearch's own.
const PORT: u16 = 9200;

/// Begins the names of indexes where the address has no path.
const PREFIX: &str = "factum";

/// A view's rows fit into one: clusters are recommended shards of 10 to 50 GB.
const SHARDS: u32 = 1;

/// Takes any language apart at its spaces and signs, and is part of every cluster.
const ANALYZER: &str = "standard";

/// The cluster's own default.
const REFRESH: Duration = Duration::from_secs(1);

/// A packet that was lost is sent again twice in this time.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Far beyond what a bulk of 5 MB takes.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// As long as a queue takes to empty; whoever writes tries again after that, and says in its health that it does.
const PATIENCE: Duration = Duration::from_secs(10);

/// So that what is made of it stays below the 255 bytes of an index's name.
const PREFIX_BYTES_MAX: usize = 40;

impl ElasticsearchOptions {
    /// The cluster that `address` names:
    /// `elasticsearch://user:password@host:port/prefix?parameter=value&…`, over TLS with `elasticsearch+https://`.
    /// `opensearch`, `opensearch+https`, `http` and `https` are understood as well. Parameters:
    ///
    /// - `api_key`: the key, in its encoded form, in place of user and password;
    /// - `ca`: a file with the authorities that are trusted, in place of the system's;
    /// - `shards`, `replicas`, `analyzer`: as the fields of these names.
    ///
    /// # Errors
    ///
    /// Class fatal, when it is not such an address: the message says what is wrong, and shows no secret.
    pub fn parse(address: &str) -> Result<Self, Error> {
        let wrong =
            |what: String| Error::fatal(format!("the address of the search cluster {what}"));
        let (scheme, rest) = address.split_once("://").ok_or_else(|| {
            wrong("must begin with `elasticsearch://` or `elasticsearch+https://`".into())
        })?;
        let https = match scheme {
            "elasticsearch" | "elasticsearch+http" | "opensearch" | "opensearch+http" | "http" => {
                false
            }
            "elasticsearch+https" | "elasticsearchs" | "opensearch+https" | "https" => true,
            _ => {
                return Err(wrong(format!(
                    "begins with `{scheme}://`, and should with `elasticsearch://` or `elasticsearch+https://`"
                )));
            }
        };
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = match place.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, place),
        };
        let mut options = Self {
            https,
            authority: authority(host).ok_or_else(|| wrong("has no proper host".into()))?,
            authorization: None,
            ca: None,
            prefix: PREFIX.into(),
            shards: SHARDS,
            replicas: None,
            analyzer: ANALYZER.into(),
            refresh: REFRESH,
            connect_max: CONNECT_MAX,
            request_max: REQUEST_MAX,
            patience: PATIENCE,
        };
        if let Some(user) = user {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let plain = [name, password].map(decode);
            let [Some(name), Some(password)] = plain else {
                return Err(wrong("has a user or password that is badly escaped".into()));
            };
            options = options.basic(&name, &password);
        }
        let path = path.trim_matches('/');
        if !path.is_empty() {
            options = options.prefix(path)?;
        }
        for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = decode(value)
                .ok_or_else(|| wrong(format!("has a parameter `{name}` that is badly escaped")))?;
            let number = || {
                value
                    .parse()
                    .map_err(|_| wrong(format!("has a parameter `{name}` that is not a number")))
            };
            match name {
                "api_key" => options = options.api_key(&value),
                "ca" if !https => {
                    return Err(wrong(
                        "has `ca`, which means nothing without TLS: begin it with `elasticsearch+https://`".into(),
                    ));
                }
                "ca" => options = options.ca(&value),
                "shards" => options = options.shards(number()?),
                "replicas" => options.replicas = Some(number()?),
                "analyzer" => options.analyzer = value,
                _ => {
                    return Err(wrong(format!(
                        "has an unknown parameter `{name}` (known: api_key, ca, shards, replicas, analyzer)"
                    )));
                }
            }
        }
        Ok(options)
    }

    /// Scheme, host and port.
    pub fn address(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }

    /// With a user and password.
    #[must_use]
    pub fn basic(mut self, user: &str, password: &str) -> Self {
        let pair = base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}"));
        self.authorization = Some(format!("Basic {pair}"));
        self
    }

    /// With an API key, in its encoded form.
    #[must_use]
    pub fn api_key(mut self, key: &str) -> Self {
        self.authorization = Some(format!("ApiKey {key}"));
        self
    }

    /// Trusting the authorities of a file, and no others.
    #[must_use]
    pub fn ca(mut self, path: &str) -> Self {
        self.ca = Some(path.into());
        self
    }

    /// With indexes whose names begin so.
    ///
    /// # Errors
    ///
    /// Class fatal, when names of indexes can't begin so.
    pub fn prefix(mut self, prefix: &str) -> Result<Self, Error> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let good = prefix
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_lowercase())
            && prefix.bytes().all(plain)
            && prefix.len() <= PREFIX_BYTES_MAX;
        if !good {
            return Err(Error::fatal(format!(
                "`{prefix}` can't begin the names of indexes: use 1 to {PREFIX_BYTES_MAX} small letters, digits and `_`, \
                 a letter first"
            )));
        }
        self.prefix = prefix.into();
        Ok(self)
    }

    /// With this many shards an index, one at least.
    #[must_use]
    pub fn shards(mut self, shards: u32) -> Self {
        self.shards = shards.max(1);
        self
    }

    /// With this many copies beside each shard.
    #[must_use]
    pub fn replicas(mut self, replicas: u32) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// With another analyzer for full-text queries.
    #[must_use]
    pub fn analyzer(mut self, analyzer: &str) -> Self {
        self.analyzer = analyzer.into();
        self
    }

    /// With another pause between two times that the cluster makes searchable what was written.
    #[must_use]
    pub fn refresh(mut self, refresh: Duration) -> Self {
        self.refresh = refresh;
        self
    }

    /// With another bound of the time that a request takes.
    #[must_use]
    pub fn request_max(mut self, max: Duration) -> Self {
        self.request_max = max;
        self
    }

    /// With another time for which a cluster that has too much to do is given the same rows again.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// Without what is secret.
impl fmt::Debug for ElasticsearchOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ElasticsearchOptions")
            .field("address", &self.address())
            .field("authorized", &self.authorization.is_some())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Host and port of an address that may have no port; `None` when it has no host.
fn authority(host: &str) -> Option<String> {
    let (name, port) = match host.rsplit_once(':') {
        // Within brackets it is part of an IPv6 address.
        Some((name, port)) if !port.contains(']') => (name, port.parse().ok()?),
        _ => (host, PORT),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
    (!name.is_empty() && name.bytes().all(plain)).then(|| format!("{name}:{port}"))
}

/// `text` without percent-escapes; `None` when they are not right.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_and_how() {
        let parse = |address| ElasticsearchOptions::parse(address).unwrap();
        let plain = parse("elasticsearch://localhost");
        assert_eq!(
            (
                plain.address().as_str(),
                plain.prefix.as_str(),
                plain.authorization
            ),
            ("http://localhost:9200", "factum", None)
        );
        let full = parse(
            "opensearch+https://a%3Ab:p%40%20s@[::1]:9201/shop_2?ca=/a%20b.pem&shards=3&replicas=0",
        );
        assert_eq!(full.address(), "https://[::1]:9201");
        assert_eq!(
            full.authorization.as_deref(),
            Some("Basic YTpiOnBAIHM="),
            "a:b:p@ s"
        );
        assert_eq!(
            (full.prefix.as_str(), full.ca.as_deref()),
            ("shop_2", Some("/a b.pem"))
        );
        assert_eq!((full.shards, full.replicas), (3, Some(0)));
        let key = parse("https://search.example.org:443/?api_key=a2V5OnNlY3JldA%3D%3D");
        assert_eq!(
            key.authorization.as_deref(),
            Some("ApiKey a2V5OnNlY3JldA==")
        );
        assert_eq!(key.address(), "https://search.example.org:443");
    }

    #[test]
    fn a_wrong_address_is_refused_and_no_secret_shown() {
        for address in [
            "localhost:9200",
            "redis://localhost",
            "elasticsearch://",
            "elasticsearch://u:secret@",
            "elasticsearch://u:secret@a b",
            "elasticsearch://u:secret%4@host",
            "elasticsearch://u:secret@host:port",
            "elasticsearch://u:secret@host/Shop",
            "elasticsearch://u:secret@host/a-b",
            "elasticsearch://u:secret@host/?shards=many",
            "elasticsearch://u:secret@host/?sahrds=1",
            "elasticsearch://u:secret@host/?ca=/ca.pem",
        ] {
            let error = ElasticsearchOptions::parse(address).unwrap_err();
            assert!(error.is_fatal(), "{address}");
            assert!(!format!("{error:#}").contains("secret"), "{error}");
        }
        let options = ElasticsearchOptions::parse("http://u:secret@host").unwrap();
        let shown = format!("{options:?}");
        assert!(shown.contains("http://host:9200"), "{shown}");
        assert!(
            !shown.contains("secret") && !shown.contains("dTpz"),
            "{shown}"
        );
    }
}
