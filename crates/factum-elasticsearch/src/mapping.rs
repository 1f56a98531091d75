//! What an index is made with: its settings, and what becomes of each field of a row.

use factum_core::{Field, FieldKind, ViewDefinition, ViewName};
use serde_json::{Map, Value, json};

use crate::{
    document::{DOCUMENT, ID, MARK, VIEW},
    names::code,
    options::ElasticsearchOptions,
};

/// How many fields an index may have: beyond what any projection declares, and each costs the cluster little.
const FIELDS_MAX: u32 = 10_000;

/// The fields of a view's rows. Views of one projection share an index, and have fields of their own in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fields(String);

impl Fields {
    pub(crate) fn of(view: &ViewName) -> Self {
        Self(code(view))
    }

    /// With the values that are compared and sorted by: of a text its beginning.
    pub(crate) fn value(&self, field: &str) -> String {
        format!("f_{}_{field}", self.0)
    }

    /// That says whether there is a value. What has none is written as the least, so that no order depends on how an
    /// engine treats what is missing.
    pub(crate) fn null(&self, field: &str) -> String {
        format!("n_{}_{field}", self.0)
    }

    /// With the hash of a text that is longer than what is compared.
    pub(crate) fn hash(&self, field: &str) -> String {
        format!("h_{}_{field}", self.0)
    }

    /// With a text's words.
    pub(crate) fn words(&self, field: &str) -> String {
        format!("t_{}_{field}", self.0)
    }
}

/// The body of the request that makes an index, without views.
pub(crate) fn index(options: &ElasticsearchOptions) -> Value {
    let mut settings = json!({
        "number_of_shards": options.shards,
        "refresh_interval": format!("{}ms", options.refresh.as_millis()),
        "translog.durability": "request",
        "mapping.total_fields.limit": FIELDS_MAX,
    });
    if let Some(replicas) = options.replicas {
        settings["number_of_replicas"] = replicas.into();
    }
    json!({
        "settings": { "index": settings },
        "mappings": {
            // What is not declared is a mistake of ours, and not a field that nobody can find.
            "dynamic": "strict",
            "properties": {
                ID: { "type": "keyword" },
                VIEW: { "type": "keyword" },
                // Kept, and neither looked into nor made anything of.
                DOCUMENT: { "type": "object", "enabled": false },
                MARK: { "type": "object", "enabled": false },
            },
        },
    })
}

/// The body of the request that adds a view to an index.
pub(crate) fn view(definition: &ViewDefinition, analyzer: &str) -> Value {
    let fields = Fields::of(&definition.name);
    let mut properties = Map::new();
    let mut put = |name: String, mapping: Value| {
        properties.insert(name, mapping);
    };
    for Field { name, kind } in &definition.fields {
        let mapped = match kind {
            FieldKind::Integer => "long",
            // Booleans are sorted by their words, and `false` is before `true`.
            FieldKind::Text | FieldKind::Boolean => "keyword",
        };
        put(fields.value(name), json!({ "type": mapped }));
        put(fields.null(name), json!({ "type": "keyword" }));
        if *kind == FieldKind::Text {
            put(
                fields.hash(name),
                json!({ "type": "keyword", "doc_values": false }),
            );
        }
    }
    for name in &definition.searched {
        put(
            fields.words(name),
            json!({ "type": "text", "analyzer": analyzer, "norms": false }),
        );
    }
    json!({ "properties": properties })
}

#[cfg(test)]
mod tests {
    use factum_core::ProjectionName;

    use super::*;

    #[test]
    fn a_definition_becomes_a_mapping() {
        let definition = ViewDefinition::new(ViewName::of("orders"), ProjectionName::of("orders"))
            .field("name", FieldKind::Text)
            .field("total", FieldKind::Integer)
            .searched(["name"]);
        let mapping = view(&definition, "nori");
        let fields = Fields::of(&definition.name);
        let mapped = |field: String| mapping["properties"][field].clone();
        assert_eq!(mapped(fields.value("name"))["type"], "keyword");
        assert_eq!(mapped(fields.words("name"))["analyzer"], "nori");
        assert_eq!(mapped(fields.value("total"))["type"], "long");
        assert_eq!(mapped(fields.words("total")), Value::Null);
        assert_ne!(fields, Fields::of(&ViewName::of("Orders")));
    }

    #[test]
    fn an_index_takes_no_field_that_is_not_declared() {
        let options = ElasticsearchOptions::parse("http://localhost/shop?replicas=2").unwrap();
        let index = index(&options);
        assert_eq!(index["mappings"]["dynamic"], "strict");
        assert_eq!(index["settings"]["index"]["number_of_replicas"], 2);
    }
}
