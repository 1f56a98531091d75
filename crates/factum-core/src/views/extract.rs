//! The declared fields of a document, read without making anything of the others.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::Field;

/// Reads an object: the members that these fields name, in the order of the fields, and null where there is none. Of
/// members with the same name the last one counts.
pub(super) struct Declared<'a>(pub(super) &'a [Field]);

impl<'de> DeserializeSeed<'de> for Declared<'_> {
    type Value = Vec<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Value>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Declared<'_> {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Vec<Value>, A::Error> {
        let mut members = vec![Value::Null; self.0.len()];
        while let Some(field) = object.next_key_seed(Name(self.0))? {
            match field {
                Some(index) => members[index] = object.next_value()?,
                None => {
                    object.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(members)
    }
}

/// A member's name: the index of the field that it is, if it is declared.
struct Name<'a>(&'a [Field]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|field| field.name == name))
    }
}

#[cfg(test)]
mod tests {
    use crate::{FieldKind, Json, ProjectionName, ViewDefinition, ViewName, views::Value};

    #[test]
    fn the_declared_fields_are_found_among_others() {
        let view = ViewDefinition::new(ViewName::of("orders"), ProjectionName::of("orders"))
            .field("status", FieldKind::Text)
            .field("total", FieldKind::Integer)
            .field("paid", FieldKind::Boolean);
        let extract = |text: &str| view.extract(&Json::parse(text).unwrap());
        let of = |status: &str, total, paid| {
            vec![Value::Text(status.into()), Value::Integer(total), paid]
        };
        let nested =
            r#"{"items":[{"total":1}],"total":7,"st\u0061tus":"o\u0070en","note":{"paid":true}}"#;
        assert_eq!(extract(nested).unwrap(), of("open", 7, Value::Null));
        let twice = r#"{"total":7,"status":"old","paid":true,"status":"new"}"#;
        assert_eq!(extract(twice).unwrap(), of("new", 7, Value::Boolean(true)));
        for wrong in [
            r#"{"total":"7"}"#,
            r#"{"total":7.5}"#,
            r#"{"status":{}}"#,
            "[]",
            "7",
        ] {
            assert!(extract(wrong).unwrap_err().is_poison(), "{wrong}");
        }
    }
}
