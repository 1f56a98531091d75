//! Values and what is wrong with them, in the words that a customer reads.

use serde_json::json;

use super::*;

/// What is wrong with `value`, one line for each field.
fn wrong(schema: &Value, value: &str) -> Vec<String> {
    let value = RawValue::from_string(value.to_owned()).unwrap();
    let wrong = Shape::of(schema, schema).wrong(&value);
    wrong
        .iter()
        .map(|one| format!("{} {}", one.field, one.detail))
        .collect()
}

fn order() -> Value {
    json!({
        "type": "object",
        "properties": {
            "items": {
                "type": "array", "minItems": 1, "maxItems": 2,
                "items": { "$ref": "#/$defs/Item" },
            },
            "payment": { "anyOf": [
                { "oneOf": [{ "type": "string", "const": "auto" }, { "type": "string", "const": "manual" }] },
                { "type": "null" },
            ] },
            "rush": { "type": ["boolean", "null"] },
            "currency": { "type": "string", "pattern": "^[A-Z]{3}$", "x-must": "be three capital letters" },
            "headers": { "type": "object", "additionalProperties": { "type": "string" } },
            "value": true,
        },
        "required": ["items"],
        "additionalProperties": false,
        "$defs": { "Item": {
            "type": "object",
            "properties": {
                "qty": { "type": "integer", "minimum": 1, "maximum": 9 },
                "sku": { "type": "string", "minLength": 1, "maxLength": 3 },
                "name": { "type": "string" },
            },
            "required": ["qty"],
            "anyOf": [{ "required": ["sku"] }, { "required": ["name"] }],
        } },
    })
}

#[test]
fn what_fits_is_not_wrong() {
    for value in [
        r#"{"items":[{"qty":1,"sku":"tea"}]}"#,
        r#"{"items":[{"qty":9,"name":"a pot of tea","colour":"red"}],"payment":null,"rush":null}"#,
        r#"{"items":[{"qty":1,"sku":"차주전"}],"payment":"manual","rush":true,"currency":"KRW"}"#,
        r#"{"items":[{"qty":1,"sku":"\u0041"}],"headers":{"a":"b"},"value":[1e400,"\ud800"]}"#,
    ] {
        assert_eq!(wrong(&order(), value), [""; 0], "{value}");
    }
}

#[test]
fn all_that_is_wrong_is_named_at_once_and_in_words() {
    let value = r#"{
        "items": [{ "qty": 0, "sku": "long" }, { "qty": 1.5 }],
        "payment": "later", "rush": 1, "currency": "won", "headers": { "a": 1 }, "colour": {}, "rush": true
    }"#;
    assert_eq!(
        wrong(&order(), value),
        [
            "items[0].qty must be a whole number from 1 to 9",
            "items[0].sku must be a text of 1 to 3 characters",
            "items[1].qty must be a whole number from 1 to 9",
            "items[1].sku is missing: one of `sku` and `name` is needed",
            "payment must be `auto` or `manual`",
            "rush must be `true` or `false`",
            "currency must be three capital letters",
            "headers.a must be a text",
            "colour is not known here (known: `currency`, `headers`, `items`, `payment`, `rush`, `value`)",
            "rush is given twice",
        ]
    );
}

#[test]
fn the_wrong_kind_of_value_is_one_error_however_much_is_in_it() {
    let many = format!(r#"{{"items":[{}{{}}]}}"#, "{},".repeat(10_000));
    for (value, is) in [
        ("[]", "body must be a JSON object"),
        ("null", "body must be a JSON object"),
        ("{}", "items is missing"),
        (r#"{"items":{}}"#, "items must be a list of 1 to 2 items"),
        (&many, "items must be a list of 1 to 2 items"),
        (
            r#"{"items":[7,{"qty":1,"sku":"x"}]}"#,
            "items[0] must be a JSON object",
        ),
        (
            r#"{"items":[{"qty":99999999999999999999999999999999999999999,"sku":"x"}]}"#,
            "items[0].qty must be a whole number from 1 to 9",
        ),
        (
            r#"{"items":[{"qty":1,"sku":"\ud800"}]}"#,
            "items[0].sku must be a text of 1 to 3 characters",
        ),
    ] {
        assert_eq!(wrong(&order(), value), [is], "{value:.60}");
    }
}

#[test]
fn no_more_is_named_than_anybody_reads() {
    let unknown = (0..10_000)
        .map(|number| format!("\"x{number}\":1"))
        .collect::<Vec<_>>()
        .join(",");
    assert_eq!(wrong(&order(), &format!("{{{unknown}}}")).len(), ERRORS_MAX);
}

#[test]
#[should_panic(expected = "`multipleOf`")]
fn a_schema_that_could_not_be_checked_is_found() {
    Shape::of(&json!({ "type": "integer", "multipleOf": 2 }), &Value::Null);
}
