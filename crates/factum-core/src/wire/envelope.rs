//! The plain JSON envelope: one object that a service in any language would write.
//!
//! Only `event_type`, `event_id`, `timestamp` and `data` must be there; the rest may be absent or
//! `null`. Two members are named after us, since every plain name may be a foreign service's own:
//! `factum_tags` and `factum_protection`.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    HEADER_CONTENT_TYPE, Incoming, WireError,
    fields::{Fields, keep},
    keep_unknown,
    object::Object,
};
use crate::{Headers, Record, TypeName, Version};

/// Reads an envelope.
pub(super) fn read(mut fields: Fields<'_>) -> Result<Incoming, WireError> {
    let name = fields.required("event_type", "the event's name")?;
    let event_id = fields.required_id("event_id")?;
    let timestamp = fields.time("timestamp")?.ok_or_else(|| {
        WireError::missing(
            fields.subject("timestamp"),
            "a time, as in `2026-03-02T10:00:00Z`",
        )
    })?;
    let data = fields
        .raw("data")
        .ok_or_else(|| WireError::missing(fields.subject("data"), "the event's data"))?;
    let mut incoming = Incoming {
        event_id,
        event_type: TypeName {
            name: name.as_ref().into(),
            version: schema_version(&mut fields, "version")?,
        },
        timestamp,
        aggregate_type: fields.shared("aggregate_type")?,
        aggregate_id: fields.shared("aggregate_id")?,
        aggregate_version: fields
            .number("aggregate_version", 0, u64::MAX)?
            .map(Version),
        correlation_id: fields.id("correlation_id")?,
        causation_id: fields.id("causation_id")?,
        metadata: fields.metadata("metadata")?,
        tags: fields.tags("factum_tags")?,
        protection: fields.shared("factum_protection")?,
        data: keep(|| fields.subject("data"), data)?,
        link: None,
        source: None,
    };
    keep_unknown(&mut incoming.metadata, fields)?;
    Ok(incoming)
}

/// The schema version, which is 1 unless it is there.
pub(super) fn schema_version(fields: &mut Fields<'_>, name: &str) -> Result<u32, WireError> {
    let version = fields.number(name, 1, u32::MAX.into())?.unwrap_or(1);
    Ok(u32::try_from(version).expect("the bound was given above"))
}

/// Writes an envelope.
pub(super) fn write(record: &Record, data: &RawValue, headers: &mut Headers) -> Bytes {
    let draft = &*record.draft;
    headers.push(HEADER_CONTENT_TYPE, Bytes::from_static(b"application/json"));
    let mut object = Object::with_capacity(draft.encoded_len() + NAMES_BYTES);
    object.text("event_type", &draft.event_type.name);
    object.shown("event_id", &draft.event_id);
    object.shown("timestamp", draft.timestamp);
    object.number("version", draft.event_type.version);
    if let Some(stream) = &draft.stream {
        object.text("aggregate_type", stream.category().as_str());
        object.text("aggregate_id", stream.id());
        object.number("aggregate_version", record.version.0);
    }
    object.shown("correlation_id", &draft.correlation_id);
    if let Some(id) = &draft.causation_id {
        object.shown("causation_id", id);
    }
    if !draft.metadata.is_empty() {
        let members = draft
            .metadata
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        object.object("metadata", members);
    }
    if !draft.tags.is_empty() {
        object.texts("factum_tags", &draft.tags);
    }
    if let Some(protection) = &draft.protection {
        object.text("factum_protection", protection);
    }
    object.raw("data", data.get());
    object.finish().into()
}

/// About what the names of all members take.
const NAMES_BYTES: usize = 250;
