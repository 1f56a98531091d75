//! What is wrong with data that can't be read: which field, what it is and what it has to be, and none of what it says.
//!
//! The words go to logs, and data may be anybody's secret: a card's number in the place of an amount. Whoever may read
//! the message itself finds the value by the field's name.

use std::fmt::Write as _;

/// From how many characters on a value is recognised wherever it stands in the words of user code.
const VALUE_CHARS_MIN: usize = 4;

/// The words for `error`, which reading `data` came to.
pub(super) fn malformed(data: &[u8], error: &serde_json::Error) -> String {
    let text = error.to_string();
    if !error.is_data() {
        // It names the place, and what was to stand there.
        return text;
    }
    let place = format!(" at line {} column {}", error.line(), error.column());
    let words = text.strip_suffix(&place).unwrap_or(&text);
    let path = path_at(data, offset(data, error.line(), error.column()));
    let field = |path: &str| {
        if path.is_empty() {
            "it".to_owned()
        } else {
            format!("field `{path}`")
        }
    };
    let member = |rest: &str| {
        let name = rest.split('`').next().unwrap_or_default();
        let dot = if path.is_empty() { "" } else { "." };
        format!("field `{path}{dot}{name}`")
    };
    let expected = |rest: &str| {
        let wanted = rest.rfind(", expected ").map(|at| &rest[at..]);
        wanted.unwrap_or_default().to_owned()
    };
    if let Some(rest) = words.strip_prefix("invalid type: ") {
        return format!("{} is {}{}", field(&path), kind(rest), expected(rest));
    }
    if let Some(rest) = words.strip_prefix("invalid value: ") {
        let kind = kind(rest);
        return format!(
            "{} is {kind} that it can't be{}",
            field(&path),
            expected(rest)
        );
    }
    if let Some(rest) = words.strip_prefix("unknown variant `") {
        let wanted = rest.find("`, ").map(|at| &rest[at + 1..]);
        let wanted = wanted.unwrap_or_default();
        return format!("{} is none of its values{wanted}", field(&path));
    }
    if let Some(rest) = words.strip_prefix("missing field `") {
        return format!("{} is missing", member(rest));
    }
    // It is found at the second name, before its value.
    if words.starts_with("duplicate field `") {
        return format!("{} is there twice", field(&path));
    }
    let path = quoted_last(data, offset(data, error.line(), error.column()), words).unwrap_or(path);
    format!("{}: {}", field(&path), without_values(words, data))
}

/// The path of the last member of an object that ends at `end`, if the words of user code quote its value: what is wrong
/// with the last member is found behind the object, as what is wrong with the object is.
fn quoted_last(data: &[u8], end: usize, words: &str) -> Option<String> {
    let inside = end.checked_sub(1).filter(|at| data[*at] == b'}')?;
    let mut last = String::new();
    let path = scan(data, inside, |value| last = value);
    (!last.is_empty() && words.contains(&last)).then_some(path)
}

/// What serde found, without what it says.
fn kind(unexpected: &str) -> &'static str {
    match unexpected.split([' ', ',']).next() {
        Some("string" | "character") => "a text",
        Some("integer" | "floating" | "number") => "a number",
        Some("boolean") => "a truth value",
        Some("null" | "unit" | "Option") => "null",
        Some("map" | "struct") => "an object",
        Some("sequence") => "a list",
        _ => "something else",
    }
}

/// Words of user code, in which a value may be quoted.
fn without_values(words: &str, data: &[u8]) -> String {
    let mut values = Vec::new();
    scan(data, data.len(), |value| values.push(value));
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    let mut words = words.to_owned();
    for value in &values {
        if value.chars().count() >= VALUE_CHARS_MIN {
            words = words.replace(value.as_str(), "…");
        }
    }
    // What is short, or was cut, is told by its quotes.
    for quote in ['`', '"'] {
        let parts = words.split(quote).enumerate().map(|(index, part)| {
            let is_value = values.iter().any(|value| value.starts_with(part));
            let hidden = index % 2 == 1 && !part.is_empty() && is_value;
            if hidden { "…" } else { part }
        });
        words = parts.collect::<Vec<_>>().join(&quote.to_string());
    }
    words
}

/// Where a line and a column are, both counted from 1: behind the byte that they name.
fn offset(data: &[u8], line: usize, column: usize) -> usize {
    let before = data
        .split_inclusive(|byte| *byte == b'\n')
        .take(line.saturating_sub(1));
    let start: usize = before.map(<[u8]>::len).sum();
    (start + column).min(data.len())
}

/// The path of the value that ends at `end`, or of the innermost that is begun there.
fn path_at(data: &[u8], end: usize) -> String {
    scan(data, end, |_| {})
}

/// A list or an object that is open.
enum Open {
    List(usize),
    /// With the name of the member that has begun; none before it.
    Object(Option<String>),
}

/// Goes over `data`, which need not be whole, as far as `end`, tells the scalar values, and gives the path of the value
/// that ends there, or of the innermost that is begun.
fn scan(data: &[u8], end: usize, mut value: impl FnMut(String)) -> String {
    let mut open: Vec<Open> = Vec::new();
    // The last value that was whole: its end, its path.
    let mut whole: Option<(usize, String)> = None;
    let mut at = 0;
    while at < end {
        let from = at;
        at += 1;
        match data[from] {
            b'{' => open.push(Open::Object(None)),
            b'[' => open.push(Open::List(0)),
            b'}' | b']' => {
                open.pop();
                whole = Some((at, path(&open)));
            }
            b',' => match open.last_mut() {
                Some(Open::List(index)) => *index += 1,
                Some(Open::Object(name)) => *name = None,
                None => {}
            },
            b'"' => {
                while at < data.len() && data[at] != b'"' {
                    at += if data[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(data.len());
                let text = serde_json::from_slice(&data[from..at]);
                let text: String = text.unwrap_or_default();
                match open.last_mut() {
                    Some(Open::Object(name)) if name.is_none() => *name = Some(text),
                    _ => {
                        value(text);
                        whole = Some((at, path(&open)));
                    }
                }
            }
            byte if byte.is_ascii_whitespace() || byte == b':' => {}
            _ => {
                let ends = |byte: &u8| byte.is_ascii_whitespace() || b",]}".contains(byte);
                at = (from..data.len())
                    .find(|at| ends(&data[*at]))
                    .unwrap_or(data.len());
                value(String::from_utf8_lossy(&data[from..at]).into_owned());
                whole = Some((at, path(&open)));
            }
        }
    }
    match whole {
        Some((ended, path))
            if data
                .get(ended..end)
                .is_none_or(|rest| rest.trim_ascii().is_empty()) =>
        {
            path
        }
        _ => path(&open),
    }
}

fn path(open: &[Open]) -> String {
    let mut path = String::new();
    for one in open {
        match one {
            // Writing to a String doesn't fail.
            Open::List(index) => write!(path, "[{index}]").unwrap_or_default(),
            Open::Object(Some(name)) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Open::Object(None) => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "what is read is never looked at")]
    struct Order {
        #[serde(alias = "total")]
        total_amount: u64,
        items: Vec<Item>,
        #[serde(default)]
        payment: Option<Payment>,
        #[serde(default)]
        card: Option<Card>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "what is read is never looked at")]
    struct Item {
        qty: u32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Payment {
        Auto,
        Manual,
    }

    #[derive(Debug, Deserialize)]
    #[serde(try_from = "String")]
    struct Card;

    impl TryFrom<String> for Card {
        type Error = String;
        fn try_from(text: String) -> Result<Self, String> {
            let cut: String = text.chars().take(3).collect();
            Err(format!("{text} or `{cut}` is no `card`"))
        }
    }

    #[track_caller]
    fn check(data: &str, expected: &str) {
        let error = serde_json::from_str::<Order>(data).unwrap_err();
        assert_eq!(malformed(data.as_bytes(), &error), expected, "{error}");
    }

    #[test]
    fn the_field_is_named_and_its_value_is_not() {
        check(
            r#"{"total":"4111-1111-1111-1111","items":[]}"#,
            "field `total` is a text, expected u64",
        );
        check(
            "{\"items\":[{\"qty\":1},\n {\"qty\": -411 } ]}",
            "field `items[1].qty` is a number that it can't be, expected u32",
        );
        check(
            r#"{"items":[{"qty":1},{"quantity":4111}]}"#,
            "field `items[1].qty` is missing",
        );
        check(
            r#"{"items":{"a":4111}}"#,
            "field `items` is an object, expected a sequence",
        );
        check(
            r#"{"total":1.5}"#,
            "field `total` is a number, expected u64",
        );
        check(
            r#"{"total":1,"total_amount":4111}"#,
            "field `total_amount` is there twice",
        );
        check(
            r#"{"payment":"4111","items":[]}"#,
            "field `payment` is none of its values, expected `auto` or `manual`",
        );
        check("4111", "it is a number, expected struct Order");
        check("{\"a", "EOF while parsing a string at line 1 column 3");
    }

    #[test]
    fn words_of_user_code_are_told_without_the_values_that_they_quote() {
        check(
            r#"{"card":"4111-1111", "total":1}"#,
            "field `card`: … or `…` is no `card`",
        );
        check(
            r#"{"total":1, "items":[], "card":"4111-1111" }"#,
            "field `card`: … or `…` is no `card`",
        );
    }
}
