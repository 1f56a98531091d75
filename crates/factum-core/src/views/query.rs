//! Queries of views: which rows, in which order, and which page of them.

use std::fmt;

use base64::Engine as _;
use serde::{Deserialize, Serialize};

use super::{Value, ViewDefinition};
use crate::Error;

/// The highest page that can be asked for by number: beyond it, paging is by cursor.
pub const PAGE_NUMBER_MAX: u32 = 1_000;

/// The largest page.
pub const PAGE_ROWS_MAX: u32 = 1_000;

/// The longest text that is looked for, in bytes: more than anybody types, and fewer words than engines refuse.
pub const WORDS_BYTES_MAX: usize = 1_000;

/// How a field is compared. Null equals null and is neither less nor greater than anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// Equal.
    Equal,
    /// Less.
    Less,
    /// Less or equal.
    AtMost,
    /// Greater.
    Greater,
    /// Greater or equal.
    AtLeast,
}

/// A comparison that rows must meet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Comparison {
    /// The field.
    pub field: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    pub value: Value,
}

impl Comparison {
    /// Whether `actual` meets it.
    pub fn holds(&self, actual: &Value) -> bool {
        if self.operator == Operator::Equal {
            return *actual == self.value;
        }
        if *actual == Value::Null || self.value == Value::Null {
            return false;
        }
        match self.operator {
            Operator::Equal => true,
            Operator::Less => *actual < self.value,
            Operator::AtMost => *actual <= self.value,
            Operator::Greater => *actual > self.value,
            Operator::AtLeast => *actual >= self.value,
        }
    }
}

/// Which rows, in which order, and which page of them.
///
/// ```
/// use factum_core::{Operator, Query};
/// let newest = Query::all().equal("user_id", "u-1").sort_descending("created_at").limit(20);
/// let since = Query::all().compare("created_at", Operator::AtLeast, 1_700_000_000_i64);
/// # let _ = (newest, since);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    /// What rows must meet, all of it.
    pub filter: Vec<Comparison>,
    /// Words that rows must have, all of them, in any of the texts that are [searched](ViewDefinition::searched): as the
    /// engine takes texts apart into words. Answered by engines with
    /// [full text](super::ViewsCapabilities::full_text), and refused by others.
    pub words: Option<String>,
    /// The field to sort by and whether descending; `None`: by id.
    pub sort: Option<(String, bool)>,
    /// Which page.
    pub page: Page,
    /// How many rows at most, up to [`PAGE_ROWS_MAX`].
    pub limit: u32,
}

/// Which page of a query's rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Page {
    /// The page with this number, from 1 to [`PAGE_NUMBER_MAX`].
    Number(u32),
    /// The page behind a cursor.
    After(Cursor),
}

impl Query {
    /// All rows, by id, 100 at a time.
    pub fn all() -> Self {
        Self {
            filter: Vec::new(),
            words: None,
            sort: None,
            page: Page::Number(1),
            limit: 100,
        }
    }

    /// Only rows whose `field` is `value`.
    #[must_use]
    pub fn equal(self, field: &str, value: impl Into<Value>) -> Self {
        self.compare(field, Operator::Equal, value)
    }

    /// Only rows whose `field` compares with `value` as said.
    #[must_use]
    pub fn compare(mut self, field: &str, operator: Operator, value: impl Into<Value>) -> Self {
        self.filter.push(Comparison {
            field: field.into(),
            operator,
            value: value.into(),
        });
        self
    }

    /// Only rows that have all words of `text`.
    #[must_use]
    pub fn words(mut self, text: impl Into<String>) -> Self {
        self.words = Some(text.into());
        self
    }

    /// Sorted by `field`, nulls last, ties by id.
    #[must_use]
    pub fn sort(mut self, field: &str) -> Self {
        self.sort = Some((field.into(), false));
        self
    }

    /// Sorted by `field` in descending order, nulls last all the same, ties by id descending.
    #[must_use]
    pub fn sort_descending(mut self, field: &str) -> Self {
        self.sort = Some((field.into(), true));
        self
    }

    /// At most `limit` rows.
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// The page with this number.
    #[must_use]
    pub fn page(mut self, number: u32) -> Self {
        self.page = Page::Number(number);
        self
    }

    /// The page behind `cursor`.
    #[must_use]
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.page = Page::After(cursor);
        self
    }

    /// Refuses what the view can't answer in an engine without full text.
    ///
    /// # Errors
    ///
    /// Class poison: words to look for, an undeclared field, a value of another kind, a page or limit out of bounds.
    pub fn validate(&self, definition: &ViewDefinition) -> Result<(), Error> {
        if self.words.is_some() {
            return Err(definition.poison(
                "words can't be looked for here: that needs views in an engine with full text, such as OpenSearch",
            ));
        }
        self.validate_with_words(definition)
    }

    /// Refuses what the view can't answer in an engine with full text.
    ///
    /// # Errors
    ///
    /// Class poison: no field whose words are looked for, too many words, an undeclared field, a value of another kind, a
    /// page or limit out of bounds.
    pub fn validate_with_words(&self, definition: &ViewDefinition) -> Result<(), Error> {
        let refuse =
            |what: String| Err(Error::poison(format!("view `{}`: {what}", definition.name)));
        if let Some(words) = &self.words {
            if definition.searched.is_empty() {
                return refuse("it doesn't say whose words are looked for".into());
            }
            if words.len() > WORDS_BYTES_MAX {
                return refuse(format!(
                    "words to look for are {WORDS_BYTES_MAX} bytes at most, not {}",
                    words.len()
                ));
            }
        }
        for comparison in &self.filter {
            let kind = definition.declared(&comparison.field)?;
            if !comparison.value.is(kind) {
                return refuse(format!("field `{}` is {kind:?}", comparison.field));
            }
        }
        if let Some((field, _)) = &self.sort {
            definition.declared(field)?;
        }
        if self.limit == 0 || self.limit > PAGE_ROWS_MAX {
            return refuse(format!(
                "a page has 1 to {PAGE_ROWS_MAX} rows, not {}",
                self.limit
            ));
        }
        match &self.page {
            Page::Number(number) if !(1..=PAGE_NUMBER_MAX).contains(number) => refuse(format!(
                "pages are numbered 1 to {PAGE_NUMBER_MAX}, not {number}; go on by cursor"
            )),
            Page::After(cursor) if cursor.value.is_some() != self.sort.is_some() => {
                refuse("the cursor is of a query with another order".into())
            }
            _ => Ok(()),
        }
    }
}

/// Where a page ended: opaque to clients, and bound to the query's order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cursor {
    /// The last row's value of the field sorted by; `None` when sorted by id.
    pub value: Option<Value>,
    /// The last row's id.
    pub id: String,
}

impl Cursor {
    /// The cursor that [`Display`](fmt::Display) wrote; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        f.write_str(&base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FieldKind, ProjectionName, ViewName};

    fn orders() -> ViewDefinition {
        ViewDefinition::new(ViewName::of("orders"), ProjectionName::of("orders"))
            .field("user_id", FieldKind::Text)
            .field("total", FieldKind::Integer)
            .index(["user_id", "total"])
    }

    #[test]
    fn a_query_by_an_undeclared_field_is_refused_with_what_is_declared() {
        let error = Query::all()
            .equal("name", "x")
            .validate(&orders())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "view `orders`: field `name` is not declared (declared: user_id, total)"
        );
    }

    #[test]
    fn words_are_looked_for_where_the_engine_can_and_the_view_says_so() {
        let words = Query::all().words("kim");
        let searched = orders().searched(["user_id"]);
        searched.validate().unwrap();
        words.validate_with_words(&searched).unwrap();
        let error = words.validate(&searched).unwrap_err();
        assert!(
            error.is_poison() && error.to_string().contains("full text"),
            "{error}"
        );
        assert!(
            words
                .validate_with_words(&orders())
                .unwrap_err()
                .is_poison()
        );
        let long = Query::all().words("x".repeat(WORDS_BYTES_MAX + 1));
        assert!(long.validate_with_words(&searched).unwrap_err().is_poison());
        assert!(
            orders()
                .searched(["total"])
                .validate()
                .unwrap_err()
                .is_poison()
        );
        for odd in ["", "a b", "주문"] {
            assert!(orders().searched([odd]).validate().unwrap_err().is_poison());
        }
    }

    #[test]
    fn pages_and_kinds_have_bounds() {
        for query in [
            Query::all().limit(0),
            Query::all().limit(1001),
            Query::all().page(0),
            Query::all().page(1001),
            Query::all().equal("total", "1"),
            Query::all().after(Cursor {
                value: Some(Value::Null),
                id: "1".into(),
            }),
        ] {
            assert!(
                query.validate(&orders()).unwrap_err().is_poison(),
                "{query:?}"
            );
        }
    }

    #[test]
    fn a_cursor_reads_back_and_nonsense_does_not() {
        let cursor = Cursor {
            value: Some(Value::Integer(7)),
            id: "한글".into(),
        };
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        assert_eq!(Cursor::parse("nonsense"), None);
    }
}
