//! How deep a foreign value may be nested.
//!
//! Reading here never recurses, but those who read the value later do, and refuse what is too deep. So it is
//! refused at the edge, where the error can name the field.

/// How deep a value may be nested: as deep as `serde_json` reads by default.
pub(super) const NESTING_MAX: usize = 127;

/// Whether the JSON value `text` is nested deeper than [`NESTING_MAX`].
pub(super) fn is_nested_too_deep(text: &str) -> bool {
    // Nearly every value has fewer brackets than levels are allowed, and counting them is quick.
    let opens = |byte: &u8| matches!(byte, b'{' | b'[');
    if text.as_bytes().iter().filter(|byte| opens(byte)).count() <= NESTING_MAX {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_nested_too_deep_can_be_read_later() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            for depth in [1, NESTING_MAX, NESTING_MAX + 1, 100_000] {
                let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                let readable = serde_json::from_str::<serde_json::Value>(&text).is_ok();
                assert_eq!(
                    is_nested_too_deep(&text),
                    !readable,
                    "{depth} times `{open}`"
                );
            }
        }
    }

    #[test]
    fn brackets_beside_each_other_and_in_texts_are_not_nesting() {
        let beside = format!("[{}1]", "[],".repeat(1000));
        let in_text = format!("[\"{}\\\"{}\"]", "[".repeat(1000), "{".repeat(1000));
        for text in [beside, in_text] {
            assert!(!is_nested_too_deep(&text));
        }
    }
}
