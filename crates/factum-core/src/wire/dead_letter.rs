//! The copy of a dead message in `<topic>.dlq`: for people and tools, never read back.
//!
//! The exact bytes stay in the store's row; the copy says what happened and where the row is. It is JSON
//! with `id` (the row), `original_event` (the value, when it is JSON) or `original_bytes` (base64, when it
//! is not; neither for a tombstone), `error` and `failed_at`. How often it was tried, by whom, and where it
//! came from stand in headers that begin with `factum-dlq-`. It goes to the same partition number with the
//! same key. The caller makes the topic, with at least as many partitions.

use base64::{display::Base64Display, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    HEADER_CONTENT_TYPE, fields::HEADER_PREFIX, nesting::is_nested_too_deep, object::Object,
};
use crate::{
    Headers, InvalidName, Outgoing, Parked, Topic,
    chain::{HEADER_AT, HEADER_PREVIOUS, HEADER_SOURCE},
};

/// What is added to a topic's name.
pub const SUFFIX: &str = ".dlq";
/// Put before the names of original headers that would be untrue of the copy.
pub const ORIGINAL_PREFIX: &str = "factum-dlq-original-";
/// What a copy never exceeds when it is cut, in bytes of key, value and headers: seven names of at most 249
/// bytes, 500 characters of error and 200 of cause, of at most six bytes each, and room for the rest.
pub const CUT_BYTES_MAX: usize = 7_500;

/// The longest error in a copy that is cut, in characters.
const ERROR_CHARS_MAX: usize = 500;
/// The longest cause, in characters.
const CAUSE_CHARS_MAX: usize = 200;

/// The topic that dead messages of `origin` are copied to.
///
/// # Errors
///
/// [`InvalidName`] when the name of `origin` is so long that the suffix doesn't fit.
pub fn topic(origin: &Topic) -> Result<Topic, InvalidName> {
    Topic::new(format!("{origin}{SUFFIX}"))
}

/// The copy of `parked` for `topic`, of at most `bytes_max` bytes of key, value and headers.
///
/// Never fails. Where the whole copy would exceed the bound, `truncated` is `true` and there is no original
/// value; then no original headers; then no key. What remains has at most [`CUT_BYTES_MAX`] bytes, and is
/// given even if the bound is less.
///
/// Original headers are kept byte for byte. Those that speak of the original value or of its place in a
/// source's chain (`content-type`, `ce_…`, `factum-source`, `factum-at`, `factum-previous`) would be untrue
/// of the copy, and a reader of the topic would take it for a lost link: their names get [`ORIGINAL_PREFIX`].
pub fn copy(parked: &Parked, topic: &Topic, bytes_max: usize) -> Outgoing {
    let failed_at = parked
        .failure
        .as_ref()
        .map_or(parked.parked_at, |failure| failure.at);
    let message = &parked.message;
    let own = own_headers(parked);
    let with_original = || {
        message
            .headers
            .iter()
            .map(renamed)
            .chain(pairs(&own))
            .collect::<Headers>()
    };
    let key_bytes = message.key.as_ref().map_or(0, |key| key.as_bytes().len());
    let outgoing = |key: bool, headers: Headers, value: String| Outgoing {
        topic: topic.clone(),
        partition: message.partition,
        key: message.key.clone().filter(|_| key),
        headers,
        value: Some(value.into()),
        timestamp: failed_at,
    };

    let headers = with_original();
    let spent = key_bytes + headers_bytes(&headers);
    // A value that alone is too large is not copied only to be thrown away.
    let value_bytes = message.value.as_ref().map_or(0, Bytes::len);
    if spent.saturating_add(value_bytes) <= bytes_max {
        let whole = body(parked, true);
        if spent + whole.len() <= bytes_max {
            return outgoing(true, headers, whole);
        }
    }
    let cut = body(parked, false);
    if spent + cut.len() <= bytes_max {
        return outgoing(true, headers, cut);
    }
    let fits_key = key_bytes + headers_bytes(&own) + cut.len() <= bytes_max;
    outgoing(fits_key, own, cut)
}

fn body(parked: &Parked, whole: bool) -> String {
    let value = parked.message.value.as_deref().filter(|_| whole);
    let mut object = Object::with_capacity(value.map_or(0, <[u8]>::len) + CUT_BYTES_MAX);
    object.shown("id", &parked.id);
    if let Some(bytes) = value {
        let json = serde_json::from_slice(bytes).ok().map(RawValue::get);
        match json.filter(|json| !is_nested_too_deep(json)) {
            Some(json) => object.raw("original_event", json),
            None => object.shown(
                "original_bytes",
                Base64Display::new(bytes, &BASE64_STANDARD),
            ),
        }
    }
    match &parked.failure {
        Some(failure) if whole => object.text("error", &failure.message),
        Some(failure) => object.text("error", first_chars(&failure.message, ERROR_CHARS_MAX)),
        None => object.text("error", "waits behind a message of its key"),
    }
    let failed_at = parked
        .failure
        .as_ref()
        .map_or(parked.parked_at, |failure| failure.at);
    object.shown("failed_at", failed_at);
    if !whole {
        object.raw("truncated", "true");
    }
    object.finish()
}

fn own_headers(parked: &Parked) -> Headers {
    let (inbox, failure) = (&parked.id.inbox, parked.failure.as_ref());
    let mut headers = Headers::new();
    let mut put = |name: &str, value: String| headers.push(format!("factum-dlq-{name}"), value);
    put("id", parked.id.to_string());
    put("attempts", parked.tries.to_string());
    put("group", inbox.group.to_string());
    if let Some(handler) = failure.and_then(|failure| failure.handler.as_ref()) {
        put("handler", handler.to_string());
    }
    put("topic", inbox.topic.to_string());
    put("partition", inbox.partition.to_string());
    put("offset", parked.id.offset.to_string());
    put("timestamp", parked.message.timestamp.to_string());
    if let Some(failure) = failure {
        put("class", failure.class.to_string());
        put("cause", first_chars(&failure.cause, CAUSE_CHARS_MAX).into());
    }
    headers.push(HEADER_CONTENT_TYPE, Bytes::from_static(b"application/json"));
    headers
}

fn renamed<'a>((name, value): (&'a str, &'a Bytes)) -> (String, Bytes) {
    let untrue = name.starts_with(HEADER_PREFIX)
        || name.eq_ignore_ascii_case(HEADER_CONTENT_TYPE)
        || [HEADER_SOURCE, HEADER_AT, HEADER_PREVIOUS].contains(&name);
    (
        if untrue {
            format!("{ORIGINAL_PREFIX}{name}")
        } else {
            name.into()
        },
        value.clone(),
    )
}

fn pairs(headers: &Headers) -> impl Iterator<Item = (String, Bytes)> + '_ {
    headers
        .iter()
        .map(|(name, value)| (name.into(), value.clone()))
}

fn headers_bytes(headers: &Headers) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + HEADER_OVERHEAD_BYTES)
        .sum()
}

/// The lengths of a header's name and value, as Kafka writes them: five bytes each at most.
const HEADER_OVERHEAD_BYTES: usize = 10;

fn first_chars(text: &str, chars: usize) -> &str {
    text.char_indices()
        .nth(chars)
        .map_or(text, |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{FailureClass, FailureNote, HandlerName, Message, ParkedState, Timestamp};

    fn parked(value: Option<&[u8]>) -> Parked {
        let headers = [
            ("x-tenant", "a\u{0}b"),
            ("content-type", "text/odd"),
            ("ce_id", "7"),
            ("x-tenant", "c"),
        ];
        let mut headers: Headers = headers.into_iter().collect();
        headers.push(HEADER_AT, "1-7");
        let message = Message {
            topic: Topic::of("orders"),
            partition: 2,
            offset: 918,
            timestamp: Timestamp::from_micros(0),
            key: Some("user-1".into()),
            headers,
            value: value.map(Bytes::copy_from_slice),
        };
        Parked {
            id: "payment-service:orders:2:918".parse().unwrap(),
            lane: message.lane(),
            state: ParkedState::Dead,
            revision: 4,
            message,
            edited: None,
            event_id: None,
            event_type: None,
            correlation_id: None,
            tries: 4,
            due: None,
            failure: Some(FailureNote {
                class: FailureClass::Poison,
                message: "field `data` is missing".into(),
                cause: "poison: field `…` is missing".into(),
                handler: Some(HandlerName::of("charge")),
                at: "2026-03-02T10:00:00Z".parse().unwrap(),
            }),
            parked_at: Timestamp::from_micros(0),
            redrives: 0,
            discarded_at: None,
        }
    }

    fn dlq() -> Topic {
        topic(&Topic::of("orders")).unwrap()
    }

    fn text(copy: &Outgoing) -> &str {
        str::from_utf8(copy.value.as_ref().unwrap()).unwrap()
    }

    fn bytes(copy: &Outgoing) -> usize {
        let key = copy.key.as_ref().map_or(0, |key| key.as_bytes().len());
        key + headers_bytes(&copy.headers) + text(copy).len()
    }

    #[test]
    fn a_copy_says_what_happened_beside_the_original_event() {
        let copy = copy(&parked(Some(br#" {"n": 1.0} "#)), &dlq(), 1_000_000);
        assert_eq!(
            text(&copy),
            r#"{"id":"payment-service:orders:2:918","original_event":{"n": 1.0},"error":"field `data` is missing","failed_at":"2026-03-02T10:00:00Z"}"#
        );
        assert_eq!(
            (copy.topic.as_str(), copy.partition, copy.key),
            ("orders.dlq", 2, Some("user-1".into()))
        );
        let header = |name: &str| copy.headers.text(name).unwrap();
        assert_eq!(
            [
                "attempts",
                "group",
                "handler",
                "topic",
                "partition",
                "offset",
                "class"
            ]
            .map(|name| header(&format!("factum-dlq-{name}"))),
            [
                "4",
                "payment-service",
                "charge",
                "orders",
                "2",
                "918",
                "poison"
            ]
        );
    }

    #[test]
    fn original_headers_are_kept_and_make_no_claim_about_the_copy() {
        let copy = copy(&parked(Some(b"{}")), &dlq(), 1_000_000);
        let original: Vec<_> = copy
            .headers
            .iter()
            .take(5)
            .map(|(name, value)| (name, &**value))
            .collect();
        let expected: [(&str, &[u8]); 5] = [
            ("x-tenant", b"a\0b"),
            ("factum-dlq-original-content-type", b"text/odd"),
            ("factum-dlq-original-ce_id", b"7"),
            ("x-tenant", b"c"),
            ("factum-dlq-original-factum-at", b"1-7"),
        ];
        assert_eq!(original, expected);
        assert_eq!(
            crate::Link::from_headers(|name| copy.headers.get(name)),
            Ok(None)
        );
        assert_eq!(copy.headers.text("content-type"), Some("application/json"));
    }

    #[test]
    fn a_value_that_is_not_json_is_copied_in_base64_and_a_tombstone_not_at_all() {
        let deep = "[".repeat(500) + &"]".repeat(500);
        for (value, member) in [
            (&b"\xff\x00"[..], "\"original_bytes\":\"/wA=\""),
            (b"", "\"original_bytes\":\"\""),
            (b"{\"a\":", "\"original_bytes\":\"eyJhIjo=\""),
            (deep.as_bytes(), "\"original_bytes\":\"W1tb"),
            (b"null", "\"original_event\":null"),
        ] {
            let copy = copy(&parked(Some(value)), &dlq(), 1_000_000);
            assert!(text(&copy).contains(member), "{}", text(&copy));
        }
        assert!(!text(&copy(&parked(None), &dlq(), 1_000_000)).contains("original"));
    }

    #[test]
    fn a_topic_whose_name_leaves_no_room_is_refused_before_anything_is_copied() {
        assert!(topic(&Topic::new("x".repeat(246)).unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn a_copy_never_fails_and_never_exceeds_its_bound(
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20_000)),
            key in 0_usize..20_000,
            header in 0_usize..20_000,
            error in "\\PC{0,2000}|\\x01{0,2000}",
            bound in 0_usize..60_000,
        ) {
            let mut parked = parked(value.as_deref());
            parked.message.key = Some("k".repeat(key).into());
            parked.message.headers.push("x-long", "v".repeat(header));
            let failure = parked.failure.as_mut().unwrap();
            failure.message.clone_from(&error);
            failure.cause = error;
            let copy = copy(&parked, &dlq(), bound);
            prop_assert!(bytes(&copy) <= bound.max(CUT_BYTES_MAX), "{} > {bound}", bytes(&copy));
            let read: serde_json::Value = serde_json::from_str(text(&copy)).unwrap();
            prop_assert_eq!(read["id"].as_str(), Some("payment-service:orders:2:918"));
            let cut = read["truncated"] == true;
            let original = !read["original_event"].is_null() || read["original_bytes"].is_string();
            prop_assert!(!(cut && original));
        }
    }
}
