//! Connecting: the address as people write it, TLS, and what each new session is told.

use std::{str::FromStr as _, time::Duration};

use factum_core::Error;
use tokio_postgres::{
    AsyncMessage, Config, NoTls,
    config::{Host, SslMode},
};

use crate::{
    connection::Connection,
    error::Doing,
    options::PostgresOptions,
    tls::{Certificates, Tls, Verify},
};

/// How long a connection may take to be made, unless the address says.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// After this time without an answer from the server's machine, a connection counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// How many notifications wait to be looked at; they all say "look again", so that more are not needed.
const NOTIFICATIONS_MAX: usize = 64;

/// Makes connections to one database.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Config,
    tls: Option<Tls>,
    settings: String,
    pooled: bool,
}

impl Connector {
    /// Reads the address of `options`.
    pub(crate) fn new(options: &PostgresOptions) -> Result<Self, Error> {
        let address = Address::parse(&options.url)?;
        let mut config = Config::from_str(&address.plain).map_err(|error| {
            Error::fatal("the address of PostgreSQL can't be read: write `postgres://user:password@host:port/database`")
                .caused_by(error)
        })?;
        config.ssl_mode(address.mode);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_MAX);
        }
        if config.get_application_name().is_none() {
            config.application_name("factum");
        }
        config.keepalives_idle(SILENCE_MAX / 3);
        config.keepalives_interval(SILENCE_MAX / 3);
        config.keepalives_retries(3);
        config.tcp_user_timeout(SILENCE_MAX);
        let tls = match address.verify {
            None => None,
            Some(verify) => Some(Tls::new(verify, &address.certificates)?),
        };
        if tls.is_none() && config.get_hosts().is_empty() {
            return Err(Error::fatal("the address of PostgreSQL names no host"));
        }
        let millis = |time: Duration| time.as_millis().max(1);
        let (statement, idle) = (millis(options.statement_max), millis(options.idle_max));
        let settings = format!(
            "statement_timeout = {statement}, lock_timeout = {statement}, idle_in_transaction_session_timeout = {idle}"
        );
        Ok(Self {
            config,
            tls,
            settings,
            pooled: options.pooled,
        })
    }

    /// Where it leads, for people: without the password.
    pub(crate) fn describe(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            _ => "a local socket".into(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        format!(
            "{host}:{port}/{}",
            self.config.get_dbname().unwrap_or_default()
        )
    }

    /// What begins a transaction whose statements are sent together.
    pub(crate) fn begin(&self) -> String {
        if self.pooled {
            let settings = self.settings.replace(", ", "; SET LOCAL ");
            format!("BEGIN; SET LOCAL {settings}")
        } else {
            "BEGIN".into()
        }
    }

    /// Makes a connection. What arrives besides answers is given to `heard`.
    pub(crate) async fn connect(&self) -> Result<Connection, Error> {
        self.connect_hearing(None).await
    }

    /// Makes a connection, and tells by `heard` what arrives besides answers.
    pub(crate) async fn connect_hearing(
        &self,
        heard: Option<tokio::sync::mpsc::Sender<String>>,
    ) -> Result<Connection, Error> {
        const WHAT: &str = "connect to PostgreSQL";
        let client = match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await.doing(WHAT)?;
                drive(connection, heard);
                client
            }
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await.doing(WHAT)?;
                drive(connection, heard);
                client
            }
        };
        if !self.pooled {
            let settings = self.settings.replace(", ", "; SET ");
            client
                // Just-in-time compilation takes longer than any of our statements.
                .batch_execute(&format!("SET {settings}; SET jit = off"))
                .await
                .doing(WHAT)?;
        }
        Ok(Connection::new(client, !self.pooled))
    }

    /// A connection that also hears notifications: their payloads come out of the receiver, which ends with the
    /// connection.
    pub(crate) async fn listen(
        &self,
        channel: &str,
    ) -> Result<(Connection, tokio::sync::mpsc::Receiver<String>), Error> {
        let (heard, notifications) = tokio::sync::mpsc::channel(NOTIFICATIONS_MAX);
        let connection = self.connect_hearing(Some(heard)).await?;
        connection
            .client
            .batch_execute(&format!("LISTEN {channel}"))
            .await
            .doing("listen to PostgreSQL")?;
        Ok((connection, notifications))
    }
}

/// Lets a connection work until its client is dropped.
fn drive<S, T>(
    mut connection: tokio_postgres::Connection<S, T>,
    heard: Option<tokio::sync::mpsc::Sender<String>>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        loop {
            match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                Some(Ok(AsyncMessage::Notification(notification))) => {
                    if let Some(heard) = &heard {
                        // A full channel says "look again" often enough.
                        heard
                            .try_send(notification.payload().to_string())
                            .unwrap_or_default();
                    }
                }
                Some(Ok(_)) => {}
                // Whoever waits for an answer is told.
                Some(Err(_)) | None => return,
            }
        }
    });
}

/// An address, taken apart.
struct Address {
    /// Without what tokio-postgres does not know.
    plain: String,
    mode: SslMode,
    verify: Option<Verify>,
    certificates: Certificates,
}

impl Address {
    fn parse(url: &str) -> Result<Self, Error> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut mode = "prefer".to_string();
        let mut certificates = Certificates::default();
        let (mut certificate, mut key) = (None, None);
        let mut others = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name {
                "sslmode" => mode = decoded(value),
                "sslrootcert" => certificates.root = Some(decoded(value)),
                "sslcert" => certificate = Some(decoded(value)),
                "sslkey" => key = Some(decoded(value)),
                _ => others.push(parameter),
            }
        }
        certificates.own = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                return Err(Error::fatal(
                    "`sslcert` and `sslkey` go together in the address of PostgreSQL",
                ));
            }
        };
        let (ssl, verify) = match mode.as_str() {
            "disable" => (SslMode::Disable, None),
            "allow" | "prefer" => (SslMode::Prefer, Some(Verify::Nothing)),
            // As libpq does: who names an authority wants it to be looked at.
            "require" if certificates.root.is_some() => (SslMode::Require, Some(Verify::Authority)),
            "require" => (SslMode::Require, Some(Verify::Nothing)),
            "verify-ca" => (SslMode::Require, Some(Verify::Authority)),
            "verify-full" => (SslMode::Require, Some(Verify::Host)),
            other => {
                return Err(Error::fatal(format!(
                    "`sslmode={other}` is none of disable, allow, prefer, require, verify-ca and verify-full"
                )));
            }
        };
        let plain = if others.is_empty() {
            base.to_string()
        } else {
            format!("{base}?{}", others.join("&"))
        };
        Ok(Self {
            plain,
            mode: ssl,
            verify,
            certificates,
        })
    }
}

/// A value of an address, with `%2F` and the like replaced; what is no text then is left as it is.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let escaped = (*first == b'%')
            .then(|| behind.get(..2))
            .flatten()
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = escaped {
            bytes.push(byte);
            rest = &behind[2..];
        } else {
            bytes.push(*first);
            rest = behind;
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_how_much_is_verified() {
        let read = |query: &str| {
            Address::parse(&format!("postgres://u:p@h/d{query}"))
                .map(|address| (address.plain, address.verify))
        };
        let plain = "postgres://u:p@h/d".to_string();
        for (query, verify) in [
            ("", Some(Verify::Nothing)),
            ("?sslmode=disable", None),
            ("?sslmode=prefer", Some(Verify::Nothing)),
            ("?sslmode=require", Some(Verify::Nothing)),
            ("?sslmode=require&sslrootcert=/a", Some(Verify::Authority)),
            ("?sslmode=verify-ca", Some(Verify::Authority)),
            (
                "?sslrootcert=%2Fa%20b&sslmode=verify-full",
                Some(Verify::Host),
            ),
        ] {
            assert_eq!(read(query).unwrap(), (plain.clone(), verify), "{query}");
        }
        assert_eq!(
            read("?connect_timeout=3&sslmode=require").unwrap().0,
            "postgres://u:p@h/d?connect_timeout=3"
        );
        for bad in ["?sslmode=on", "?sslmode=", "?sslcert=a", "?sslkey=a"] {
            assert!(read(bad).unwrap_err().is_fatal(), "{bad}");
        }
    }

    #[test]
    fn file_names_in_an_address_may_be_escaped() {
        for (value, expected) in [
            ("/a/b", "/a/b"),
            ("%2Fa%20b", "/a b"),
            ("%", "%"),
            ("%zz", "%zz"),
            ("100%", "100%"),
            ("%ec%a3%bc", "주"),
        ] {
            assert_eq!(decoded(value), expected);
        }
    }
}
