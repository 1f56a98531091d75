//! What things are called: orders, users, stock-keeping units, currencies.

use std::fmt;

use factum::STREAM_ID_BYTES_MAX;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest SKU, in characters: each names a shelf, and what names one fits in 512 bytes.
pub const SKU_CHARS_MAX: usize = 128;

/// A text that can't name something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} has {must}, and no control characters")]
pub struct InvalidId {
    what: &'static str,
    must: String,
}

/// Checked where it is read: what can't name a stream would fail only when money was taken for it.
fn check(text: &str, what: &'static str, chars_max: Option<usize>) -> Result<(), InvalidId> {
    let fits = match chars_max {
        None => text.len() <= STREAM_ID_BYTES_MAX,
        Some(most) => text.chars().count() <= most,
    };
    if fits && !text.is_empty() && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let must = match chars_max {
        None => format!("1 to {STREAM_ID_BYTES_MAX} bytes"),
        Some(most) => format!("1 to {most} characters"),
    };
    Err(InvalidId { what, must })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $chars_max:expr) => {
        $(#[$doc])*
        #[derive(
            Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The id that `text` is.
            ///
            /// # Panics
            ///
            /// When it can't be one: this is for texts that stand in code or are made by it.
            pub fn of(text: &str) -> Self {
                text.to_owned().try_into().expect("it is an id")
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                check(&text, $what, $chars_max)?;
                Ok(Self(text))
            }
        }

        #[cfg(test)]
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::of(text)
            }
        }
    };
}

id!(
    /// What names an order.
    OrderId, "an order's id", None
);
id!(
    /// What names a user.
    UserId, "a user's id", None
);
id!(
    /// What names a thing in stock.
    Sku, "a SKU", Some(SKU_CHARS_MAX)
);

/// A currency: three capital letters, as ISO 4217 writes them.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct Currency(String);

/// A text that is not a currency.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a currency: write three capital letters, such as `KRW`")]
pub struct InvalidCurrency(String);

impl Currency {
    /// The Korean won: what orders of version 1 were in.
    pub fn won() -> Self {
        Self("KRW".into())
    }
}

impl Default for Currency {
    fn default() -> Self {
        Self::won()
    }
}

impl TryFrom<String> for Currency {
    type Error = InvalidCurrency;
    fn try_from(text: String) -> Result<Self, InvalidCurrency> {
        if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Ok(Self(text));
        }
        Err(InvalidCurrency(text.chars().take(20).collect()))
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.0
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_nothing_is_refused_where_it_is_read() {
        let order = |text: String| serde_json::from_value::<OrderId>(text.into()).is_ok();
        let sku = |text: String| serde_json::from_value::<Sku>(text.into()).is_ok();
        for bad in ["", "a\u{0}b", "a\nb"] {
            assert!(!order(bad.into()) && !sku(bad.into()), "{bad:?}");
        }
        assert!(order("o".repeat(512)) && !order("o".repeat(513)));
        assert!(sku("차".repeat(128)) && !sku("t".repeat(129)));
    }

    #[test]
    fn a_currency_is_three_capital_letters() {
        assert_eq!(
            serde_json::from_str::<Currency>(r#""USD""#)
                .unwrap()
                .to_string(),
            "USD"
        );
        for bad in [r#""usd""#, r#""US""#, r#""EURO""#, r#""₩₩""#, "1"] {
            assert!(serde_json::from_str::<Currency>(bad).is_err(), "{bad}");
        }
    }
}
