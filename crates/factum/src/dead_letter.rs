//! Copies of dead letters on their way to `<topic>.dlq`: records of the store like any other message, so that none is
//! lost, and messages in a form of their own.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use factum_core::{
    Effect, Encoded, Error, Headers, Json, Key, Link, Outgoing, Parked, RECORD_BYTES_MAX, Record,
    Topic, TypeName, wire,
};
use serde::{Deserialize, Serialize};

pub(crate) use factum_core::wire::dead_letter::SUFFIX;

/// The stored type of a copy.
const TYPE: &str = "factum.DeadLetter";

/// The largest copy: headers grow by a third as they become text, and the rest of the record needs its room.
const COPY_BYTES_MAX: usize = RECORD_BYTES_MAX / 2;

/// How many bytes a record's data and key may have, so that the rest, some names and ids, has its room.
const DATA_BYTES_MAX: usize = RECORD_BYTES_MAX - 10_000;

/// A copy as a record holds it.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// The key, in base64.
    key: Option<String>,
    /// Names, and values in base64.
    headers: Vec<(String, String)>,
    value: Json,
}

/// The effect that copies `parked` to its topic; `None` when that topic can't have a name.
pub(crate) fn effect(parked: &Parked) -> Option<Effect> {
    let topic: Topic = wire::dead_letter::topic(&parked.id.inbox.topic).ok()?;
    // What it takes is seen when it is written: keys stand in the record twice, once in base64, and names may be escaped.
    // A copy without room for anything but what is known of it always fits.
    let mut bytes_max = COPY_BYTES_MAX;
    let (copy, data) = loop {
        let copy = wire::dead_letter::copy(parked, &topic, bytes_max);
        let data = stored(&copy)?;
        let key = copy.key.as_ref().map_or(0, |key| key.as_bytes().len());
        if key + data.len() <= DATA_BYTES_MAX || bytes_max == 0 {
            break (copy, data);
        }
        bytes_max /= 4;
    };
    let event = Encoded {
        event_type: TypeName::new(TYPE, 1),
        data: data.into(),
    };
    Some(Effect::Copy {
        topic,
        partition: copy.partition,
        key: copy.key,
        event,
    })
}

/// A copy, as a record holds it.
fn stored(copy: &Outgoing) -> Option<Vec<u8>> {
    let text = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    let value = copy
        .value
        .as_deref()
        .and_then(|value| str::from_utf8(value).ok());
    let stored = Stored {
        key: copy.key.as_ref().map(|key| text(key.as_bytes())),
        headers: copy
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        value: value
            .and_then(|value| Json::parse(value).ok())
            .unwrap_or_default(),
    };
    serde_json::to_vec(&stored).ok()
}

/// The message that a record of a copy becomes; `None` when the record is no copy.
pub(crate) fn outgoing(record: &Record, link: Link) -> Result<Option<Outgoing>, Error> {
    let draft = &record.draft;
    let Some(to) = draft
        .destination
        .as_ref()
        .filter(|_| *draft.event_type.name == *TYPE)
    else {
        return Ok(None);
    };
    let broken = || {
        Error::fatal(format!(
            "the dead letter's copy at {} can't be read",
            record.at
        ))
    };
    let stored: Stored =
        serde_json::from_slice(&draft.data).map_err(|error| broken().caused_by(error))?;
    let bytes = |text: &str| {
        BASE64_STANDARD
            .decode(text)
            .map_err(|error| broken().caused_by(error))
    };
    let mut headers = Headers::new();
    for (name, value) in &stored.headers {
        headers.push(name.as_str(), bytes(value)?);
    }
    for (name, value) in link.to_headers() {
        headers.push(name, value);
    }
    Ok(Some(Outgoing {
        topic: to.topic.clone(),
        partition: to.partition,
        key: stored.key.as_deref().map(bytes).transpose()?.map(Key::from),
        headers,
        value: Some(stored.value.as_str().to_owned().into()),
        timestamp: draft.timestamp,
    }))
}
