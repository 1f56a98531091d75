//! Values of messages, as they are shown and given: JSON when that says every byte of them to every reader, else base64.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use factum::{Headers, Json, Key};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::web::Problem;

/// A value: as JSON, or in base64 when it is none that every program reads, or has spaces around it. Neither, when
/// there is no value.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Content {
    /// The value, when it is JSON, as it was written, byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub(crate) json: Option<Json>,
    /// The value in base64, when it is not JSON, or not only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base64: Option<String>,
}

impl Content {
    pub(crate) fn of(value: Option<&Bytes>) -> Self {
        let Some(value) = value else {
            return Self::default();
        };
        match str::from_utf8(value).ok().and_then(plain_json) {
            Some(json) => Self {
                json: Some(json),
                base64: None,
            },
            None => Self {
                json: None,
                base64: Some(BASE64_STANDARD.encode(value)),
            },
        }
    }
}

/// `text` as JSON, when it is nothing else, and every reader can read the answer that it stands in: one value nested
/// too deep, or one number too large, would hide all others from most programs.
fn plain_json(text: &str) -> Option<Json> {
    serde_json::from_str::<serde_json::Value>(text).ok()?;
    let json = Json::parse(text).ok()?;
    (json.as_str().len() == text.len()).then_some(json)
}

/// A header: its value as text, or in base64 when it is none.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct HeaderView {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl HeaderView {
    pub(crate) fn all(headers: &Headers) -> Vec<Self> {
        let view = |(name, value): (&str, &Bytes)| {
            let text = str::from_utf8(value).ok().map(str::to_owned);
            let base64 = text.is_none().then(|| BASE64_STANDARD.encode(value));
            Self {
                name: name.to_owned(),
                text,
                base64,
            }
        };
        headers.iter().map(view).collect()
    }
}

/// A key as text; bytes that are not UTF-8 are shown as `\xNN`.
pub(crate) fn key_text(key: Option<&Key>) -> Option<String> {
    key.map(Key::to_string)
}

/// A member that tells `null` from its absence, and keeps what was written byte for byte.
pub(crate) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// What has to be there of the members that [`given`] takes, as a schema says it.
pub(crate) fn one_of_the_values() -> serde_json::Value {
    serde_json::json!([{ "required": ["value"] }, { "required": ["value_base64"] }])
}

/// The bytes that a request gives as a value: JSON as it was written, or base64.
pub(crate) fn given(json: Option<Box<RawValue>>, base64: Option<&str>) -> Result<Bytes, Problem> {
    match (json, base64) {
        (Some(json), None) => Ok(json.get().to_owned().into()),
        (None, Some(base64)) => {
            match BASE64_STANDARD.decode(base64) {
                Ok(bytes) => Ok(bytes.into()),
                Err(_) => Err(Problem::invalid("the value can't be read")
                    .field("value_base64", "must be base64")),
            }
        }
        (None, None) => Err(Problem::invalid("the value is missing").field(
            "value",
            "is missing: give `value` (JSON) or `value_base64` (anything)",
        )),
        (Some(_), Some(_)) => Err(Problem::invalid("there are two values")
            .field("value_base64", "give either `value` or `value_base64`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shown_byte_for_byte_and_never_hides_others_from_a_reader() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        for (text, is_json) in [
            (r#"{"n": 1.0,  "a":"\u0041"}"#, true),
            ("null", true),
            (" null", false),
            ("{}\n", false),
            ("", false),
            ("1e400", false),
            ("\"\\ud800\"", false),
            (&deep, false),
        ] {
            let value = Bytes::copy_from_slice(text.as_bytes());
            let content = Content::of(Some(&value));
            let written = serde_json::to_string(&content).unwrap();
            assert!(
                serde_json::from_str::<serde_json::Value>(&written).is_ok(),
                "{text}"
            );
            assert_eq!(content.json.is_some(), is_json, "{text}");
            let bytes = match (content.json, content.base64) {
                (Some(json), None) => json.as_str().as_bytes().to_vec(),
                (None, Some(base64)) => BASE64_STANDARD.decode(base64).unwrap(),
                both => panic!("{both:?}"),
            };
            assert_eq!(bytes, value, "{text}");
        }
    }
}
