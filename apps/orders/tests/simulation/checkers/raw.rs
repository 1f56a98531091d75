//! Records as anyone can read them: names and JSON.

use factum::{Record, RecordKind};
use serde_json::Value;

/// An event or import of a log.
pub(super) struct Raw<'a> {
    pub(super) record: &'a Record,
    pub(super) category: &'a str,
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) data: Value,
}

impl<'a> Raw<'a> {
    /// The record as names and JSON, if it belongs to a stream.
    pub(super) fn of(record: &'a Record) -> Option<Self> {
        let stream = record.draft.stream.as_ref()?;
        Some(Self {
            record,
            category: stream.category().as_str(),
            id: stream.id(),
            name: &record.draft.event_type.name,
            data: serde_json::from_slice(&record.draft.data).unwrap_or(Value::Null),
        })
    }

    /// Whether it is an event of this service's own.
    pub(super) fn is_own(&self) -> bool {
        self.record.draft.kind == RecordKind::Event
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.data
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        self.data
            .get(name)
            .and_then(Value::as_u64)
            .unwrap_or_default()
    }

    /// A field as it is, or null.
    pub(super) fn field(&self, name: &str) -> Value {
        self.data.get(name).cloned().unwrap_or(Value::Null)
    }

    /// How much of each thing its items name.
    pub(super) fn items(&self) -> Vec<(String, u64, u64)> {
        let items = self.data.get("items").and_then(Value::as_array);
        let item = |item: &Value| {
            let number = |name| item.get(name).and_then(Value::as_u64).unwrap_or_default();
            let sku = item.get("sku").and_then(Value::as_str).unwrap_or_default();
            (sku.to_string(), number("qty"), number("price"))
        };
        items.into_iter().flatten().map(item).collect()
    }
}
