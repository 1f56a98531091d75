//! Names: which texts can be stored names and topics, and how Rust's names lead to suggestions and constants.

use syn::{Error, LitStr, Result};

/// The longest name, in bytes. It and the characters below are the rule of `factum-core`'s names, which the
/// macros can't ask: they know no crate of ours. A test holds the two together.
const NAME_BYTES_MAX: usize = 249;

/// Refuses a text that can't be a `kind` of name.
pub(crate) fn check(kind: &str, literal: &LitStr) -> Result<()> {
    let text = literal.value();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fault = if text.is_empty() {
        "it is empty".into()
    } else if text.len() > NAME_BYTES_MAX {
        format!("it is {} bytes long", text.len())
    } else if text == "." || text == ".." {
        "it is only dots".into()
    } else if let Some(other) = text.chars().find(|c| !c.is_ascii() || !allowed(*c as u8)) {
        format!("it contains `{}`", other.escape_debug())
    } else {
        return Ok(());
    };
    Err(Error::new(
        literal.span(),
        format!(
            "this can't be a {kind}: {fault}; a {kind} is 1 to {NAME_BYTES_MAX} letters, digits, `.`, `_` or `-`"
        ),
    ))
}

/// What a variant's stored name could be: `Created` of `OrderEvent` suggests `OrderCreated`.
pub(crate) fn suggestion(family: &str, variant: &str) -> String {
    let stem = family
        .strip_suffix("Events")
        .or_else(|| family.strip_suffix("Event"))
        .unwrap_or(family);
    if variant.starts_with(stem) {
        variant.into()
    } else {
        format!("{stem}{variant}")
    }
}

/// The name of a variant's constant: `PaymentCompleted` becomes `PAYMENT_COMPLETED`.
pub(crate) fn constant(variant: &str) -> String {
    let letters: Vec<char> = variant.chars().collect();
    let mut constant = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| letters[before]);
        let after = letters.get(index + 1);
        let ends_a_word =
            before.is_some_and(|before| before.is_lowercase() || before.is_ascii_digit());
        let ends_an_acronym = before.is_some_and(char::is_uppercase)
            && after.is_some_and(|after| after.is_lowercase());
        if letter.is_uppercase() && (ends_a_word || ends_an_acronym) {
            constant.push('_');
        }
        constant.extend(letter.to_uppercase());
    }
    constant
}

#[cfg(test)]
mod tests {
    use proc_macro2::Span;

    use super::*;

    #[test]
    fn a_constant_has_the_words_of_its_variant() {
        for (variant, expected) in [
            ("Created", "CREATED"),
            ("PaymentCompleted", "PAYMENT_COMPLETED"),
            ("HTTPCalled", "HTTP_CALLED"),
            ("Step2Done", "STEP2_DONE"),
            ("Snake_Case", "SNAKE_CASE"),
            ("A", "A"),
        ] {
            assert_eq!(constant(variant), expected);
        }
    }

    #[test]
    fn a_suggested_name_says_whose_event_it_is() {
        assert_eq!(suggestion("OrderEvent", "Created"), "OrderCreated");
        assert_eq!(suggestion("OrderEvents", "OrderCreated"), "OrderCreated");
        assert_eq!(suggestion("Stock", "Reserved"), "StockReserved");
    }

    #[test]
    fn a_stored_name_is_what_the_core_allows_for_a_name() {
        let long = "x".repeat(250);
        for text in [
            "orders.v1_x-Y9",
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "주문",
            "a\0",
            "OrderCreated",
            &long,
            &long[1..],
        ] {
            let literal = LitStr::new(text, Span::call_site());
            assert_eq!(
                check("stored name", &literal).is_ok(),
                factum_core::Topic::new(text).is_ok(),
                "{text:?}"
            );
        }
    }
}
