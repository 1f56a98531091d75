//! CloudEvents by example: what foreign producers send in both modes, and what is refused.

use super::{
    super::{
        read,
        tests::{FORMATS, link, message, passed_on, received},
        write,
    },
    is_json, is_structured,
};
use crate::{Headers, Timestamp, TypeName};

const EVENT: [(&str, &str); 5] = [
    ("ce_specversion", "1.0"),
    ("ce_id", "7"),
    ("ce_type", "OrderCreated"),
    ("ce_source", "/shop"),
    ("Content-Type", "Application/Vnd.Shop+JSON; charset=UTF-8"),
];

#[test]
fn a_foreign_event_of_cloudevents_is_read_in_both_modes() {
    let structured = r#"{"specversion":"1.0","id":"7","type":"OrderCreated","source":"/shop","subject":"a","schemaversion":"2","count":3,"data":[1.0]}"#;
    let mut headers = EVENT.to_vec();
    headers.extend([
        ("ce_subject", "a"),
        ("ce_count", "3"),
        ("ce_schemaversion", "2"),
    ]);
    let messages = [
        message(&headers, "[1.0]"),
        message(
            &[("content-type", "APPLICATION/cloudevents+json;charset=utf-8")],
            structured,
        ),
        message(&[], structured),
        message(
            &[],
            &structured.replace(r#""data":[1.0]"#, r#""data_base64":"WzEuMF0=""#),
        ),
    ];
    let events: Vec<_> = messages
        .iter()
        .map(|message| read(message).unwrap())
        .collect();
    for incoming in &events {
        assert_eq!(
            (incoming.event_id.to_string(), &incoming.event_type),
            ("7".into(), &TypeName::new("OrderCreated", 2))
        );
        assert_eq!(
            (incoming.data.as_str(), incoming.timestamp),
            ("[1.0]", Timestamp::from_micros(5_000_000))
        );
        assert_eq!(incoming.metadata["source"].as_str(), "\"/shop\"");
        assert_eq!(incoming.metadata["subject"].as_str(), "\"a\"");
        assert_eq!(incoming.identity().to_string(), "/shop 7");
    }
    assert_eq!(
        events[0].metadata["datacontenttype"].as_str(),
        "\"Application/Vnd.Shop+JSON\""
    );
    assert_eq!(
        (
            events[0].metadata["count"].as_str(),
            events[1].metadata["count"].as_str()
        ),
        ("\"3\"", "3")
    );
    for format in FORMATS {
        let hop = read(&received(
            write(&passed_on(&events[0]), link(), format, "x").unwrap(),
        ))
        .unwrap();
        assert_eq!(hop.metadata, events[0].metadata, "{format:?}");
    }
}

#[test]
fn an_event_of_cloudevents_that_cannot_be_read_says_why() {
    let without = |name: &str| {
        EVENT
            .into_iter()
            .filter(|(known, _)| *known != name)
            .collect::<Vec<_>>()
    };
    let with = |name, value| [without(name), vec![(name, value)]].concat();
    let long = "x".repeat(512);
    for (headers, expected) in [
        (
            without("ce_source"),
            "header `ce_source` is missing, expected it beside its siblings",
        ),
        (
            with("ce_specversion", "0.3"),
            "header `ce_specversion` is `0.3`, expected `1.0`",
        ),
        (
            with("ce_id", ""),
            "header `ce_id` is missing or empty, expected a text of 1 to 512 bytes",
        ),
        (
            with("ce_source", &long),
            "header `ce_source` and `id` are too long, expected 512 bytes at most, together",
        ),
        (
            with("Content-Type", "text/plain"),
            "header `content-type` is `text/plain`, expected `application/json`",
        ),
        (
            with("Content-Type", "application/cloudevents-batch+json"),
            "header `content-type` is `application/cloudevents-batch+json`, expected `application/cloudevents+json`",
        ),
    ] {
        assert_eq!(
            read(&message(&headers, "{}")).unwrap_err().to_string(),
            expected
        );
    }
}

#[test]
fn media_types_are_compared_without_case_and_parameters() {
    for (kind, structured) in [
        ("application/cloudevents+json", Some(true)),
        ("Application/CloudEvents+JSON; charset=UTF-8", Some(true)),
        ("application/cloudevents", Some(true)),
        ("application/json", Some(false)),
        ("application/cloud", Some(false)),
        ("applicatio주주주주", Some(false)),
        ("", Some(false)),
        ("application/cloudevents-batch+json", None),
        ("application/cloudevents+avro", None),
    ] {
        let headers: Headers = [("Content-Type", kind)].into_iter().collect();
        assert_eq!(is_structured(&headers).ok(), structured, "{kind}");
    }
    assert!(is_json("application/vnd.order+JSON") && !is_json("text/plain"));
}
