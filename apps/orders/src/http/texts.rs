//! Texts of requests: what each has to be, said once for the description and for the check of requests by it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{contracts::SKU_CHARS_MAX, order::TEXT_CHARS_MAX};

/// What has a character that is seen, and none that controls anything.
const PRINTABLE: &str = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$";

/// Texts, each with its greatest length, its pattern, and what it must be in words.
macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident($most:expr, $pattern:expr, $must:literal);)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub(super) struct $name(
            #[schemars(length(min = 1, max = $most), regex(pattern = $pattern), extend("x-must" = $must))]
            pub(super) String,
        );
    )+};
}

texts! {
    /// A text that people read.
    Words(TEXT_CHARS_MAX, PRINTABLE, "have 1 to 200 printable characters");
    /// A stock-keeping unit.
    SkuText(SKU_CHARS_MAX, PRINTABLE, "have 1 to 128 printable characters");
    /// The name of a card, which comes back on many events.
    Card(100_usize, PRINTABLE, "have 1 to 100 printable characters");
    /// An e-mail address.
    Email(TEXT_CHARS_MAX, r"^\s*[^\s@]+@\S+\s*$", "be an e-mail address, such as `kim@example.org`");
    /// A currency.
    CurrencyText(3_usize, "^[A-Z]{3}$", "be three capital letters, such as `KRW`");
    /// An idempotency key.
    Key(200_usize, "^[!-~]+$", "be 1 to 200 visible ASCII characters");
    /// A consistency token.
    TokenText(factum::TOKEN_BYTES_MAX, r"^ft[1-9][0-9]*\.[A-Za-z0-9_-]*$", "be the `Factum-Token` that a command answered");
}
