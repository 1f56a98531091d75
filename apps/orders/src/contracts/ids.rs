//! What things are called: orders, users, stock-keeping units, currencies.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
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

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }
    };
}

id!(
    /// What names an order.
    OrderId
);
id!(
    /// What names a user.
    UserId
);
id!(
    /// What names a thing in stock.
    Sku
);

/// The longest SKU, in characters: each names a shelf, and what names one fits in 512 bytes.
pub const SKU_CHARS_MAX: usize = 128;

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
