//! JSON that is kept as it was written, byte for byte.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned, de::Error as _, ser::Error as _};
use serde_json::value::RawValue;

/// A JSON value as its text: numbers keep their digits, objects their order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json(Arc<str>);

impl Json {
    /// `null`.
    pub fn null() -> Self {
        Self("null".into())
    }

    /// The JSON value whose text is `text`.
    ///
    /// # Errors
    ///
    /// When `text` is not one JSON value.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let raw: &RawValue = serde_json::from_str(text)?;
        Ok(Self(raw.get().into()))
    }

    /// The value `raw`, which was parsed before.
    pub(crate) fn from_raw(raw: &RawValue) -> Self {
        Self(raw.get().into())
    }

    /// `value` as JSON.
    ///
    /// # Errors
    ///
    /// When the value can't be JSON, such as a map whose keys are not text.
    pub fn of(value: &(impl Serialize + ?Sized)) -> Result<Self, serde_json::Error> {
        Ok(Self(serde_json::to_string(value)?.into()))
    }

    /// This value as a `T`.
    ///
    /// # Errors
    ///
    /// When it doesn't have the shape of a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Json {
    fn default() -> Self {
        Self::null()
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer).map_err(D::Error::custom)?;
        Ok(Self(raw.get().into()))
    }
}

/// What travels with a message beside its data: actor, tenant, trace, a foreign envelope's unknown fields.
pub type Metadata = BTreeMap<String, Json>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_digits_and_order() {
        let text = r#"{"z":12345678901234567890.10,"a":1e400}"#;
        let json: Json = serde_json::from_str(text).unwrap();
        assert_eq!(json.as_str(), text);
        assert_eq!(serde_json::to_string(&json).unwrap(), text);
        assert!(Json::parse("{} x").is_err());
    }
}
