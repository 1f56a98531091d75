//! Requests: how paths, queries and bodies are read, each with a bound, and with problems that name the field.
//!
//! A [`Route`](super::Route) has checked its requests by then, all fields at once; without one, the first that can't be
//! read is named.

use std::time::Duration;

use axum::{
    body::{Body, BodyDataStream},
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Problem;

/// The largest body that is read: the largest message of a topic, in base64, and room for the rest.
pub const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How much of a body that is too large is heard, and forgotten.
const PASSED_OVER_MAX: usize = 4 * BODY_BYTES_MAX;
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
        let bytes = read_json(&parts.headers, body).await?;
        parse_body(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for FromBodyOrDefault<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if is_empty(request.body()) {
            return Ok(Self(T::default()));
        }
        FromBody::from_request(request, state)
            .await
            .map(|FromBody(value)| Self(value))
    }
}

/// Whether there is no body.
pub(super) fn is_empty(body: &Body) -> bool {
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

/// Reads a body that is said to be JSON.
pub(super) async fn read_json(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    if !is_json(headers) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not-json",
            "The body is not JSON",
            "send JSON, and say so: `Content-Type: application/json`",
        ));
    }
    read_body(headers, body).await
}

/// Reads a body, whatever it is.
///
/// # Errors
///
/// When it is larger than [`BODY_BYTES_MAX`], takes longer than [`BODY_READ_MAX`], or breaks off.
pub async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
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
        // Who waits to be told to go on sends nothing.
        if !headers.contains_key(header::EXPECT) {
            tokio::spawn(pass_over(body.into_data_stream()));
        }
        return Err(too_large());
    }
    let arriving = async {
        let mut bytes = BytesMut::new();
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Problem::unreadable("the body broke off"))?;
            if bytes.len() + chunk.len() > BODY_BYTES_MAX {
                tokio::spawn(pass_over(chunks));
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

/// Hears the rest of a body that is refused, as far as is bearable: a client that is still sending when the connection ends
/// would see that, and not the answer.
async fn pass_over(mut chunks: BodyDataStream) {
    let hearing = async {
        let mut left = PASSED_OVER_MAX;
        while let Some(Ok(chunk)) = chunks.next().await {
            let Some(less) = left.checked_sub(chunk.len()) else {
                break;
            };
            left = less;
        }
    };
    // Whoever takes longer has had the time to see the answer.
    let _heard = tokio::time::timeout(BODY_READ_MAX, hearing).await;
}

/// The one JSON value that `bytes` are.
pub(super) fn as_json(bytes: &[u8]) -> Result<&RawValue, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Problem::unreadable(format!(
            "the body is not one JSON value: it can be read up to line {line}, column {column}"
        ))
    })
}

fn parse_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let value = as_json(bytes)?.get();
    // What is derived reads an array as well, by the order of the fields.
    if !value.starts_with('{') {
        return Err(
            Problem::invalid("the body has to be a JSON object, such as `{}`")
                .field("body", "must be a JSON object"),
        );
    }
    let mut json = serde_json::Deserializer::from_str(value);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        wrong_field(&field, &error.into_inner().to_string())
    })
}

/// A field that can't be read, in the words of an API: the reader's own are for those who know its language. It names
/// fields that are missing or unknown in these words only.
fn wrong_field(path: &str, message: &str) -> Problem {
    let named = |start: &str| message.strip_prefix(start)?.split('`').next();
    let (missing, unknown) = (named("missing field `"), named("unknown field `"));
    let field = match (path, missing.or(unknown)) {
        ("." | "", Some(named)) => named.to_owned(),
        // The path of an unknown field ends with it already.
        (path, Some(named)) if path == named || path.ends_with(&format!(".{named}")) => {
            path.to_owned()
        }
        (path, Some(named)) => format!("{path}.{named}"),
        (path, None) => path.to_owned(),
    };
    let what = match (missing, unknown) {
        (Some(_), _) => "is missing",
        (_, Some(_)) => "is not known here",
        _ => "can't be read: see the description of this API",
    };
    Problem::invalid("the request can't be taken as it is: see `errors`").field(field, what)
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for FromQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parse_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    // Read as pairs first: the reader of pairs alone knows the name of a value that it can't read.
    let pairs = pairs(query)?;
    let pairs = serde::de::value::MapDeserializer::new(
        pairs.into_iter().map(|(name, value)| (name, Loose(value))),
    );
    serde_path_to_error::deserialize(pairs).map_err(
        |error: serde_path_to_error::Error<serde::de::value::Error>| {
            let field = error.path().to_string();
            wrong_field(&field, &error.into_inner().to_string())
        },
    )
}

/// The names and values of a query.
pub(super) fn pairs(query: &str) -> Result<Vec<(String, String)>, Problem> {
    serde_urlencoded::from_str(query).map_err(|_| {
        Problem::unreadable("the query can't be read: write it as `name=value&name=value`")
    })
}

/// A query's value: a text that also reads as a number or a truth value where one is wanted.
struct Loose(String);

macro_rules! parsed {
    ($($method:ident => $visit:ident),* $(,)?) => {$(
        fn $method<V: serde::de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            match self.0.parse() {
                Ok(value) => visitor.$visit(value),
                Err(_) => visitor.visit_string(self.0),
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
        deserialize_bool => visit_bool,
        deserialize_u16 => visit_u16,
        deserialize_u32 => visit_u32,
        deserialize_u64 => visit_u64,
        deserialize_i64 => visit_i64,
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
            Err(_) => Err(Problem::not_found("the path names nothing")),
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
