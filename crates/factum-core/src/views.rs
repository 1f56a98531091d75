//! The views port: read models as documents with declared indexes.
//!
//! A document is a JSON object. The fields by which it can be found or sorted are declared with their kinds;
//! a query that names another is refused, so that no query is slow by accident. Order is by UTF-8 bytes,
//! nulls last, ties by id; integers are exact. Every write carries the log position that led to it, so that
//! replays and redeliveries are idempotent: an older position never overwrites a newer one, and a delete
//! leaves a tombstone with its position.

mod extract;
pub mod outside;
mod query;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize, de::DeserializeSeed as _};

pub use self::{
    outside::{OutsideViews, ViewsEngine, WithViews},
    query::{
        Comparison, Cursor, Operator, PAGE_NUMBER_MAX, PAGE_ROWS_MAX, Page, Query, WORDS_BYTES_MAX,
    },
};
use crate::{At, Error, Json, Position, ProjectionName, ViewName};

/// A view and the generation of its rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ViewRef {
    /// The view.
    pub view: ViewName,
    /// The generation: each rebuild has its own.
    pub generation: u32,
}

impl fmt::Display for ViewRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.view, self.generation)
    }
}

/// What a declared field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// Text.
    Text,
    /// A whole number from -2^63 to 2^63 - 1.
    Integer,
    /// True or false.
    Boolean,
}

/// A field of the documents by which rows can be found or sorted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// Its name: a top-level member of the document.
    pub name: String,
    /// What it holds. It may be null or absent, too.
    pub kind: FieldKind,
}

/// What a view is: its fields and indexes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ViewDefinition {
    /// Its name, unique in the service.
    pub name: ViewName,
    /// The projection that keeps it.
    pub projection: ProjectionName,
    /// The declared fields.
    pub fields: Vec<Field>,
    /// Which fields are searched together: each index serves queries that fix its first fields and sort
    /// by the next.
    pub indexes: Vec<Vec<String>>,
    /// The members of the document, texts, whose words [`Query::words`] looks for, where the engine can do that. They need
    /// not be declared fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub searched: Vec<String>,
}

impl ViewDefinition {
    /// A view named `name`, kept by `projection`, without fields.
    pub fn new(name: ViewName, projection: ProjectionName) -> Self {
        Self {
            name,
            projection,
            fields: Vec::new(),
            indexes: Vec::new(),
            searched: Vec::new(),
        }
    }

    /// Declares a field.
    #[must_use]
    pub fn field(mut self, name: &str, kind: FieldKind) -> Self {
        self.fields.push(Field {
            name: name.into(),
            kind,
        });
        self
    }

    /// Declares an index over declared fields.
    #[must_use]
    pub fn index<const N: usize>(mut self, fields: [&str; N]) -> Self {
        self.indexes.push(fields.map(String::from).to_vec());
        self
    }

    /// Lets full-text queries look into these top-level members of the documents, texts, where the engine can do that.
    #[must_use]
    pub fn searched<const N: usize>(mut self, members: [&str; N]) -> Self {
        self.searched.extend(members.map(String::from));
        self
    }

    /// The kind of a declared field.
    pub fn kind(&self, name: &str) -> Option<FieldKind> {
        self.fields
            .iter()
            .find(|field| field.name == name)
            .map(|field| field.kind)
    }

    /// Refuses definitions that no adapter could keep.
    ///
    /// # Errors
    ///
    /// Class poison: a field with an odd name, a field declared twice, an index over undeclared fields, words looked for
    /// in what has an odd name or is not text.
    pub fn validate(&self) -> Result<(), Error> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let odd = |name: &str| name.is_empty() || !name.chars().all(plain) || name.len() > 60;
        for (index, field) in self.fields.iter().enumerate() {
            if odd(&field.name) {
                return Err(self.poison(&format!(
                    "field `{}` must be 1 to 60 letters, digits or `_`",
                    field.name
                )));
            }
            if self.fields[..index]
                .iter()
                .any(|other| other.name.eq_ignore_ascii_case(&field.name))
            {
                return Err(self.poison(&format!("field `{}` is declared twice", field.name)));
            }
        }
        for name in self.indexes.iter().flatten() {
            self.declared(name)?;
        }
        for (index, name) in self.searched.iter().enumerate() {
            if odd(name) || self.searched[..index].contains(name) {
                return Err(self.poison(&format!(
                    "what is searched, `{name}`, must be 1 to 60 letters, digits or `_`, and another each"
                )));
            }
            if self.kind(name).is_some_and(|kind| kind != FieldKind::Text) {
                return Err(self.poison(&format!("field `{name}` is not text, and has no words")));
            }
        }
        Ok(())
    }

    /// The kind of a field that a query or index names.
    ///
    /// # Errors
    ///
    /// Class poison when it is not declared; the message lists those that are.
    pub fn declared(&self, name: &str) -> Result<FieldKind, Error> {
        self.kind(name).ok_or_else(|| {
            let known: Vec<_> = self
                .fields
                .iter()
                .map(|field| field.name.as_str())
                .collect();
            self.poison(&format!(
                "field `{name}` is not declared (declared: {})",
                known.join(", ")
            ))
        })
    }

    fn poison(&self, what: &str) -> Error {
        Error::poison(format!("view `{}`: {what}", self.name))
    }

    /// The values of the declared fields in `document`, in the order of their declaration.
    ///
    /// # Errors
    ///
    /// Class poison when the document is not an object or a field holds something else than declared.
    pub fn extract(&self, document: &Json) -> Result<Vec<Value>, Error> {
        let members = self.members(document, &self.fields)?;
        let value = |(field, member): (&Field, serde_json::Value)| {
            Value::of(&member, field.kind).ok_or_else(|| {
                self.poison(&format!(
                    "field `{}` is not {:?}: {member}",
                    field.name, field.kind
                ))
            })
        };
        self.fields.iter().zip(members).map(value).collect()
    }

    /// The texts of `document` whose words are looked for, in the order in which they were named.
    ///
    /// # Errors
    ///
    /// Class poison when the document is not an object or one of them is something else than text.
    pub fn texts(&self, document: &Json) -> Result<Vec<Option<String>>, Error> {
        let field = |name: &String| Field {
            name: name.clone(),
            kind: FieldKind::Text,
        };
        let fields: Vec<_> = self.searched.iter().map(field).collect();
        let text = |(field, member): (&Field, serde_json::Value)| match member {
            serde_json::Value::Null => Ok(None),
            serde_json::Value::String(text) => Ok(Some(text)),
            other => Err(self.poison(&format!(
                "`{}` is searched for words, and is not text: {other}",
                field.name
            ))),
        };
        let members = self.members(document, &fields)?;
        fields.iter().zip(members).map(text).collect()
    }

    /// Members of `document`, in the order of the fields that name them; null where there is none.
    fn members(&self, document: &Json, fields: &[Field]) -> Result<Vec<serde_json::Value>, Error> {
        let mut text = serde_json::Deserializer::from_str(document.as_str());
        let members = extract::Declared(fields).deserialize(&mut text);
        members.map_err(|error| self.poison("a document must be an object").caused_by(error))
    }
}

/// A value of a declared field. The order of the variants and of values within is the order of rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Text, ordered by its UTF-8 bytes.
    Text(String),
    /// No value: behind all others.
    Null,
}

impl Value {
    /// `json` as a value of `kind`; `None` when it is something else.
    pub fn of(json: &serde_json::Value, kind: FieldKind) -> Option<Self> {
        match (json, kind) {
            (serde_json::Value::Null, _) => Some(Self::Null),
            (serde_json::Value::Bool(value), FieldKind::Boolean) => Some(Self::Boolean(*value)),
            (serde_json::Value::Number(value), FieldKind::Integer) => {
                value.as_i64().map(Self::Integer)
            }
            (serde_json::Value::String(value), FieldKind::Text) => Some(Self::Text(value.clone())),
            _ => None,
        }
    }

    /// Whether it may stand in a field of `kind`.
    pub fn is(&self, kind: FieldKind) -> bool {
        matches!(
            (self, kind),
            (Self::Null, _)
                | (Self::Boolean(_), FieldKind::Boolean)
                | (Self::Integer(_), FieldKind::Integer)
                | (Self::Text(_), FieldKind::Text)
        )
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

/// A row of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// The position that last wrote it.
    pub version: Position,
    /// The document.
    pub document: Json,
}

/// A page of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The rows.
    pub rows: Vec<Row>,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<Cursor>,
}

/// A write to a view, as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewWrite {
    /// Writes a row, unless a newer version of it was written.
    Put {
        /// The view.
        view: ViewRef,
        /// The row.
        id: String,
        /// The position that leads to this write.
        version: Position,
        /// The document.
        document: Json,
    },
    /// Deletes a row, unless a newer version of it was written. Leaves a tombstone.
    Delete {
        /// The view.
        view: ViewRef,
        /// The row.
        id: String,
        /// The position that leads to this write.
        version: Position,
    },
    /// Lets readers see this generation of a projection's views from now on, unless they see a later one: it changes nothing
    /// then, since whoever built this one was overtaken.
    Activate {
        /// The projection.
        projection: ProjectionName,
        /// The generation.
        generation: u32,
    },
    /// Own SQL, where the store speaks it: one statement with numbered parameters.
    Sql {
        /// The statement.
        statement: String,
        /// Its parameters.
        parameters: Vec<SqlValue>,
    },
}

/// A parameter of own SQL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SqlValue {
    /// NULL.
    Null,
    /// A whole number.
    Integer(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// What a views engine can do beyond the contract, as facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewsCapabilities {
    /// Whether writes travel in commits of the store, atomic with all else that is in them. Where not, the views are
    /// [outside] of the store.
    pub atomic: bool,
    /// Whether it answers full-text queries.
    pub full_text: bool,
}

/// Read models. See the [module](self) for the rules.
#[async_trait]
pub trait Views: fmt::Debug + Send + Sync + 'static {
    /// What it can do.
    fn capabilities(&self) -> ViewsCapabilities;

    /// Prepares a generation of a view. Idempotent.
    ///
    /// # Errors
    ///
    /// Class poison when the definition is not valid, or differs from the one that the generation was made with.
    async fn ensure(&self, definition: &ViewDefinition, generation: u32) -> Result<(), Error>;

    /// The generation of a projection's views that readers see; `None` before the first was activated.
    async fn active(&self, projection: &ProjectionName) -> Result<Option<u32>, Error>;

    /// Drops the rows of a generation that readers don't see.
    async fn drop_generation(
        &self,
        projection: &ProjectionName,
        generation: u32,
    ) -> Result<(), Error>;

    /// The row `id` of `view`, in the given generation or the one that readers see.
    async fn get(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        id: &str,
    ) -> Result<Option<Row>, Error>;

    /// Rows of `view`.
    async fn query(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
    ) -> Result<Rows, Error>;

    /// How many rows of `view` meet the query's filter, counting no further than `cap`, in the given generation or the
    /// one that readers see.
    async fn count(
        &self,
        view: &ViewName,
        generation: Option<u32>,
        query: &Query,
        cap: u64,
    ) -> Result<u64, Error>;

    /// Lets queries of a view show all that was written to it, if they don't yet. Asked by a projection that is about to
    /// query rows of its own: it may not miss what it wrote.
    ///
    /// Views that show at once what they take leave this as it is.
    async fn settle(&self, _view: &ViewName, _generation: Option<u32>) -> Result<(), Error> {
        Ok(())
    }

    /// How far the rows of a generation that readers see show the log to queries from now on. Asked before a query, with
    /// the place that the projection said it `reached`, and the one that has to be shown, if any: an engine that shows
    /// its writes later than it takes them lets them be seen now, if that is needed for `wanted`.
    ///
    /// A projection may have come further than the checkpoint that is stored: what it passed over since left no rows. So
    /// when something is wanted, the answer is `reached`, unless the stored checkpoint is behind the furthest that this
    /// process has seen of the generation, in a claim, a commit or a list: then rows were lost, and the answer is that
    /// checkpoint. When nothing is wanted, it is what the engine knows without asking anybody else: the stored checkpoint.
    ///
    /// Views that are as durable as the store, and show at once what they take, leave this as it is.
    ///
    /// # Errors
    ///
    /// Class conflict when readers don't see this generation any more.
    async fn shown(
        &self,
        _projection: &ProjectionName,
        _generation: u32,
        reached: At,
        _wanted: Option<At>,
    ) -> Result<At, Error> {
        Ok(reached)
    }

    /// A number that is another one as soon as anything was answered by an engine that may have gone back to an earlier
    /// state since. What [`Views::shown`] said under one number holds for rows that were read under the same.
    fn lineage(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> ViewDefinition {
        ViewDefinition::new(ViewName::of("orders"), ProjectionName::of("orders"))
            .field("user_id", FieldKind::Text)
            .field("total", FieldKind::Integer)
            .index(["user_id", "total"])
    }

    #[test]
    fn texts_are_taken_from_documents_declared_or_not() {
        let orders = orders().searched(["user_id", "note"]);
        orders.validate().unwrap();
        let texts = |json: &str| orders.texts(&Json::parse(json).unwrap());
        let note = || Some(String::from("green tea"));
        assert_eq!(
            texts(r#"{"note":"green tea","total":1}"#).unwrap(),
            [None, note()]
        );
        assert!(texts(r#"{"note":1}"#).unwrap_err().is_poison());
        assert!(texts("[]").unwrap_err().is_poison());
    }

    #[test]
    fn a_definition_without_words_reads_and_is_written_as_before() {
        let text = serde_json::to_string(&orders()).unwrap();
        assert!(!text.contains("searched"), "{text}");
        assert_eq!(
            serde_json::from_str::<ViewDefinition>(&text).unwrap(),
            orders()
        );
    }

    #[test]
    fn fields_are_taken_from_documents_exactly() {
        let values = |json: &str| orders().extract(&Json::parse(json).unwrap());
        assert_eq!(
            values(r#"{"total":9007199254740993,"other":[1]}"#).unwrap(),
            [Value::Null, Value::Integer(9_007_199_254_740_993)]
        );
        assert!(values(r#"{"total":1.5}"#).is_err());
        assert!(values("[]").is_err());
    }
}
