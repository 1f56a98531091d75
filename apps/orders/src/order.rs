//! The order service: takes orders, and brings each to one end from what payment and stock say.
//!
//! created → paid → confirmed → shipped, or cancelled. What the others say may come in any order (two topics have
//! none between them), more than once, and of orders that this service never saw.

mod advice;
pub use advice::{Short, short};
mod aggregate;
pub use aggregate::{Order, OrderCommand, OrderError, PlaceOrder, Status};
mod imports;
mod reactors;
mod view;
pub use view::{LEVELS, LevelRow, ORDERS, OrderRow, PAGE_ORDERS, by_user};

use factum::{GroupSpec, RetryPolicy, Service};

use crate::contracts;

/// The service's name, and that of its store.
pub const NAME: &str = "order";

/// The order service, without its topics.
pub fn service(retry: &RetryPolicy) -> Service {
    let follow = GroupSpec::new("order-service")
        .on(contracts::PAYMENTS, reactors::OnPaid)
        .on(contracts::PAYMENTS, reactors::OnUnpaid)
        .on(contracts::STOCK, reactors::OnReserved)
        .on(contracts::STOCK, reactors::OnOutOfStock)
        .retry(retry.clone());
    let import = GroupSpec::new("order-imports")
        .on(contracts::USERS, imports::ImportUser)
        .on(contracts::STOCK, imports::ImportShelf)
        .retry(retry.clone());
    Service::new(NAME)
        .aggregate::<Order>()
        .group(follow)
        .group(import)
        .projection(view::KeepOrders)
        .projection(view::KeepLevels)
}
