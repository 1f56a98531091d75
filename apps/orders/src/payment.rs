//! The payment service: charges what was ordered, and gives back what came to nothing.
//!
//! The gateway is outside: it is called at least once, with a key that never changes, and deduplicates. What it
//! answered is recorded exactly once. A refund is decided first and made afterwards, so that it can't be forgotten.

mod aggregate;
pub use aggregate::{Payment, PaymentCommand, PaymentStatus};
mod reactors;
mod view;
pub use view::{PAYMENTS, PaymentRow};

use factum::{GroupSpec, RetryPolicy, Service};

use crate::{contracts, outside::Gateway};

/// The service's name, and that of its store.
pub const NAME: &str = "payment";

/// The payment service, without its topics.
pub fn service(gateway: &Gateway, retry: &RetryPolicy) -> Service {
    let follow = GroupSpec::new("payment-service")
        .on(contracts::ORDERS, reactors::ChargeOrder(gateway.clone()))
        .on(
            contracts::ORDERS,
            reactors::ChargeOnRequest(gateway.clone()),
        )
        .on(contracts::ORDERS, reactors::OnCancelled)
        .on(contracts::STOCK, reactors::OnOutOfStock)
        .retry(retry.clone());
    let refund = GroupSpec::new("payment-refunds")
        .on(contracts::PAYMENTS, reactors::GiveBack(gateway.clone()))
        .retry(retry.clone());
    Service::new(NAME)
        .aggregate::<Payment>()
        .group(follow)
        .group(refund)
        .projection(view::KeepPayments)
}
