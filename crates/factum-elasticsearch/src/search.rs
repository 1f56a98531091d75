//! Queries as the cluster understands them, and its answers as pages of rows.

use factum_core::{
    Comparison, Cursor, Error, FieldKind, Operator, PAGE_ROWS_MAX, Page, Query, Row, Rows, Value,
    ViewDefinition,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::{
    document::{ID, Kept, LETTERS_MAX, VIEW, beginning, flag, is_long, least},
    mapping::Fields,
    names::hash,
};

/// How far into its rows the cluster looks for one page (`index.max_result_window`). What is further is walked to.
pub(crate) const WINDOW_ROWS: u64 = 10_000;

/// The request for a page: `limit` rows and one more, which says whether there are others behind.
pub(crate) fn page(query: &Query, definition: &ViewDefinition) -> Result<Json, Error> {
    let mut body = json!({
        "size": query.limit + 1,
        "version": true,
        "track_total_hits": false,
        "query": { "bool": { "filter": filter(query, definition)? } },
        "sort": order(query, definition),
    });
    if let Page::After(cursor) = &query.page {
        body["search_after"] = after(cursor, query, definition);
    }
    Ok(body)
}

/// The request for the place of the row that is `skip` rows behind `from`, or behind the beginning: of its hits the last.
pub(crate) fn places(
    query: &Query,
    definition: &ViewDefinition,
    skip: u64,
    from: Option<&Json>,
) -> Result<Json, Error> {
    let mut body = json!({
        "size": skip,
        "_source": false,
        "track_total_hits": false,
        "query": { "bool": { "filter": filter(query, definition)? } },
        "sort": order(query, definition),
    });
    if let Some(from) = from {
        body["search_after"] = from.clone();
    }
    Ok(body)
}

/// The request for the number of rows, up to `cap`.
pub(crate) fn count(query: &Query, definition: &ViewDefinition, cap: u64) -> Result<Json, Error> {
    // The cluster takes no larger number, and counts all instead.
    let cap = i32::try_from(cap).map_or_else(|_| json!(true), |cap| json!(cap));
    Ok(json!({
        "size": 0,
        "track_total_hits": cap,
        "query": { "bool": { "filter": filter(query, definition)? } },
    }))
}

/// What rows must meet.
fn filter(query: &Query, definition: &ViewDefinition) -> Result<Vec<Json>, Error> {
    let fields = Fields::of(&definition.name);
    let mut filter = vec![term(VIEW, definition.name.as_str())];
    for comparison in &query.filter {
        filter.extend(compare(comparison, &fields)?);
    }
    if let Some(words) = &query.words {
        let fields: Vec<_> = definition
            .searched
            .iter()
            .map(|name| fields.words(name))
            .collect();
        filter.push(json!({ "multi_match": {
            "query": words, "type": "cross_fields", "operator": "and", "fields": fields
        } }));
    }
    Ok(filter)
}

fn term(field: &str, value: impl Into<Json>) -> Json {
    let value = value.into();
    json!({ "term": { field: { "value": value } } })
}

fn nothing() -> Json {
    json!({ "match_none": {} })
}

/// A comparison, as conditions that hold together.
fn compare(comparison: &Comparison, fields: &Fields) -> Result<Vec<Json>, Error> {
    let Comparison {
        field,
        operator,
        value,
    } = comparison;
    let (null, compared) = (fields.null(field), fields.value(field));
    let value = match value {
        Value::Null if *operator == Operator::Equal => {
            return Ok(vec![term(&null, flag(true))]);
        }
        Value::Null => return Ok(vec![nothing()]),
        Value::Text(text) if is_long(text) => {
            if *operator == Operator::Equal {
                let whole = hash(text.as_bytes(), 32);
                return Ok(vec![term(&fields.hash(field), whole)]);
            }
            return Err(Error::poison(format!(
                "field `{field}` can't be compared with a text of {LETTERS_MAX} letters or more, but for equality: \
                 the search cluster knows no more of the order of texts"
            )));
        }
        other => written(other),
    };
    let range = |bound: &str| json!({ "range": { &compared: { bound: value } } });
    let condition = match operator {
        Operator::Equal => term(&compared, value.clone()),
        Operator::Less => range("lt"),
        Operator::AtMost => range("lte"),
        Operator::Greater => range("gt"),
        Operator::AtLeast => range("gte"),
    };
    Ok(vec![term(&null, flag(false)), condition])
}

/// A value that is not null, as it is written.
fn written(value: &Value) -> Json {
    match value {
        Value::Boolean(value) => value.to_string().into(),
        Value::Integer(number) => (*number).into(),
        Value::Text(text) => beginning(text).into(),
        Value::Null => Json::Null,
    }
}

/// The order of the rows: those without a value last, ties by id.
fn order(query: &Query, definition: &ViewDefinition) -> Json {
    let Some((field, descending)) = &query.sort else {
        return json!([{ ID: "asc" }]);
    };
    let direction = if *descending { "desc" } else { "asc" };
    let fields = Fields::of(&definition.name);
    json!([{ fields.null(field): "asc" }, { fields.value(field): direction }, { ID: direction }])
}

/// The place that a cursor names, in the order of the rows.
fn after(cursor: &Cursor, query: &Query, definition: &ViewDefinition) -> Json {
    let Some((field, _)) = &query.sort else {
        return json!([cursor.id]);
    };
    let kind = definition.kind(field).unwrap_or(FieldKind::Text);
    match cursor.value.as_ref().unwrap_or(&Value::Null) {
        Value::Null => json!([flag(true), least(kind), cursor.id]),
        value => json!([flag(false), written(value), cursor.id]),
    }
}

/// What the cluster says to a search.
#[derive(Debug, Deserialize)]
pub(crate) struct Found {
    #[serde(default)]
    timed_out: bool,
    // An answer without any is left out where only some members are asked for.
    #[serde(default)]
    hits: Hits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Hits {
    total: Option<Total>,
    hits: Vec<Hit>,
}

#[derive(Debug, Deserialize)]
struct Total {
    value: u64,
}

#[derive(Debug, Deserialize)]
struct Hit {
    #[serde(default, rename = "_version")]
    version: u64,
    #[serde(default, rename = "_source")]
    source: Option<Kept>,
    #[serde(default)]
    sort: Json,
}

impl Found {
    /// Itself, when the whole was searched.
    pub(crate) fn whole(self) -> Result<Self, Error> {
        if self.timed_out {
            return Err(Error::transient("the search took too long"));
        }
        Ok(self)
    }

    /// How many rows there are.
    pub(crate) fn total(&self) -> u64 {
        self.hits.total.as_ref().map_or(0, |total| total.value)
    }

    /// How many rows it names.
    pub(crate) fn len(&self) -> u64 {
        self.hits.hits.len() as u64
    }

    /// The place of its last row.
    pub(crate) fn last_place(&self) -> Option<&Json> {
        self.hits.hits.last().map(|hit| &hit.sort)
    }

    /// The page that `query` asked for.
    pub(crate) fn rows(self, query: &Query, definition: &ViewDefinition) -> Result<Rows, Error> {
        let limit = query.limit.min(PAGE_ROWS_MAX) as usize;
        let more = self.hits.hits.len() > limit;
        let mut rows: Vec<Row> = Vec::with_capacity(limit.min(self.hits.hits.len()));
        for hit in self.hits.hits.into_iter().take(limit) {
            let row = hit.source.map(|kept| kept.row(hit.version)).transpose()?;
            rows.push(
                row.flatten()
                    .ok_or_else(|| Error::fatal("a search for rows found what is none"))?,
            );
        }
        let next = match rows.last() {
            Some(last) if more => Some(cursor(last, query, definition)?),
            _ => None,
        };
        Ok(Rows { rows, next })
    }
}

/// Where the page that ends with `row` ends.
fn cursor(row: &Row, query: &Query, definition: &ViewDefinition) -> Result<Cursor, Error> {
    let id = row.id.clone();
    let Some((field, _)) = &query.sort else {
        return Ok(Cursor { value: None, id });
    };
    let index = definition
        .fields
        .iter()
        .position(|known| known.name == *field);
    let values = definition.extract(&row.document)?;
    let value = index.and_then(|index| values.into_iter().nth(index));
    Ok(Cursor {
        value: value.or(Some(Value::Null)),
        id,
    })
}

#[cfg(test)]
mod tests {
    use factum_core::{ProjectionName, ViewName};

    use super::*;

    fn definition() -> ViewDefinition {
        ViewDefinition::new(ViewName::of("orders"), ProjectionName::of("orders"))
            .field("text", FieldKind::Text)
            .field("number", FieldKind::Integer)
            .field("flag", FieldKind::Boolean)
            .searched(["text"])
    }

    fn fields() -> Fields {
        Fields::of(&ViewName::of("orders"))
    }

    fn filters(query: &Query) -> Json {
        page(query, &definition()).unwrap()["query"]["bool"]["filter"].clone()
    }

    #[test]
    fn nothing_but_live_rows_is_found() {
        assert_eq!(
            filters(&Query::all()),
            json!([{ "term": { "view": { "value": "orders" } } }])
        );
    }

    #[test]
    fn comparisons_pass_over_rows_without_a_value() {
        let query = Query::all().compare("number", Operator::Less, 7);
        assert_eq!(
            filters(&query),
            json!([
                { "term": { "view": { "value": "orders" } } },
                { "term": { fields().null("number"): { "value": "0" } } },
                { "range": { fields().value("number"): { "lt": 7 } } },
            ])
        );
        let query = Query::all().equal("flag", Value::Null);
        assert_eq!(
            filters(&query)[1],
            json!({ "term": { fields().null("flag"): { "value": "1" } } })
        );
        let query = Query::all().compare("flag", Operator::AtMost, Value::Null);
        assert_eq!(filters(&query)[1], json!({ "match_none": {} }));
    }

    #[test]
    fn long_texts_are_compared_whole_or_not_at_all() {
        let long = "x".repeat(LETTERS_MAX + 1);
        let equal = filters(&Query::all().equal("text", long.as_str()));
        assert_eq!(
            equal[1],
            json!({ "term": { fields().hash("text"): { "value": hash(long.as_bytes(), 32) } } })
        );
        let less = Query::all().compare("text", Operator::Less, long.as_str());
        assert!(page(&less, &definition()).unwrap_err().is_poison());
    }

    #[test]
    fn a_cursor_is_a_place_in_the_order() {
        let after = |query: Query, value: Option<Value>| {
            let id = "7".into();
            page(&query.after(Cursor { value, id }), &definition()).unwrap()
        };
        let body = after(
            Query::all().sort_descending("number"),
            Some(Value::Integer(-1)),
        );
        assert_eq!(
            body["sort"],
            json!([{ fields().null("number"): "asc" }, { fields().value("number"): "desc" }, { "id": "desc" }])
        );
        assert_eq!(body["search_after"], json!(["0", -1, "7"]));
        let body = after(Query::all().sort("number"), Some(Value::Null));
        assert_eq!(body["search_after"], json!(["1", 0, "7"]));
        assert_eq!(after(Query::all(), None)["search_after"], json!(["7"]));
    }

    #[test]
    fn words_are_looked_for_in_all_fields_together() {
        let query = Query::all().words("kim tea");
        assert_eq!(
            filters(&query)[1],
            json!({ "multi_match": { "query": "kim tea", "type": "cross_fields", "operator": "and", "fields": [fields().words("text")] } })
        );
    }
}
