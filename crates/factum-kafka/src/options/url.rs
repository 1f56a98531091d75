//! Options out of an address, with errors that say what would be right.

use std::{path::PathBuf, time::Duration};

use factum_core::Error;

use super::{Compression, GroupProtocol, KafkaOptions, Mechanism, Sasl, Tls};

const SHAPE: &str = "write it as in `kafka://host:9092,host:9092?replication=3`";
const PORT: &str = "9092";

/// What may stand behind the `?`; `rdkafka.` and a setting's name may too.
const NAMES: &[&str] = &[
    "accept_weak_topics",
    "client",
    "compression",
    "group_protocol",
    "in_flight_bytes_max",
    "in_flight_messages_max",
    "instance",
    "message_bytes_max",
    "patience_ms",
    "prefetch_bytes_max",
    "replication",
    "sasl",
    "stall_max_ms",
    "tls",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "tls_name",
];

/// See [`KafkaOptions::parse`].
pub(super) fn parse(url: &str) -> Result<KafkaOptions, Error> {
    let Some(rest) = url.strip_prefix("kafka://") else {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        return Err(wrong(format!(
            "a broker's address begins with `kafka://` and not with `{scheme}`: {SHAPE}"
        )));
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    // A password may hold an `@`, a host can't.
    let (user, hosts) = match rest.rsplit_once('@') {
        Some((user, hosts)) => (Some(user), hosts),
        None => (None, rest),
    };
    let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
    let servers = hosts.split(',').map(server);
    let mut options = KafkaOptions::new(servers.collect::<Result<Vec<_>, _>>()?);
    let mut given = Given::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| wrong(format!("`{pair}` has no value: write `{pair}=…`")))?;
        set(&mut options, &mut given, name, decoded(name, value)?)?;
    }
    options.tls = given.tls()?;
    options.sasl = sasl(user, given.mechanism)?;
    Ok(options)
}

/// What comes in several values.
#[derive(Default)]
struct Given {
    tls: Option<bool>,
    parts: Tls,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    mechanism: Option<Mechanism>,
}

impl Given {
    fn tls(&mut self) -> Result<Option<Tls>, Error> {
        let mut tls = std::mem::take(&mut self.parts);
        tls.certificate = match (self.certificate.take(), self.key.take()) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                return Err(wrong(
                    "`tls_cert` and `tls_key` belong together: give both, or none".into(),
                ));
            }
        };
        let is_plain = tls == Tls::default();
        match self.tls {
            Some(false) | None if is_plain => Ok(None),
            // Who names a certificate and forgets `tls=true` must not talk in the clear.
            Some(true) | None => Ok(Some(tls)),
            Some(false) => Err(wrong(
                "`tls=false` contradicts the other `tls_` options: leave one of them out".into(),
            )),
        }
    }
}

fn server(text: &str) -> Result<String, Error> {
    let bad = |why: &str| Err(wrong(format!("`{text}` is no broker: {why}; {SHAPE}")));
    // `[::1]:9092` is an address of IPv6.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, PORT),
    };
    if host.is_empty() {
        return bad("the host is missing");
    }
    if host.contains(['/', ' ']) || (host.contains(':') && !host.starts_with('[')) {
        return bad("that is no name of a host");
    }
    if port.parse::<u16>().is_err() {
        return bad("a port is a number up to 65535");
    }
    Ok(format!("{host}:{port}"))
}

fn sasl(user: Option<&str>, mechanism: Option<Mechanism>) -> Result<Option<Sasl>, Error> {
    let (user, mechanism) = match (user, mechanism) {
        (None, None) => return Ok(None),
        (Some(user), Some(mechanism)) => (user, mechanism),
        (Some(_), None) => {
            return Err(wrong(
                "there is a user and no `sasl`: say how the password is shown, as `sasl=SCRAM-SHA-512`"
                    .into(),
            ));
        }
        (None, Some(_)) => {
            return Err(wrong(
                "`sasl` needs a user: write `kafka://user:password@host:9092`".into(),
            ));
        }
    };
    let Some((user, password)) = user.split_once(':') else {
        return Err(wrong(
            "the user has no password: write `kafka://user:password@host:9092`".into(),
        ));
    };
    Ok(Some(Sasl {
        mechanism,
        user: decoded("user", user)?,
        password: decoded("password", password)?,
    }))
}

fn set(
    options: &mut KafkaOptions,
    given: &mut Given,
    name: &str,
    value: String,
) -> Result<(), Error> {
    match name {
        "accept_weak_topics" => options.accept_weak_topics = truth(name, &value)?,
        "client" => options.client = value,
        "compression" => {
            options.compression = one_of(
                name,
                &value,
                &[
                    ("none", Compression::None),
                    ("gzip", Compression::Gzip),
                    ("snappy", Compression::Snappy),
                    ("lz4", Compression::Lz4),
                    ("zstd", Compression::Zstd),
                ],
            )?;
        }
        "group_protocol" => {
            options.group_protocol = one_of(
                name,
                &value,
                &[
                    ("classic", GroupProtocol::Classic),
                    ("consumer", GroupProtocol::Consumer),
                ],
            )?;
        }
        "in_flight_bytes_max" => options.in_flight_bytes_max = number(name, &value)?,
        "in_flight_messages_max" => options.in_flight_messages_max = number(name, &value)?,
        "instance" => options.instance = Some(value),
        "message_bytes_max" => options.message_bytes_max = number(name, &value)?,
        "patience_ms" => options.patience = Duration::from_millis(number(name, &value)?),
        "prefetch_bytes_max" => options.prefetch_bytes_max = number(name, &value)?,
        "replication" => options.replication = Some(number(name, &value)?),
        "sasl" => {
            given.mechanism = Some(one_of(
                name,
                &value,
                &[
                    ("PLAIN", Mechanism::Plain),
                    ("SCRAM-SHA-256", Mechanism::ScramSha256),
                    ("SCRAM-SHA-512", Mechanism::ScramSha512),
                ],
            )?);
        }
        "stall_max_ms" => options.stall_max = Duration::from_millis(number(name, &value)?),
        "tls" => given.tls = Some(truth(name, &value)?),
        "tls_ca" => given.parts.authorities = Some(value.into()),
        "tls_cert" => given.certificate = Some(value.into()),
        "tls_key" => given.key = Some(value.into()),
        "tls_name" => {
            given.parts.any_name = one_of(name, &value, &[("any", true), ("own", false)])?;
        }
        _ => {
            let Some(setting) = name.strip_prefix("rdkafka.") else {
                let known: Vec<_> = NAMES.iter().map(|known| format!("`{known}`")).collect();
                return Err(wrong(format!(
                    "unknown option `{name}` (known: {}, and `rdkafka.<setting>`)",
                    known.join(", ")
                )));
            };
            options.settings.insert(setting.to_owned(), value);
        }
    }
    Ok(())
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, Error> {
    value
        .parse()
        .map_err(|_| wrong(format!("`{name}` is a number and not `{value}`")))
}

fn truth(name: &str, value: &str) -> Result<bool, Error> {
    one_of(name, value, &[("true", true), ("false", false)])
}

fn one_of<T: Copy>(name: &str, value: &str, known: &[(&str, T)]) -> Result<T, Error> {
    let found = known.iter().find(|(text, _)| *text == value);
    found.map(|(_, found)| *found).ok_or_else(|| {
        let known: Vec<_> = known.iter().map(|(text, _)| format!("`{text}`")).collect();
        wrong(format!(
            "`{name}` can't be `{value}`: it is one of {}",
            known.join(", ")
        ))
    })
}

/// With `%40` as `@`, and so on.
fn decoded(name: &str, text: &str) -> Result<String, Error> {
    let bad = || {
        wrong(format!(
            "the {name} has a `%` that is no escape: write `%25` for a `%`"
        ))
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit(rest.next()), digit(rest.next()));
        let (Some(high), Some(low)) = (high, low) else {
            return Err(bad());
        };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| bad())?);
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

fn wrong(why: String) -> Error {
    Error::fatal(why).while_("reading the broker's address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_short_or_say_everything() {
        let short = parse("kafka://localhost").unwrap();
        assert_eq!(short.servers, ["localhost:9092"]);
        assert_eq!((short.tls, short.sasl), (None, None));

        let long = parse(
            "kafka://al%40ice:p%3Aa@s%25s@one:1,[::1]:2,three/?sasl=SCRAM-SHA-512&tls_ca=/etc/ca.pem&instance=a-1\
             &compression=lz4&group_protocol=consumer&stall_max_ms=500&rdkafka.client.rack=r%201",
        )
        .unwrap();
        assert_eq!(long.servers, ["one:1", "[::1]:2", "three:9092"]);
        let sasl = long.sasl.unwrap();
        assert_eq!((&*sasl.user, &*sasl.password), ("al@ice", "p:a@s%s"));
        assert_eq!(sasl.mechanism, Mechanism::ScramSha512);
        assert_eq!(long.tls.unwrap().authorities, Some("/etc/ca.pem".into()));
        assert_eq!(long.instance.as_deref(), Some("a-1"));
        assert_eq!(long.compression, Compression::Lz4);
        assert_eq!(long.group_protocol, GroupProtocol::Consumer);
        assert_eq!(long.stall_max, Duration::from_millis(500));
        assert_eq!(long.settings["client.rack"], "r 1");
    }

    #[test]
    fn an_address_that_is_wrong_says_what_would_be_right() {
        for (url, right) in [
            ("amqp://localhost", "kafka://"),
            ("localhost:9092", "kafka://"),
            ("kafka://", "host is missing"),
            ("kafka://a,,b", "host is missing"),
            ("kafka://a:99999", "65535"),
            ("kafka://a/b", "no name of a host"),
            ("kafka://a?replication", "replication=…"),
            ("kafka://a?replication=three", "number"),
            ("kafka://a?replicas=3", "`replication`"),
            ("kafka://a?tls=yes", "`true`, `false`"),
            ("kafka://a?tls=false&tls_ca=x", "contradicts"),
            ("kafka://a?tls_cert=x", "belong together"),
            ("kafka://u:p@a", "sasl=SCRAM-SHA-512"),
            ("kafka://a?sasl=PLAIN", "user:password@"),
            ("kafka://u@a?sasl=PLAIN", "user:password@"),
            ("kafka://u:p%zz@a?sasl=PLAIN", "%25"),
            ("kafka://u:p@a?sasl=GSSAPI", "`SCRAM-SHA-256`"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.is_fatal());
            assert!(error.to_string().contains(right), "{url}: {error}");
        }
    }

    #[test]
    fn a_password_is_told_to_nobody() {
        let options = parse("kafka://u:secret@a?sasl=PLAIN&rdkafka.ssl.key.password=secret");
        assert!(!format!("{:?}", options.unwrap()).contains("secret"));
        for url in ["kafka://u:secret@a", "kafka://u:secret%@a?sasl=PLAIN"] {
            assert!(!parse(url).unwrap_err().to_string().contains("secret"));
        }
    }
}
