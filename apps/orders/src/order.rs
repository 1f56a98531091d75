//! The order service: takes orders, and brings each to one end from what payment and stock say.
//!
//! created → paid → confirmed → shipped, or cancelled. What the others say may come in any order (two topics have
//! none between them), more than once, and of orders that this service never saw.

mod advice;
pub use advice::{Short, short};
mod aggregate;
pub(crate) use aggregate::{ITEMS_MAX, TEXT_CHARS_MAX, TOTAL_MAX};
pub use aggregate::{Order, OrderCommand, OrderError, PlaceOrder, Status};
mod imports;
pub use imports::knows_user;
mod reactors;
mod view;
pub(crate) use view::KeepOrders;
pub use view::{
    BUYERS, BuyerRow, LEVELS, LevelRow, ORDERS, OrderRow, PAGE_ORDERS, by_user, by_words,
};

use factum::{RetryPolicy, Service};

/// The service's name, and that of its store.
pub const NAME: &str = "order";

/// The order service.
pub fn service(retry: &RetryPolicy) -> Service {
    Service::new(NAME)
        .aggregate::<Order>()
        .group(reactors::group().retry(retry.clone()))
        .group(imports::group().retry(retry.clone()))
        .projection(view::KeepOrders::OWN)
        .projection(view::KeepLevels)
}
