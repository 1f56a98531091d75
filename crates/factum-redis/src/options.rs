//! How the server is reached: its address, taken apart, and how long it may take.
//!
//! The address is `redis://user:password@host:port/database`, or `rediss://` for TLS. What is wrong with one is said when
//! it is parsed, and not when the first view is read.

use std::{fmt, path::PathBuf, time::Duration};

use factum_core::Error;

/// The port where the address names none.
const PORT: u16 = 6379;

/// How long a connection may take to come about, TLS and password included: a server on the same continent answers in a
/// fifth of a second.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// How long an answer may take. The largest batch of a projection, 10,000 rows, keeps a server busy for a quarter of a
/// second, and others may be before it.
const CALL_MAX: Duration = Duration::from_secs(10);

/// How to reach a Redis server.
///
/// ```
/// use factum_redis::RedisOptions;
/// let options = RedisOptions::parse("rediss://views:secret@redis.example.org/0?ca=/etc/ca.pem")?;
/// assert_eq!(options.server(), "redis.example.org:6379");
/// let error = RedisOptions::parse("redis://localhost:port").unwrap_err();
/// assert_eq!(error.to_string(), "the address of Redis has port `port`, which is not a number from 1 to 65535");
/// # Ok::<_, factum_core::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisOptions {
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user; `None`: the server's `default`.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The number of the database.
    pub database: u32,
    /// Whether and how the connection is under TLS.
    pub tls: Option<RedisTls>,
    /// What all keys begin with: what keeps several systems in one database apart.
    pub key_prefix: String,
    /// How long a connection may take to come about.
    pub connect_max: Duration,
    /// How long an answer may take.
    pub call_max: Duration,
}

/// How a connection under TLS is made. The server's certificate is always verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisTls {
    /// The file of the authorities that are trusted; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// The files of our own certificate and its key, where the server wants one.
    pub own: Option<(PathBuf, PathBuf)>,
}

impl RedisOptions {
    /// The server at `url`: `redis://user:password@host:port/database`, or `rediss://` for TLS, there with
    /// `?ca=<file>` for the authorities that are trusted and `&cert=<file>&key=<file>` for our own certificate. User,
    /// password and files may have `%2F` and the like. All but the host may be missing.
    ///
    /// # Errors
    ///
    /// Class fatal, with what is wrong with it. The password is in no message.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| {
            wrong("has no scheme: it is `redis://host:port/database`, or `rediss://` for TLS")
        })?;
        let tls = match scheme {
            "redis" => None,
            "rediss" => Some(RedisTls::default()),
            other => {
                return Err(wrong(&format!(
                    "has scheme `{other}`, and only `redis` and `rediss` are known"
                )));
            }
        };
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // The last one: a password may have another, though it should be written `%40`.
        let (account, server) = match authority.rsplit_once('@') {
            Some((account, server)) => (Some(account), server),
            None => (None, authority),
        };
        let (user, password) = account.map_or(Ok((None, None)), credentials)?;
        let (host, port) = host_and_port(server)?;
        let database = match path {
            "" => 0,
            digits => digits.parse().map_err(|_| {
                wrong(&format!(
                    "has database `{digits}`, which is not a number, as Redis' are"
                ))
            })?,
        };
        let mut options = Self {
            host,
            port,
            user,
            password,
            database,
            tls,
            key_prefix: "factum".into(),
            connect_max: CONNECT_MAX,
            call_max: CALL_MAX,
        };
        options.take(parameters)?;
        Ok(options)
    }

    /// With keys that begin so: letters, digits, `.`, `_`, `-` and `:`. Braces would move the keys to other slots of a
    /// cluster.
    ///
    /// # Errors
    ///
    /// Class fatal when it has other characters.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Result<Self, Error> {
        let prefix = prefix.into();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
        if prefix.is_empty() || !prefix.chars().all(plain) {
            return Err(Error::fatal(format!(
                "`{prefix}` can't begin Redis' keys: that is letters, digits, `.`, `_`, `-` and `:`"
            )));
        }
        self.key_prefix = prefix;
        Ok(self)
    }

    /// With another time that an answer may take.
    #[must_use]
    pub fn call_max(mut self, call_max: Duration) -> Self {
        self.call_max = call_max;
        self
    }

    /// Where the server is, without anything secret: `host:port`.
    pub fn server(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn take(&mut self, parameters: &str) -> Result<(), Error> {
        let (mut certificate, mut key) = (None, None);
        for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let Some(tls) = &mut self.tls else {
                return Err(wrong(&format!(
                    "has parameter `{name}`, and `redis://` takes none: for TLS it is `rediss://`"
                )));
            };
            let file = || decoded(value).map(PathBuf::from);
            match name {
                "ca" => tls.ca = Some(file()?),
                "cert" => certificate = Some(file()?),
                "key" => key = Some(file()?),
                other => {
                    return Err(wrong(&format!(
                        "has parameter `{other}`, and only `ca`, `cert` and `key` are known"
                    )));
                }
            }
        }
        match (certificate, key) {
            (None, None) => {}
            (Some(certificate), Some(key)) => {
                if let Some(tls) = &mut self.tls {
                    tls.own = Some((certificate, key));
                }
            }
            _ => return Err(wrong("has one of `cert` and `key`, which go together")),
        }
        Ok(())
    }
}

/// Everything but the password.
impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("server", &self.server())
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "..."))
            .field("database", &self.database)
            .field("tls", &self.tls)
            .field("key_prefix", &self.key_prefix)
            .finish_non_exhaustive()
    }
}

fn wrong(what: &str) -> Error {
    Error::fatal(format!("the address of Redis {what}"))
}

/// `user:password`, `:password` or `user`.
fn credentials(account: &str) -> Result<(Option<String>, Option<String>), Error> {
    let (user, password) = match account.split_once(':') {
        Some((user, password)) => (user, Some(decoded(password)?)),
        None => (account, None),
    };
    let user = decoded(user)?;
    if password.as_ref().is_none_or(String::is_empty) && !user.is_empty() {
        return Err(wrong(&format!(
            "has user `{user}` without a password: it is `redis://user:password@host`"
        )));
    }
    Ok((
        Some(user).filter(|user| !user.is_empty()),
        password.filter(|password| !password.is_empty()),
    ))
}

fn host_and_port(server: &str) -> Result<(String, u16), Error> {
    let (host, port) = match server.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest
                .split_once(']')
                .ok_or_else(|| wrong("has `[` without `]`"))?;
            (host, behind.strip_prefix(':'))
        }
        None => match server.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (server, None),
        },
    };
    if host.is_empty() {
        return Err(wrong("names no host"));
    }
    let port = match port {
        None => PORT,
        Some(digits) => digits
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| {
                wrong(&format!(
                    "has port `{digits}`, which is not a number from 1 to 65535"
                ))
            })?,
    };
    Ok((host.into(), port))
}

/// A part of the address, with `%2F` and the like replaced.
fn decoded(value: &str) -> Result<String, Error> {
    let bad = || wrong("has a `%` that two hexadecimal digits don't follow: `%` itself is `%25`");
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        if *first == b'%' {
            let digits = behind
                .get(..2)
                .and_then(|digits| str::from_utf8(digits).ok());
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            bytes.push(byte.ok_or_else(bad)?);
            rest = &behind[2..];
        } else {
            bytes.push(*first);
            rest = behind;
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong("has bytes that are not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_who_where_and_which_database() {
        for (url, server, user, password, database, tls) in [
            ("redis://localhost", "localhost:6379", None, None, 0, false),
            (
                "redis://10.0.0.1:7000/3",
                "10.0.0.1:7000",
                None,
                None,
                3,
                false,
            ),
            ("redis://[::1]:7000/", "[::1]:7000", None, None, 0, false),
            ("redis://:p%40ss@h", "h:6379", None, Some("p@ss"), 0, false),
            (
                "rediss://u:p@s@h:1/0",
                "h:1",
                Some("u"),
                Some("p@s"),
                0,
                true,
            ),
        ] {
            let options = RedisOptions::parse(url).unwrap();
            assert_eq!(options.server(), server, "{url}");
            assert_eq!(options.user.as_deref(), user, "{url}");
            assert_eq!(options.password.as_deref(), password, "{url}");
            assert_eq!(
                (options.database, options.tls.is_some()),
                (database, tls),
                "{url}"
            );
        }
    }

    #[test]
    fn files_for_tls_come_behind_the_question_mark() {
        let options = RedisOptions::parse("rediss://h?ca=%2Fa%20b&cert=c&key=k").unwrap();
        let tls = options.tls.unwrap();
        assert_eq!(tls.ca, Some("/a b".into()));
        assert_eq!(tls.own, Some(("c".into(), "k".into())));
    }

    #[test]
    fn what_is_wrong_with_an_address_is_named() {
        for (url, what) in [
            ("localhost:6379", "no scheme"),
            ("http://h", "scheme `http`"),
            ("redis://", "no host"),
            ("redis://:6379", "no host"),
            ("redis://h:0", "port `0`"),
            ("redis://h:redis", "port `redis`"),
            ("redis://[::1", "without `]`"),
            ("redis://h/views", "database `views`"),
            ("redis://user@h", "user `user` without a password"),
            ("redis://u:%zz@h", "`%25`"),
            ("redis://h?ca=a", "`rediss://`"),
            ("rediss://h?verify=no", "parameter `verify`"),
            ("rediss://h?cert=a", "go together"),
        ] {
            let error = RedisOptions::parse(url).unwrap_err();
            assert!(
                error.is_fatal() && error.to_string().contains(what),
                "{url}: {error}"
            );
        }
    }

    #[test]
    fn the_password_is_shown_to_nobody() {
        let options = RedisOptions::parse("redis://u:hidden@h").unwrap();
        assert!(!format!("{options:?}").contains("hidden"));
        let error = RedisOptions::parse("redis://u:hidden@h:x").unwrap_err();
        assert!(!format!("{error:?}").contains("hidden"));
    }
}
