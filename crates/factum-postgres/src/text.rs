//! Free texts as PostgreSQL takes them: without NUL, and still in the order of their bytes.
//!
//! NUL becomes `\x01\x01`, and `\x01` becomes `\x01\x02`. All other bytes are greater than both, so that the order of
//! escaped texts is that of the texts. Names that are checked where they are made need none of this.

use std::borrow::Cow;

/// `text` as it is stored.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte < 2) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '\0' => escaped.push_str("\u{1}\u{1}"),
            '\u{1}' => escaped.push_str("\u{1}\u{2}"),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

/// The text that [`escape`] wrote.
pub(crate) fn unescape(stored: String) -> String {
    if !stored.contains('\u{1}') {
        return stored;
    }
    let mut text = String::with_capacity(stored.len());
    let mut letters = stored.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1}' => text.push(if letters.next() == Some('\u{1}') {
                '\0'
            } else {
                '\u{1}'
            }),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_reads_back_and_keeps_its_place_among_others() {
        let mut texts = vec![
            "",
            "\0",
            "\0\0",
            "\0\u{1}",
            "\0a",
            "\u{1}",
            "\u{1}\0",
            "\u{1}\u{2}",
            "\u{2}",
            "a",
            "a\0",
            "주문",
        ];
        texts.sort_unstable();
        let escaped: Vec<_> = texts.iter().map(|text| escape(text).into_owned()).collect();
        assert!(escaped.is_sorted(), "{escaped:?}");
        for (text, escaped) in texts.iter().zip(escaped) {
            assert!(!escaped.contains('\0'));
            assert_eq!(unescape(escaped), *text);
        }
    }
}
