//! What many requests have in common: how many, from where on, and why.

use std::borrow::Cow;

use bytes::Bytes;
use factum::{Error, Message, Parked, ParkedFilter, Record, Store};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub(crate) use crate::web::reason;
use crate::web::{Problem, REASON_CHARS_MAX};

/// How many a page has, unless asked for otherwise.
const LIMIT: usize = 100;
/// How many a page has at most.
pub(crate) const LIMIT_MAX: usize = 500;

/// How many events or messages are read at a time: with the largest of them 32 MiB.
const READ_MAX: usize = 32;

/// What a page still has room for: it is bounded by number and by bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    left: usize,
    bytes: usize,
    empty: bool,
}

impl Room {
    pub(crate) fn of(limit: usize, bytes: usize) -> Self {
        Self {
            left: limit,
            bytes,
            empty: true,
        }
    }

    /// How many to read next: none when there is no room for any.
    pub(crate) fn to_read(self) -> usize {
        self.left.min(READ_MAX)
    }

    /// Takes one of so many bytes, if there is room for it: the first has it always.
    pub(crate) fn takes(&mut self, bytes: usize) -> bool {
        if self.left == 0 || (bytes > self.bytes && !self.empty) {
            return false;
        }
        self.left -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.empty = false;
        true
    }

    /// The room for `limit` more in the bytes that are left.
    pub(crate) fn for_more(self, limit: usize) -> Self {
        Self {
            left: limit,
            ..self
        }
    }
}

/// About how much of a page a record takes.
pub(crate) fn weight_of_record(record: &Record) -> usize {
    let metadata = record.draft.metadata.iter();
    let metadata: usize = metadata
        .map(|(name, value)| name.len() + value.as_str().len())
        .sum();
    record.draft.data.len() + metadata + OVERHEAD
}

/// About how much of a page a message takes.
pub(crate) fn weight_of_message(message: &Message) -> usize {
    let headers = message.headers.iter();
    let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
    message.value.as_ref().map_or(0, Bytes::len) + headers + OVERHEAD
}

/// Shows `look` at most `most` parked messages behind `filter.after`, until it has seen enough. They are read few at a
/// time: each holds its message.
pub(crate) async fn each_parked(
    store: &dyn Store,
    mut filter: ParkedFilter,
    most: usize,
    mut look: impl FnMut(Parked) -> bool,
) -> Result<usize, Error> {
    let mut seen = 0;
    while seen < most {
        let asked = READ_MAX.min(most - seen);
        let found = store.parked(&filter, asked).await?;
        let next = filter.behind(&found, asked);
        for parked in found {
            seen += 1;
            if !look(parked) {
                return Ok(seen);
            }
        }
        match next {
            Some(next) => filter = next,
            None => break,
        }
    }
    Ok(seen)
}

/// What an event or message takes besides its content.
const OVERHEAD: usize = 500;

/// What parts of requests have to be, for the fields that hold them.
macro_rules! taken {
    ($($(#[$doc:meta])* $name:ident: $schema:tt),+ $(,)?) => {$(
        $(#[$doc])*
        pub(crate) enum $name {}

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )+};
}

taken! {
    /// The size of a page.
    Limit: { "type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT },
    /// The name of a category, a group or a topic.
    Name: {
        "type": "string",
        "pattern": "^[A-Za-z0-9._-]{1,249}$",
        "x-must": "be 1 to 249 letters, digits, `.`, `_` or `-`",
    },
    /// A place in a log.
    Place: {
        "type": "string",
        "pattern": "^(0|[0-9]+-[0-9]+)$",
        "x-must": "be `<epoch>-<position>`, or `0`",
    },
    /// The id of a store.
    Source: {
        "type": "string",
        "format": "uuid",
        "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
        "x-must": "be the id of a store, as `GET /admin/services` shows it",
    },
    /// Where a list over several services goes on.
    Cursor: {
        "type": "string",
        "pattern": "^[^/]+/.",
        "x-must": "be `next` of the page before, as it is",
    },
    /// A reason, for the audit record.
    Reason: { "type": ["string", "null"], "maxLength": REASON_CHARS_MAX },
    /// A reason where there has to be one.
    NeededReason: {
        "type": "string",
        "maxLength": REASON_CHARS_MAX,
        "pattern": "\\S",
        "x-must": "say why this is right, in at most 2000 characters",
    },
}

/// The size of a page that was asked for.
pub(crate) fn limit(asked: Option<u64>) -> Result<usize, Problem> {
    match asked.map(usize::try_from) {
        None => Ok(LIMIT),
        Some(Ok(asked)) if (1..=LIMIT_MAX).contains(&asked) => Ok(asked),
        Some(_) => Err(Problem::invalid("the page can't be that large")
            .field("limit", format!("must be from 1 to {LIMIT_MAX}"))),
    }
}

/// Why an operator does something.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Why {
    /// Why, for the audit record.
    #[serde(default)]
    #[schemars(with = "Reason")]
    pub(crate) reason: Option<String>,
}

/// A reason where there has to be one.
pub(crate) fn needed_reason(given: Option<String>) -> Result<String, Problem> {
    match reason(given)? {
        Some(reason) if !reason.trim().is_empty() => Ok(reason),
        _ => Err(
            Problem::invalid("this needs a reason, for the audit record")
                .field("reason", "is missing: say why this is right"),
        ),
    }
}
