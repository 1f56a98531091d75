//! The payment service: charges what was ordered, and gives back what came to nothing.
//!
//! The gateway is outside: it is called at least once, with a key that never changes, and deduplicates. What it
//! answered is recorded exactly once. A refund is decided first and made afterwards, so that it can't be forgotten.

mod aggregate;
pub use aggregate::{Payment, PaymentCommand, PaymentStatus};
mod reactors;
mod view;
pub use view::{PAYMENTS, PaymentRow};

use factum::{RetryPolicy, Service};

use crate::outside::Gateway;

/// The service's name, and that of its store.
pub const NAME: &str = "payment";

/// The payment service.
pub fn service(gateway: &Gateway, retry: &RetryPolicy) -> Service {
    Service::new(NAME)
        .aggregate::<Payment>()
        .group(reactors::orders(gateway).retry(retry.clone()))
        .group(reactors::refunds(gateway).retry(retry.clone()))
        .projection(view::KeepPayments)
}
