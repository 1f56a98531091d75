//! The named parts of a message, read one by one: members of a JSON object, or the headers of an event.
//!
//! Values stay text until somebody asks for one, so that data is looked at once and kept byte for byte.
//! Nothing recurses, and memory grows with the message's size alone. Which parts there are is known to
//! [`envelope`](super::envelope) and [`cloudevents`](super::cloudevents).

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    WireError,
    nesting::{NESTING_MAX, is_nested_too_deep},
};
use crate::{Headers, Json, MESSAGE_ID_BYTES_MAX, MessageId, Metadata, Timestamp};

/// Before the name of an event's part in a header, in CloudEvents' binary mode.
pub(super) const HEADER_PREFIX: &str = "ce_";

const ID_IS: &str = "a text of 1 to 512 bytes";
const _: () = assert!(MESSAGE_ID_BYTES_MAX == 512, "the text above says so");

/// Where the parts stand, which decides what they are called and whether numbers may be written as text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Members of a JSON object, where a number is a number.
    Members,
    /// Members of a JSON event of CloudEvents, where a large number is a text.
    Attributes,
    /// Headers of CloudEvents' binary mode, where everything is a text.
    Headers,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Json(&'a RawValue),
    Header(&'a [u8]),
}

/// The parts that were not taken yet, by name.
pub(super) struct Fields<'a> {
    place: Place,
    parts: Vec<(Cow<'a, str>, Option<Part<'a>>)>,
}

impl<'a> Fields<'a> {
    /// The members of the JSON object `text`; `what` names it in errors.
    pub(super) fn of_object(what: &str, text: &'a str, place: Place) -> Result<Self, WireError> {
        let not_json = |error| WireError::new(what, format_args!("is not JSON: {error}"));
        if !text.trim_ascii_start().starts_with('{') {
            let other: &RawValue = serde_json::from_str(text).map_err(not_json)?;
            return Err(WireError::kind(what, other, "an object"));
        }
        let Members(mut parts) = serde_json::from_str(text).map_err(not_json)?;
        // Sorted once, so that a search is short and an object of many thousand members costs no more than its size.
        parts.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        if let Some(twice) = parts.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let field = WireError::named("field", &twice[0].0);
            return Err(WireError::new(field, "comes twice, expected once"));
        }
        Ok(Self { place, parts })
    }

    /// The headers whose names begin with [`HEADER_PREFIX`], without it. Of two with one name the last counts.
    pub(super) fn of_headers(headers: &'a Headers) -> Self {
        let mut parts: Vec<_> = headers
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(HEADER_PREFIX)?, &**value)))
            .map(|(name, value)| (Cow::Borrowed(name), Some(Part::Header(value))))
            .collect();
        parts.sort_by(|(one, _), (other, _)| one.cmp(other));
        parts.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = later.1;
            }
            same
        });
        Self {
            place: Place::Headers,
            parts,
        }
    }

    /// The same parts, looked at as if they stood at `place`.
    pub(super) fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// How errors call the part `name`.
    pub(super) fn subject(&self, name: &str) -> String {
        match self.place {
            Place::Headers => WireError::named("header", &format!("{HEADER_PREFIX}{name}")),
            Place::Members | Place::Attributes => WireError::named("field", name),
        }
    }

    /// Whether the part is there and was not taken.
    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some_and(|at| self.parts[at].1.is_some())
    }

    /// A text that must be there, and stays.
    pub(super) fn peek(&mut self, name: &str) -> Result<Cow<'a, str>, WireError> {
        let at = self.find(name);
        let part = at.and_then(|at| self.parts[at].1);
        let text = self.required(name, "a text");
        if let Some(at) = at {
            self.parts[at].1 = part;
        }
        text
    }

    /// Forgets the part, whatever it is.
    pub(super) fn forget(&mut self, name: &str) {
        self.take(name);
    }

    /// Forgets the part when it is a text of which `condition` holds.
    pub(super) fn drop_if(&mut self, name: &str, condition: impl FnOnce(&str) -> bool) {
        let Some(at) = self.find(name) else { return };
        if self.peek(name).is_ok_and(|text| condition(&text)) {
            self.parts[at].1 = None;
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.parts
            .binary_search_by(|(known, _)| (**known).cmp(name))
            .ok()
    }

    fn take(&mut self, name: &str) -> Option<Part<'a>> {
        let at = self.find(name)?;
        self.parts[at].1.take()
    }

    /// Takes a JSON value, `null` included.
    pub(super) fn raw(&mut self, name: &str) -> Option<&'a RawValue> {
        match self.take(name)? {
            Part::Json(raw) => Some(raw),
            Part::Header(_) => None,
        }
    }

    /// Takes a text; `None` when there is none, or it is `null` or empty.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, WireError> {
        let text = match self.take(name) {
            None => return Ok(None),
            Some(Part::Header(bytes)) => Cow::Borrowed(self.header_text(name, bytes)?),
            Some(Part::Json(raw)) if raw.get() == "null" => return Ok(None),
            Some(Part::Json(raw)) => read_text(&self.subject(name), raw, "a text")?,
        };
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// Takes a text that must be there.
    pub(super) fn required(&mut self, name: &str, right: &str) -> Result<Cow<'a, str>, WireError> {
        match self.text(name)? {
            Some(text) => Ok(text),
            None => Err(WireError::missing_or_empty(self.subject(name), right)),
        }
    }

    /// Takes a text that is to be shared.
    pub(super) fn shared(&mut self, name: &str) -> Result<Option<Arc<str>>, WireError> {
        Ok(self.text(name)?.map(|text| text.as_ref().into()))
    }

    /// Takes the id of a message.
    pub(super) fn id(&mut self, name: &str) -> Result<Option<MessageId>, WireError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        if text.len() > MESSAGE_ID_BYTES_MAX {
            let problem = format_args!("has {} bytes, expected {ID_IS}", text.len());
            return Err(WireError::new(self.subject(name), problem));
        }
        Ok(Some(text.as_ref().into()))
    }

    /// Takes the id of a message, which must be there.
    pub(super) fn required_id(&mut self, name: &str) -> Result<MessageId, WireError> {
        self.id(name)?
            .ok_or_else(|| WireError::missing_or_empty(self.subject(name), ID_IS))
    }

    /// Takes a time.
    pub(super) fn time(&mut self, name: &str) -> Result<Option<Timestamp>, WireError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let time = text.parse().map_err(|error| {
            WireError::new(self.subject(name), format_args!("can't be read: {error}"))
        });
        time.map(Some)
    }

    /// Takes a whole number.
    pub(super) fn number(
        &mut self,
        name: &str,
        least: u64,
        most: u64,
    ) -> Result<Option<u64>, WireError> {
        let digits = match self.take(name) {
            None => return Ok(None),
            Some(Part::Header(bytes)) => Cow::Borrowed(self.header_text(name, bytes)?),
            Some(Part::Json(raw)) => match raw.get() {
                "null" => return Ok(None),
                text if text.starts_with('"') && self.place == Place::Attributes => {
                    read_text(&self.subject(name), raw, "a whole number")?
                }
                text => Cow::Borrowed(text),
            },
        };
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = plain.then(|| digits.parse().ok()).flatten();
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(WireError::new(
                self.subject(name),
                format_args!(
                    "is `{}`, expected a whole number from {least}",
                    WireError::cut(&digits)
                ),
            )),
        }
    }

    /// Takes an object's members as metadata. A header holds it as JSON text, and so does an attribute.
    pub(super) fn metadata(&mut self, name: &str) -> Result<Metadata, WireError> {
        let subject = self.subject(name);
        let text = match self.place {
            Place::Members => self.raw(name).map(|raw| Cow::Borrowed(raw.get())),
            Place::Attributes | Place::Headers => self.text(name)?,
        };
        let Some(text) = text.filter(|text| text != "null") else {
            return Ok(Metadata::new());
        };
        Fields::of_object(&subject, &text, Place::Members)?
            .rest()
            .collect()
    }

    /// Takes labels. A header holds them as JSON text, and so does an attribute.
    pub(super) fn tags(&mut self, name: &str) -> Result<Vec<Arc<str>>, WireError> {
        let text = match self.place {
            Place::Members => self.raw(name).map(|raw| Cow::Borrowed(raw.get())),
            Place::Attributes | Place::Headers => self.text(name)?,
        };
        let Some(text) = text.filter(|text| text != "null") else {
            return Ok(Vec::new());
        };
        serde_json::from_str(&text).map_err(|_| {
            WireError::new(
                self.subject(name),
                "is no list of texts, as in `[\"a\",\"b\"]`",
            )
        })
    }

    /// Takes all that nobody asked for, in the order of the names.
    pub(super) fn rest(self) -> impl Iterator<Item = Result<(String, Json), WireError>> {
        let place = self.place;
        self.parts.into_iter().filter_map(move |(name, part)| {
            // An error is rare: what it would call the part is made again from a set without parts.
            let subject = || {
                Fields {
                    place,
                    parts: Vec::new(),
                }
                .subject(&name)
            };
            let json = match part? {
                Part::Json(raw) => keep(subject, raw),
                Part::Header(bytes) => header_text(subject, bytes).map(json_text),
            };
            Some(json.map(|json| (name.into_owned(), json)))
        })
    }

    fn header_text(&self, name: &str, bytes: &'a [u8]) -> Result<&'a str, WireError> {
        header_text(|| self.subject(name), bytes)
    }
}

/// `raw` as it is, unless it is nested too deep for those who read it later.
pub(super) fn keep(subject: impl FnOnce() -> String, raw: &RawValue) -> Result<Json, WireError> {
    if is_nested_too_deep(raw.get()) {
        let problem = format_args!("is nested deeper than {NESTING_MAX} levels");
        return Err(WireError::new(subject(), problem));
    }
    Ok(Json::from_raw(raw))
}

/// `text` as a JSON text.
pub(super) fn json_text(text: &str) -> Json {
    Json::of(text).expect("every text is JSON")
}

/// The text that `json` is, when it is one.
pub(super) fn text_of(json: &Json) -> Option<Cow<'_, str>> {
    serde_json::from_str(json.as_str())
        .ok()
        .map(|Text(text)| text)
}

fn header_text(subject: impl FnOnce() -> String, bytes: &[u8]) -> Result<&str, WireError> {
    str::from_utf8(bytes).map_err(|error| {
        WireError::new(
            subject(),
            format_args!("is not UTF-8 from byte {} on", error.valid_up_to()),
        )
    })
}

fn read_text<'a>(subject: &str, raw: &'a RawValue, right: &str) -> Result<Cow<'a, str>, WireError> {
    if !raw.get().starts_with('"') {
        return Err(WireError::kind(subject, raw, right));
    }
    let text = serde_json::from_str(raw.get()).map(|Text(text)| text);
    text.map_err(|error| WireError::new(subject, format_args!("is not a text: {error}")))
}

/// A text that is borrowed unless it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Members<'a>(Vec<(Cow<'a, str>, Option<Part<'a>>)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                // Our own envelope has at most 13 members.
                let mut members = Vec::with_capacity(16);
                while let Some((Text(name), raw)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    members.push((name, Some(Part::Json(raw))));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}
