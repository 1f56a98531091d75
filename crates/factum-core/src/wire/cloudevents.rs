//! CloudEvents 1.0 in the binary and the structured mode of its Kafka binding, with data that is JSON.
//!
//! What the envelope says and CloudEvents has no attribute for goes into extensions, whose names are
//! lower-case letters and digits: `schemaversion`, `aggregatetype`, `aggregateid`, `aggregateversion`,
//! `correlationid`, `causationid`, `partitionkey`. A member of the metadata is an extension of its own
//! where its name and value may be one; the others stand together in `factummetadata`, as JSON text.
//! Labels and the protection key id are `factumtags` (JSON text) and `factumprotection`.

#[cfg(test)]
mod tests;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    HEADER_CONTENT_TYPE, Incoming, WireError,
    envelope::schema_version,
    fields::{Fields, HEADER_PREFIX, json_text, keep, text_of},
    keep_unknown,
    object::Object,
};
use crate::{
    Headers, Json, Link, MESSAGE_ID_BYTES_MAX, Message, Metadata, Record, TypeName, Version,
};

/// The names of the id, the type, its version and the correlation id.
pub(super) const GLIMPSE_NAMES: [&str; 4] = ["id", "type", "schemaversion", "correlationid"];

const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];
/// Names that no member of the metadata may take, because they mean something else.
const RESERVED: [&str; 19] = [
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "subject",
    "data",
    "dataschema",
    "datacontenttype",
    "schemaversion",
    "aggregatetype",
    "aggregateid",
    "aggregateversion",
    "correlationid",
    "causationid",
    "partitionkey",
    "factummetadata",
    "factumtags",
    "factumprotection",
];
/// What the standard says names should not exceed.
const NAME_BYTES_MAX: usize = 20;
/// The longest key that is repeated as `partitionkey`: it stands in the message already.
const PARTITION_KEY_BYTES_MAX: usize = 512;
/// The largest number that is an integer to the standard; beyond it, numbers are written as texts.
const INTEGER_MAX: u64 = i32::MAX as u64;

/// Whether the message says that its value is a whole event.
///
/// # Errors
///
/// When it says so, of a kind of event that is not one JSON object.
pub(super) fn is_structured(headers: &Headers) -> Result<bool, WireError> {
    const EVENT: &str = "application/cloudevents";
    let Some(kind) = content_type(headers) else {
        return Ok(false);
    };
    match kind
        .get(..EVENT.len())
        .filter(|start| start.eq_ignore_ascii_case(EVENT))
    {
        None => Ok(false),
        Some(_)
            if ["", "+json"]
                .iter()
                .any(|end| kind[EVENT.len()..].eq_ignore_ascii_case(end)) =>
        {
            Ok(true)
        }
        Some(_) => Err(WireError::new(
            WireError::named("header", HEADER_CONTENT_TYPE),
            format_args!("is `{}`, expected `{EVENT}+json`", WireError::cut(kind)),
        )),
    }
}

/// Whether the message has the headers that every event in binary mode has.
pub(super) fn is_binary(headers: &Headers) -> bool {
    let has = |name: &str| {
        headers
            .iter()
            .any(|(known, _)| known.strip_prefix(HEADER_PREFIX) == Some(name))
    };
    REQUIRED.into_iter().all(has)
}

/// What is wrong with a message that has only some of the headers that every event has.
pub(super) fn half(message: &Message) -> Option<WireError> {
    let fields = Fields::of_headers(&message.headers);
    let missing = REQUIRED.into_iter().find(|name| !fields.has(name))?;
    REQUIRED
        .into_iter()
        .any(|name| fields.has(name))
        .then(|| WireError::missing(fields.subject(missing), "it beside its siblings"))
}

/// The media type of the value, without parameters. The last header counts, as for all others.
fn content_type(headers: &Headers) -> Option<&str> {
    let named = |(name, _): &(&str, _)| name.eq_ignore_ascii_case(HEADER_CONTENT_TYPE);
    let (_, value) = headers.iter().filter(named).last()?;
    Some(essence(str::from_utf8(value).ok()?))
}

fn essence(kind: &str) -> &str {
    kind.split(';').next().unwrap_or_default().trim_ascii()
}

fn is_json(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    kind == "application/json" || kind == "text/json" || kind.ends_with("+json")
}

/// Reads an event whose value is its data.
pub(super) fn read_binary(
    text: &str,
    message: &Message,
    link: Option<&Link>,
) -> Result<Incoming, WireError> {
    let kind = content_type(&message.headers).filter(|kind| !kind.is_empty());
    if let Some(kind) = kind.filter(|kind| !is_json(kind)) {
        let subject = WireError::named("header", HEADER_CONTENT_TYPE);
        let problem = format_args!("is `{}`, expected `application/json`", WireError::cut(kind));
        return Err(WireError::new(subject, problem));
    }
    let data: &RawValue = serde_json::from_str(text)
        .map_err(|error| WireError::new("value", format_args!("is not JSON: {error}")))?;
    let data = keep(|| "value".into(), data)?;
    let mut incoming = read(Fields::of_headers(&message.headers), data, message, link)?;
    if let Some(kind) = kind.filter(|kind| !kind.eq_ignore_ascii_case("application/json")) {
        incoming
            .metadata
            .entry("datacontenttype".into())
            .or_insert_with(|| json_text(kind));
    }
    Ok(incoming)
}

/// Reads an event that is the value as a whole.
pub(super) fn read_structured(
    mut fields: Fields<'_>,
    message: &Message,
    link: Option<&Link>,
) -> Result<Incoming, WireError> {
    let subject = fields.subject("data");
    let data = match (fields.raw("data"), fields.text("data_base64")?) {
        (Some(_), Some(_)) => {
            return Err(WireError::new(
                subject,
                "stands beside `data_base64`, expected one of them",
            ));
        }
        (Some(data), None) => keep(|| subject, data)?,
        (None, Some(encoded)) => {
            let decoded = BASE64_STANDARD.decode(encoded.as_bytes()).ok();
            let data = decoded
                .as_deref()
                .and_then(|bytes| serde_json::from_slice(bytes).ok());
            let subject = fields.subject("data_base64");
            let data = data.ok_or_else(|| {
                WireError::new(&*subject, "can't be read, expected JSON in base64")
            })?;
            keep(|| subject, data)?
        }
        (None, None) => Json::null(),
    };
    // What goes without saying says nothing, and is not kept.
    fields.drop_if("datacontenttype", |kind| {
        essence(kind).eq_ignore_ascii_case("application/json")
    });
    read(fields, data, message, link)
}

fn read(
    mut fields: Fields<'_>,
    data: Json,
    message: &Message,
    link: Option<&Link>,
) -> Result<Incoming, WireError> {
    let spec = fields.required("specversion", "`1.0`")?;
    if spec != "1.0" {
        let problem = format_args!("is `{}`, expected `1.0`", WireError::cut(&spec));
        return Err(WireError::new(fields.subject("specversion"), problem));
    }
    let event_id = fields.required_id("id")?;
    let name = fields.required("type", "the event's name")?;
    if !fields.has("source") {
        return Err(WireError::missing(
            fields.subject("source"),
            "where the event comes from",
        ));
    }
    let mut source = None;
    if link.is_some() {
        // We made these of what stands elsewhere: they are no news.
        fields.forget("source");
        fields.forget("partitionkey");
    } else {
        let text = fields.peek("source")?;
        if event_id.as_uuid().is_none()
            && text.len() + event_id.to_string().len() >= MESSAGE_ID_BYTES_MAX
        {
            let problem = format_args!(
                "and `id` are too long, expected {MESSAGE_ID_BYTES_MAX} bytes at most, together"
            );
            return Err(WireError::new(fields.subject("source"), problem));
        }
        source = Some(text.as_ref().into());
    }
    let mut incoming = Incoming {
        event_id,
        event_type: TypeName {
            name: name.as_ref().into(),
            version: schema_version(&mut fields, "schemaversion")?,
        },
        timestamp: fields.time("time")?.unwrap_or(message.timestamp),
        aggregate_type: fields.shared("aggregatetype")?,
        aggregate_id: fields.shared("aggregateid")?,
        aggregate_version: fields.number("aggregateversion", 0, u64::MAX)?.map(Version),
        correlation_id: fields.id("correlationid")?,
        causation_id: fields.id("causationid")?,
        metadata: fields.metadata("factummetadata")?,
        tags: fields.tags("factumtags")?,
        protection: fields.shared("factumprotection")?,
        data,
        link: None,
        source,
    };
    keep_unknown(&mut incoming.metadata, fields)?;
    Ok(incoming)
}

/// Writes an event whose value is its data.
pub(super) fn write_binary(record: &Record, source_name: &str, headers: &mut Headers) -> Bytes {
    headers.push(HEADER_CONTENT_TYPE, Bytes::from_static(b"application/json"));
    attributes(record, source_name, |name, value| {
        let value = match value {
            Attribute::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Attribute::Number(number) => number.to_string().into(),
        };
        headers.push(format!("{HEADER_PREFIX}{name}"), value);
    });
    record.draft.data.clone()
}

/// Writes an event that is the value as a whole.
pub(super) fn write_structured(
    record: &Record,
    data: &RawValue,
    source_name: &str,
    headers: &mut Headers,
) -> Bytes {
    let kind = "application/cloudevents+json; charset=UTF-8";
    headers.push(HEADER_CONTENT_TYPE, Bytes::from_static(kind.as_bytes()));
    let mut object = Object::with_capacity(record.draft.encoded_len() + NAMES_BYTES);
    attributes(record, source_name, |name, value| match value {
        Attribute::Text(text) => object.text(name, text),
        Attribute::Number(number) if number <= INTEGER_MAX => object.number(name, number),
        Attribute::Number(number) => object.shown(name, number),
    });
    object.text("datacontenttype", "application/json");
    object.raw("data", data.get());
    object.finish().into()
}

/// About what the names of all attributes take.
const NAMES_BYTES: usize = 300;

enum Attribute<'a> {
    Text(&'a str),
    Number(u64),
}

/// Every attribute of the event, but for those of its data.
fn attributes(record: &Record, source_name: &str, mut put: impl FnMut(&str, Attribute<'_>)) {
    use Attribute::{Number, Text};
    let draft = &*record.draft;
    put("specversion", Text("1.0"));
    put("id", Text(&draft.event_id.to_string()));
    put("source", Text(&format!("/factum/{source_name}")));
    put("type", Text(&draft.event_type.name));
    put("time", Text(&draft.timestamp.to_string()));
    put("schemaversion", Number(draft.event_type.version.into()));
    if let Some(stream) = &draft.stream {
        put("aggregatetype", Text(stream.category().as_str()));
        put("aggregateid", Text(stream.id()));
        put("aggregateversion", Number(record.version.0));
    }
    put("correlationid", Text(&draft.correlation_id.to_string()));
    if let Some(id) = &draft.causation_id {
        put("causationid", Text(&id.to_string()));
    }
    let key = draft
        .destination
        .as_ref()
        .and_then(|to| to.key.as_ref()?.as_text());
    if let Some(key) = key.filter(|key| (1..=PARTITION_KEY_BYTES_MAX).contains(&key.len())) {
        put("partitionkey", Text(key));
    }
    if !draft.tags.is_empty() {
        put(
            "factumtags",
            Text(Json::of(&draft.tags).expect("texts are JSON").as_str()),
        );
    }
    if let Some(protection) = &draft.protection {
        put("factumprotection", Text(protection));
    }
    let mut others = Metadata::new();
    for (name, value) in &draft.metadata {
        match extension(name, value) {
            Some(text) => put(name, Text(&text)),
            None => {
                others.insert(name.clone(), value.clone());
            }
        }
    }
    if !others.is_empty() {
        let mut object = Object::with_capacity(0);
        for (name, value) in &others {
            object.raw(name, value.as_str());
        }
        put("factummetadata", Text(&object.finish()));
    }
}

/// The text of an extension that reads back as `value`, when `name` and it may be one.
fn extension(name: &str, value: &Json) -> Option<String> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let named = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(legal)
        && !RESERVED.contains(&name);
    let text = named.then(|| text_of(value)).flatten()?;
    let odd = |c: char| {
        c.is_control() || matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
    };
    // Written with escapes that we would not use, it would come back as another JSON text.
    let same = !text.is_empty() && !text.contains(odd) && json_text(&text) == *value;
    same.then(|| text.into_owned())
}
