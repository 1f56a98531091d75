//! The query service: answers what users ask where the services are processes of their own.
//!
//! It decides nothing. It imports what the order service, the user registry and the stock service say into a log of its
//! own, once each and in the order of keys, and keeps the same rows from it as those keep for themselves. So queries
//! meet one store, whichever services are stopped, and rows can be built anew without anybody's topic.

mod imports;

use factum::{RetryPolicy, Service};

use crate::{order, stock, users};

/// The service's name, and that of its store.
pub const NAME: &str = "query";

/// The query service.
pub fn service(retry: &RetryPolicy) -> Service {
    Service::new(NAME)
        .group(imports::group().retry(retry.clone()))
        .projection(order::KeepOrders::IMPORTED)
        .projection(users::KeepUsers)
        .projection(stock::KeepShelves)
}
