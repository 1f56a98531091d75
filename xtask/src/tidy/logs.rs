//! Log lines keep to the dictionary: `crates/factum/src/telemetry.rs` says which fields there are.
//!
//! A line's message begins like the middle of a sentence and has no full stop, so that lines of all crates read
//! alike. Lines of tests are nobody's business.

use super::{Fault, has_extension};

/// The dictionary's text.
pub(super) const DICTIONARY: &str = include_str!("../../../crates/factum/src/telemetry.rs");

const LEVELS: &[&str] = &["error!(", "warn!(", "info!(", "debug!(", "trace!("];

/// The fields that the dictionary has.
pub(super) fn fields(dictionary: &str) -> Vec<&str> {
    let table = dictionary.split("pub const FIELDS").nth(1).unwrap_or("");
    let table = table.split("];").next().unwrap_or("");
    // Each entry is a pair: name, meaning.
    strings(table).into_iter().step_by(2).collect()
}

/// Every field of a log line is in the dictionary, and every message reads like its neighbours.
pub(super) fn speak_the_dictionary(path: &str, text: &str) -> Vec<Fault> {
    let ours = path.starts_with("crates/") || path.starts_with("apps/");
    if !ours || !has_extension(path, "rs") || !path.contains("/src/") {
        return Vec::new();
    }
    let known = fields(DICTIONARY);
    let mut faults = Vec::new();
    for (line, arguments) in calls(text) {
        let (used, message) = parts(arguments);
        for field in used {
            if !known.contains(&field) {
                faults.push(Fault::new(
                    line,
                    format!(
                        "log field `{field}` is not in the dictionary (crates/factum/src/telemetry.rs): \
                         use one that is, or add it there with its meaning"
                    ),
                ));
            }
        }
        if message.starts_with(char::is_uppercase) || message.ends_with('.') {
            faults.push(Fault::new(
                line,
                format!(
                    "log message \"{message}\" begins in lower case and ends without a full stop"
                ),
            ));
        }
    }
    faults
}

/// The fields that the log lines of a file use.
#[cfg(test)]
pub(super) fn used(text: &str) -> Vec<&str> {
    calls(text)
        .into_iter()
        .flat_map(|(_, arguments)| parts(arguments).0)
        .collect()
}

/// The arguments of each call of a logging macro, with its line.
fn calls(text: &str) -> Vec<(usize, &str)> {
    let mut calls = Vec::new();
    let mut line_start = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let start = line_start;
        line_start += line.len();
        if line.trim_start().starts_with("//") {
            continue;
        }
        for level in LEVELS {
            let Some(at) = line.find(level) else { continue };
            let before = line[..at].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || before == '_') {
                continue;
            }
            calls.push((index + 1, inside(&text[start + at + level.len()..])));
        }
    }
    calls
}

/// The text up to the parenthesis that closes what was open before it.
fn inside(text: &str) -> &str {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    for (index, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return &text[..index];
                }
            }
            _ => {}
        }
    }
    text
}

/// The names of the fields, and the message: the first argument that is a string by itself.
fn parts(arguments: &str) -> (Vec<&str>, &str) {
    let mut fields = Vec::new();
    for argument in split(arguments) {
        if argument.starts_with('"') {
            return (fields, strings(argument).remove(0));
        }
        let name = argument.split('=').next().unwrap_or("").trim();
        fields.push(name.trim_start_matches(['%', '?']));
    }
    (fields, "")
}

/// The arguments one by one: a comma within a string or within parentheses parts none.
fn split(arguments: &str) -> Vec<&str> {
    let (mut all, mut rest) = (Vec::new(), arguments);
    while !rest.trim().is_empty() {
        let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
        let end = rest.find(|character| {
            match character {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '(' | '[' | '{' if !quoted => depth += 1,
                ')' | ']' | '}' if !quoted => depth = depth.saturating_sub(1),
                ',' => return !quoted && depth == 0,
                _ => {}
            }
            false
        });
        let (argument, behind) = rest.split_at(end.unwrap_or(rest.len()));
        all.push(argument.trim());
        rest = behind.strip_prefix(',').unwrap_or("");
    }
    all
}

/// The contents of the string literals in `text`, escapes left as they are.
fn strings(text: &str) -> Vec<&str> {
    let (mut found, mut open, mut escaped) = (Vec::new(), None, false);
    for (index, character) in text.char_indices() {
        match (character, open) {
            _ if escaped => escaped = false,
            ('\\', Some(_)) => escaped = true,
            ('"', None) => open = Some(index + 1),
            ('"', Some(start)) => {
                found.push(&text[start..index]);
                open = None;
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_the_dictionary_lacks_is_found() {
        let text = "fn f() {\n    tracing::warn!(\n        stream.id = %id, colour = 3,\n        \"it is red\"\n    );\n}\n";
        let faults = speak_the_dictionary("crates/a/src/b.rs", text);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].line, 2);
        assert!(faults[0].message.contains("`colour`"));
        // Behind a value that is a string, nothing was looked at.
        let behind = "info!(stream.id = \"a\", colour = f(1, 2), \"it is red\");";
        let faults = speak_the_dictionary("crates/a/src/b.rs", behind);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].message.contains("`colour`"));
    }

    #[test]
    fn a_message_is_no_sentence_of_its_own() {
        let shouts = "info!(\"Started.\");";
        assert_eq!(speak_the_dictionary("crates/a/src/b.rs", shouts).len(), 1);
        let fine = "info!(group.name = %group, \"consumer group `{group}` (of {a}) caught up\", a = f(1, \"x\"));";
        assert_eq!(speak_the_dictionary("crates/a/src/b.rs", fine), []);
    }

    #[test]
    fn tests_and_other_macros_may_say_what_they_like() {
        assert_eq!(
            speak_the_dictionary("crates/a/tests/b.rs", "info!(colour = 1, \"Red.\")"),
            []
        );
        assert_eq!(
            speak_the_dictionary("crates/a/src/b.rs", "my_info!(colour = 1, \"Red.\")"),
            []
        );
        assert_eq!(
            speak_the_dictionary("crates/a/src/b.rs", "// info!(colour = 1, \"Red.\")"),
            []
        );
    }

    #[test]
    fn the_dictionary_is_read_as_it_is_written() {
        let fields = fields(DICTIONARY);
        assert!(fields.contains(&"stream.id"), "{fields:?}");
        assert!(
            fields.iter().all(|field| !field.contains(' ')),
            "{fields:?}"
        );
    }
}
