//! A row as the cluster keeps it, and back.
//!
//! What was written comes back byte for byte: the document is kept as a text, beside the values by which it is found.
//! A deleted row stays as a tombstone, since the cluster forgets a delete after a minute and with it the version.

use std::borrow::Cow;

use factum_core::{Error, Field, FieldKind, Json, Position, Row, Value, ViewDefinition, ViewName};
use serde::Deserialize;
use serde_json::{Map, Value as Member};

use crate::{
    mapping::Fields,
    names::{code, hash},
};

/// The row's id.
pub(crate) const ID: &str = "id";
/// The view that the row is of. Tombstones, and what is no row, are of none: no query finds them.
pub(crate) const VIEW: &str = "view";
/// The row's document, as a text.
pub(crate) const DOCUMENT: &str = "document";
/// Of what is no row: how far the rows have come, and what is declared of them.
pub(crate) const MARK: &str = "mark";

/// How many letters of a text are compared: four bytes each, that is the largest term that an index takes (32,766).
pub(crate) const LETTERS_MAX: usize = 8_191;

/// The longest id of a row: the largest term that an index takes.
const ID_BYTES_MAX: usize = 32_766;

/// The longest id that is used as it is; the cluster takes 512 bytes.
const ID_BYTES_PLAIN: usize = 400;

/// Refuses ids that no row can have.
pub(crate) fn check_id(id: &str) -> Result<(), Error> {
    if id.len() <= ID_BYTES_MAX {
        return Ok(());
    }
    let beginning: String = id.chars().take(60).collect();
    Err(Error::poison(format!(
        "row `{beginning}…` has an id of {} bytes, and {ID_BYTES_MAX} is the most",
        id.len()
    )))
}

/// What the cluster knows a row by.
pub(crate) fn key(view: &ViewName, id: &str) -> String {
    let view = code(view);
    if id.len() <= ID_BYTES_PLAIN {
        return format!("r/{view}/{id}");
    }
    format!("h/{view}/{}", hash(id.as_bytes(), 32))
}

/// What a row is found by.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// The values of the declared fields.
    pub(crate) values: Vec<Value>,
    /// The texts whose words are looked for.
    pub(crate) texts: Vec<Option<String>>,
}

impl Found {
    /// What a row with this document is found by.
    pub(crate) fn of(definition: &ViewDefinition, document: &Json) -> Result<Self, Error> {
        Ok(Self {
            values: definition.extract(document)?,
            texts: definition.texts(document)?,
        })
    }
}

/// A row as it is written: its document and what it is found by, or a tombstone.
pub(crate) fn source(
    id: &str,
    definition: &ViewDefinition,
    content: Option<(&Json, &Found)>,
) -> Map<String, Member> {
    let mut source = Map::new();
    let mut put = |name: String, value: Member| {
        source.insert(name, value);
    };
    put(ID.into(), id.into());
    let Some((document, Found { values, texts })) = content else {
        return source;
    };
    let fields = Fields::of(&definition.name);
    put(VIEW.into(), definition.name.as_str().into());
    put(DOCUMENT.into(), document.as_str().into());
    for (Field { name, kind }, value) in definition.fields.iter().zip(values) {
        let null = *value == Value::Null;
        put(fields.null(name), flag(null).into());
        let value = match value {
            Value::Null => least(*kind),
            Value::Boolean(value) => value.to_string().into(),
            Value::Integer(number) => (*number).into(),
            Value::Text(text) => {
                if is_long(text) {
                    put(fields.hash(name), hash(text.as_bytes(), 32).into());
                }
                beginning(text).into()
            }
        };
        put(fields.value(name), value);
    }
    for (name, text) in definition.searched.iter().zip(texts) {
        if let Some(text) = text {
            put(fields.words(name), text.as_str().into());
        }
    }
    source
}

/// Whether there is no value, as it is written.
pub(crate) fn flag(null: bool) -> &'static str {
    if null { "1" } else { "0" }
}

/// What stands for null among values of a kind; nobody compares with it.
pub(crate) fn least(kind: FieldKind) -> Member {
    match kind {
        FieldKind::Integer => 0.into(),
        FieldKind::Text | FieldKind::Boolean => "".into(),
    }
}

/// Whether more than the beginning of a text has to be compared. One that is no longer than what is compared counts as
/// long when it is as long, so that no short text is the beginning of a long one.
pub(crate) fn is_long(text: &str) -> bool {
    text.len() >= LETTERS_MAX && text.chars().nth(LETTERS_MAX - 1).is_some()
}

/// What is compared of a text.
pub(crate) fn beginning(text: &str) -> Cow<'_, str> {
    if text.len() < LETTERS_MAX {
        return text.into();
    }
    match text.char_indices().nth(LETTERS_MAX) {
        Some((end, _)) => text[..end].into(),
        None => text.into(),
    }
}

/// A row as the cluster gives it back.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Kept {
    id: String,
    #[serde(default)]
    document: Option<String>,
}

impl Kept {
    /// The row, unless it is a tombstone.
    pub(crate) fn row(self, version: u64) -> Result<Option<Row>, Error> {
        let Self { id, document } = self;
        let Some(document) = document else {
            return Ok(None);
        };
        let document = Json::parse(&document).map_err(|error| {
            Error::fatal(format!("row `{id}` is damaged: its document is no JSON")).caused_by(error)
        })?;
        let version = Position(version);
        Ok(Some(Row {
            id,
            version,
            document,
        }))
    }
}

#[cfg(test)]
mod tests {
    use factum_core::ProjectionName;

    use super::*;

    fn definition() -> ViewDefinition {
        ViewDefinition::new(ViewName::of("orders"), ProjectionName::of("orders"))
            .field("text", FieldKind::Text)
            .field("number", FieldKind::Integer)
            .field("flag", FieldKind::Boolean)
            .searched(["text", "note"])
    }

    #[test]
    fn a_row_comes_back_byte_for_byte() {
        let document =
            Json::parse("{\"number\": 12345678901234567890.10,\n \"deep\":[1.50]}").unwrap();
        let found = Found::of(&definition(), &Json::parse("{}").unwrap()).unwrap();
        let source = source("1", &definition(), Some((&document, &found)));
        let kept: Kept = serde_json::from_value(source.into()).unwrap();
        let row = kept.row(7).unwrap().unwrap();
        assert_eq!((row.document, row.version), (document, Position(7)));
    }

    #[test]
    fn a_value_that_is_missing_is_written_as_such() {
        let document = Json::parse(r#"{"text":"a b","flag":false,"note":"c"}"#).unwrap();
        let found = Found::of(&definition(), &document).unwrap();
        let source = Member::Object(source("1", &definition(), Some((&document, &found))));
        let fields = Fields::of(&ViewName::of("orders"));
        let mut expected =
            serde_json::json!({ "id": "1", "view": "orders", "document": document.as_str() });
        for (field, value) in [
            (fields.value("text"), "a b".into()),
            (fields.null("text"), "0".into()),
            (fields.words("text"), "a b".into()),
            (fields.words("note"), "c".into()),
            (fields.value("number"), 0.into()),
            (fields.null("number"), "1".into()),
            (fields.value("flag"), "false".into()),
            (fields.null("flag"), "0".into()),
        ] {
            let value: Member = value;
            expected[field] = value;
        }
        assert_eq!(source, expected);
    }

    #[test]
    fn long_texts_are_cut_between_letters_and_told_apart() {
        let long = |last: &str| format!("{}{last}", "주".repeat(LETTERS_MAX));
        assert!(
            is_long(&long("")) && is_long(&long("a")) && !is_long(&"주".repeat(LETTERS_MAX - 1))
        );
        assert_eq!(beginning(&long("a")), beginning(&long("b")));
        assert_eq!(beginning(&long("")), long(""));
        assert!(beginning(&"\u{1f600}".repeat(LETTERS_MAX + 1)).len() <= ID_BYTES_MAX);
    }

    #[test]
    fn ids_of_any_length_are_kept_apart() {
        let ids = [
            "",
            "r",
            "h",
            &"x".repeat(400),
            &"x".repeat(401),
            &"x".repeat(402),
        ];
        let keys = |view| ids.map(|id| key(&ViewName::of(view), id));
        let keys: Vec<_> = keys("orders").into_iter().chain(keys("users")).collect();
        for (number, key) in keys.iter().enumerate() {
            assert!((1..=512).contains(&key.len()) && !keys[..number].contains(key));
        }
        assert!(
            check_id(&"x".repeat(ID_BYTES_MAX + 1))
                .unwrap_err()
                .is_poison()
        );
    }
}
