//! Addresses of engines, as the command line takes them: what is wrong with one is said with what would be right, and
//! without the password that may be in it.

use reqwest::Url;

/// Where stores are: in PostgreSQL, at this address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Store(pub(crate) String);

/// Where topics are: in Kafka, at this address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broker(pub(crate) String);

/// Where rows for queries are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Views {
    /// In the stores that they are made from.
    WithStores,
    /// In PostgreSQL.
    Postgres(String),
    /// In Redis.
    Redis(String),
    /// In Elasticsearch or OpenSearch.
    Elasticsearch(String),
}

/// The scheme of an address, and what is behind it.
fn scheme<'a>(text: &'a str, example: &str) -> Result<(&'a str, &'a str), String> {
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| format!("it names no engine: write it as `{example}`"))?;
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    if host.rsplit('@').next().unwrap_or_default().is_empty() {
        return Err(format!("it names no host: write it as `{example}`"));
    }
    Ok((scheme, rest))
}

pub(super) fn store(text: &str) -> Result<Store, String> {
    const EXAMPLE: &str = "postgres://user:password@127.0.0.1:5432/database";
    let (scheme, rest) = scheme(text, EXAMPLE)?;
    if !matches!(scheme, "postgres" | "postgresql") {
        return Err(format!(
            "stores are not kept in `{scheme}`, but in PostgreSQL: write it as `{EXAMPLE}` (or leave it out, and all \
             is in a directory)"
        ));
    }
    let path = rest.split('?').next().unwrap_or_default();
    if path
        .split_once('/')
        .is_none_or(|(_, database)| database.is_empty())
    {
        return Err(format!("it names no database: write it as `{EXAMPLE}`"));
    }
    Ok(Store(text.into()))
}

pub(super) fn broker(text: &str) -> Result<Broker, String> {
    const EXAMPLE: &str = "kafka://127.0.0.1:9092,127.0.0.1:9093";
    let (scheme, _) = scheme(text, EXAMPLE)?;
    if scheme != "kafka" {
        return Err(format!(
            "topics are not kept in `{scheme}`, but in Kafka: write it as `{EXAMPLE}`"
        ));
    }
    Ok(Broker(text.into()))
}

pub(super) fn views(text: &str) -> Result<Views, String> {
    const EXAMPLE: &str = "redis://127.0.0.1:6379/0` or `elasticsearch://127.0.0.1:9200` or, as the stores, `postgres://...";
    let (scheme, _) = scheme(text, EXAMPLE)?;
    match scheme {
        "postgres" | "postgresql" => Ok(Views::Postgres(store(text)?.0)),
        "redis" | "rediss" => Ok(Views::Redis(text.into())),
        "elasticsearch" | "elasticsearch+https" | "opensearch" | "opensearch+https" => {
            Ok(Views::Elasticsearch(text.into()))
        }
        _ => Err(format!(
            "rows are not kept in `{scheme}`: write it as `{EXAMPLE}`"
        )),
    }
}

pub(super) fn http(text: &str) -> Result<Url, String> {
    let example = "write it as `http://127.0.0.1:7402`";
    let url: Url = text
        .parse()
        .map_err(|error| format!("{error}: {example}"))?;
    if url.scheme() != "http" || url.host_str().is_none() {
        return Err(format!(
            "only plain HTTP is spoken between processes: {example}"
        ));
    }
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !is_bare || !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "an address has a host and a port, and nothing else: {example}"
        ));
    }
    Ok(url)
}

/// The longest prefix: names on the engines have bounds, PostgreSQL's the lowest.
const PREFIX_CHARS_MAX: usize = 30;

pub(super) fn prefix(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
    if begins && text.len() <= PREFIX_CHARS_MAX && text.chars().all(plain) {
        return Ok(text.into());
    }
    Err(format!(
        "a prefix has 1 to {PREFIX_CHARS_MAX} small letters, digits and `_`, a letter first: write it as `shop_`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refuses<T: std::fmt::Debug>(read: Result<T, String>, wanted: &[&str]) {
        let said = read.unwrap_err();
        for wanted in wanted {
            assert!(said.contains(wanted), "no {wanted:?} in: {said}");
        }
        assert!(!said.contains("secret"), "{said}");
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said_with_what_would_be_right() {
        refuses(store("db"), &["names no engine", "postgres://"]);
        refuses(
            store("mysql://me:secret@db/shop"),
            &["`mysql`", "PostgreSQL", "postgres://"],
        );
        refuses(store("postgres:///shop"), &["names no host"]);
        refuses(store("postgres://me:secret@/shop"), &["names no host"]);
        refuses(store("postgres://me:secret@db"), &["names no database"]);
        refuses(broker("nats://b:4222"), &["`nats`", "kafka://"]);
        refuses(
            views("mongodb://v/shop"),
            &["`mongodb`", "redis://", "elasticsearch://"],
        );
        refuses(views("https://v:9200"), &["elasticsearch://"]);
        refuses(http("https://a:1"), &["plain HTTP", "http://"]);
        refuses(http("a:1"), &["http://"]);
        for odd in ["http://a:1/shop", "http://me:secret@a:1", "http://a:1/?b"] {
            refuses(http(odd), &["nothing else", "http://"]);
        }
        for odd in ["", "A", "1a", "a-b", "한", &"a".repeat(31)] {
            refuses(prefix(odd), &["write it as `shop_`"]);
        }
    }

    #[test]
    fn right_addresses_are_taken_as_they_are() {
        let url = "postgres://me:secret@db:5432/shop?sslmode=verify-full";
        assert_eq!(store(url), Ok(Store(url.into())));
        let url = "kafka://me:secret@a:9092,[::1]:9093?sasl=SCRAM-SHA-512&tls=true";
        assert_eq!(broker(url), Ok(Broker(url.into())));
        assert_eq!(
            views("rediss://v:1/2"),
            Ok(Views::Redis("rediss://v:1/2".into()))
        );
        let url = "elasticsearch://v:9200";
        assert_eq!(views(url), Ok(Views::Elasticsearch(url.into())));
        assert_eq!(prefix("shop_7"), Ok("shop_7".into()));
    }
}
