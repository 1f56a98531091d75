//! Requests: how paths, queries and bodies are read, each with a bound, and with problems that name the field.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::Problem;

/// The largest body that is read: the largest message of a topic, in base64, and room for the rest.
pub const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What a problem calls the body as a whole.
const BODY: &str = "body";
/// How long a body may take to arrive.
pub const BODY_READ_MAX: Duration = Duration::from_secs(10);

/// A request's JSON body as a `T`.
///
/// Give `T` the attribute `deny_unknown_fields`, so that a misspelt field is an error that names it.
#[derive(Clone, Copy, Debug)]
pub struct FromBody<T>(pub T);

/// A request's JSON body as a `T`, or the default when there is no body.
#[derive(Clone, Copy, Debug)]
pub struct FromBodyOrDefault<T>(pub T);

/// A request's query as a `T`, which should deny unknown fields, too.
#[derive(Clone, Copy, Debug)]
pub struct FromQuery<T>(pub T);

/// The parameters in a request's path as a `T`.
#[derive(Clone, Copy, Debug)]
pub struct FromPath<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for FromBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not-json",
                "The body is not JSON",
                "send JSON, and say so: `Content-Type: application/json`",
            ));
        }
        let bytes = read(&parts.headers, body).await?;
        parse_body(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for FromBodyOrDefault<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if http_body_is_empty(request.body()) {
            return Ok(Self(T::default()));
        }
        FromBody::from_request(request, state)
            .await
            .map(|FromBody(value)| Self(value))
    }
}

fn http_body_is_empty(body: &Body) -> bool {
    use hyper::body::Body as _;
    body.is_end_stream()
}

/// Whether the body is said to be JSON. Browsers can't say so to another site without asking it before.
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "The body is too large",
            format!("a body may have {BODY_BYTES_MAX} bytes at most"),
        )
    };
    // A stated length is believed when it is too large; when it is not, the bytes are counted all the same.
    let stated = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if stated.is_some_and(|stated| stated > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let arriving = async {
        let mut bytes = BytesMut::new();
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk
                .map_err(|error| Problem::unreadable(format!("the body broke off: {error}")))?;
            if bytes.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    };
    let too_slow = || {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-too-slow",
            "The body came too slowly",
            format!(
                "a body has to arrive within {} seconds",
                BODY_READ_MAX.as_secs()
            ),
        )
    };
    tokio::time::timeout(BODY_READ_MAX, arriving)
        .await
        .unwrap_or_else(|_| Err(too_slow()))
}

fn parse_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    expect_object(bytes)?;
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let error = error.into_inner();
        if !error.is_data() {
            return Problem::unreadable(format!("the body is not JSON: {error}"));
        }
        wrong_field(
            "the body has a field that is not right",
            &field,
            &without_place(&error.to_string()),
        )
    })?;
    json.end().map_err(|error| {
        Problem::unreadable(format!("the body is more than one JSON value: {error}"))
    })?;
    Ok(value)
}

/// Refuses a body that is another JSON value: what is derived reads an array as well, by the order of the fields.
fn expect_object(bytes: &[u8]) -> Result<(), Problem> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let what = match first {
        Some(b'[') => "an array",
        Some(b'"') => "a text",
        Some(b'-' | b'0'..=b'9') => "a number",
        Some(b't' | b'f') => "a truth value",
        Some(b'n') => "null",
        // An object, or nothing that can be read: the reader says what is wrong with it.
        _ => return Ok(()),
    };
    // What is no JSON at all is a mistake of another kind.
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes)
        .map_err(|error| Problem::unreadable(format!("the body is not JSON: {error}")))?;
    Err(Problem::invalid(format!(
        "the body has to be a JSON object, such as `{{}}`, and is {what}"
    ))
    .field(BODY, "must be a JSON object"))
}

/// The field's own message; where a field is missing or unknown, serde names it only there.
fn wrong_field(detail: &str, path: &str, message: &str) -> Problem {
    let named = ["missing field `", "unknown field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start)?.split('`').next());
    let field = match (path, named) {
        ("." | "", Some(named)) => named.to_owned(),
        // The path of an unknown field ends with it already.
        (path, Some(named)) if path == named || path.ends_with(&format!(".{named}")) => {
            path.to_owned()
        }
        (path, Some(named)) => format!("{path}.{named}"),
        (path, None) => path.to_owned(),
    };
    let message = if message.starts_with("missing field") {
        "is missing"
    } else {
        message
    };
    Problem::invalid(detail).field(field, message)
}

/// The message without ` at line 1 column 17`: the field says more.
fn without_place(message: &str) -> String {
    message
        .rsplit_once(" at line ")
        .map_or(message, |(message, _)| message)
        .to_owned()
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for FromQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parse_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    // Read as pairs first: the reader of pairs alone knows the name of a value that it can't read.
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query)
        .map_err(|error| Problem::unreadable(format!("the query can't be read: {error}")))?;
    let pairs = serde::de::value::MapDeserializer::new(
        pairs.into_iter().map(|(name, value)| (name, Loose(value))),
    );
    serde_path_to_error::deserialize(pairs).map_err(
        |error: serde_path_to_error::Error<serde::de::value::Error>| {
            let field = error.path().to_string();
            wrong_field(
                "the query has a parameter that is not right",
                &field,
                &error.into_inner().to_string(),
            )
        },
    )
}

/// A query's value: a text that also reads as a number or a truth value where one is wanted.
struct Loose(String);

macro_rules! parsed {
    ($($method:ident => $visit:ident: $what:literal),* $(,)?) => {$(
        fn $method<V: serde::de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            match self.0.parse() {
                Ok(value) => visitor.$visit(value),
                Err(_) => Err(serde::de::Error::custom(format!(
                    concat!("`{}` is not ", $what),
                    self.0.chars().take(60).collect::<String>(),
                ))),
            }
        }
    )*};
}

impl<'de> serde::Deserializer<'de> for Loose {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: serde::de::Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: serde::de::Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: serde::de::Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(serde::de::value::StringDeserializer::new(self.0))
    }

    fn deserialize_newtype_struct<V: serde::de::Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    parsed! {
        deserialize_bool => visit_bool: "`true` or `false`",
        deserialize_u16 => visit_u16: "a number from 0 to 65535",
        deserialize_u32 => visit_u32: "a number from 0 to 4294967295",
        deserialize_u64 => visit_u64: "a number from 0 on",
        deserialize_i64 => visit_i64: "a whole number",
    }

    serde::forward_to_deserialize_any! {
        u8 i8 i16 i32 i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

impl serde::de::IntoDeserializer<'_, serde::de::value::Error> for Loose {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for FromPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::not_found(format!(
                "the path names nothing: {}",
                rejection.body_text()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read for its errors only")]
    struct Order {
        items: Vec<Item>,
        #[serde(default)]
        page: u32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read for its errors only")]
    struct Item {
        qty: u32,
    }

    fn body_problem(text: &str) -> String {
        format!("{:?}", parse_body::<Order>(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn a_wrong_body_names_the_field() {
        for (text, field) in [
            (r#"{"items":[{"qty":-1}]}"#, "items[0].qty"),
            (r#"{"items":[{}]}"#, "items[0].qty"),
            (r#"{"items":[{"qty":1,"colour":2}]}"#, "items[0].colour"),
            (r#"{"colour":2}"#, "colour"),
            ("{}", "items"),
        ] {
            let problem = body_problem(text);
            assert!(
                problem.contains(&format!("field: \"{field}\"")),
                "{text}: {problem}"
            );
            assert!(problem.contains("status: 422"), "{text}: {problem}");
        }
    }

    /// `["Kim", "kim@example.org"]` once registered a user.
    #[test]
    fn a_body_that_is_no_object_is_refused_though_its_fields_would_fit() {
        for text in [
            r#"[[{"qty":1}],2]"#,
            " [] ",
            "7",
            "-7",
            "null",
            "true",
            "\"x\"",
        ] {
            let problem = body_problem(text);
            assert!(
                problem.contains("status: 422") && problem.contains("field: \"body\""),
                "{text}: {problem}"
            );
        }
    }

    #[test]
    fn a_body_that_is_no_json_is_unreadable() {
        let deep = "[".repeat(100_000);
        for text in ["", "{", "{} {}", deep.as_str(), "\u{0}"] {
            assert!(
                parse_body::<serde_json::Value>(text.as_bytes())
                    .unwrap_err()
                    .status()
                    == 400,
                "{text:.20}"
            );
        }
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        page: Option<u32>,
        name: Option<String>,
    }

    #[test]
    fn a_query_reads_numbers_and_texts_and_names_what_is_wrong() {
        let asked: Asked = parse_query("page=7&name=7").unwrap();
        assert_eq!(
            asked,
            Asked {
                page: Some(7),
                name: Some("7".into())
            }
        );
        assert_eq!(
            parse_query::<Asked>("").unwrap(),
            Asked {
                page: None,
                name: None
            }
        );
        for (query, field) in [("page=x", "page"), ("page=-1", "page"), ("pgae=1", "pgae")] {
            let problem = format!("{:?}", parse_query::<Asked>(query).unwrap_err());
            assert!(
                problem.contains(&format!("field: \"{field}\"")),
                "{query}: {problem}"
            );
        }
    }
}
