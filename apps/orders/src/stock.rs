//! The stock service: puts the items of paid orders aside, all of them or none.
//!
//! Reserving is one commit over a shelf for each thing and the order's reservation. Giving back goes over the
//! reservation's own event, since only the reservation knows what was reserved.

mod known;
mod reactors;
mod reservation;
pub use reservation::{Ended, Reservation, ReservationCommand, ReservationStatus};
mod shelf;
pub(crate) use shelf::RECEIVED_MAX;
pub use shelf::{Shelf, ShelfCommand, ShelfError};
mod view;
pub(crate) use view::KeepShelves;
pub use view::{SHELVES, ShelfRow};

use std::{sync::Arc, time::Duration};

use factum::{RetryPolicy, Service, Store};

/// The service's name, and that of its store.
pub const NAME: &str = "stock";

/// How often a payment of an order that is not known here is looked at again: with waits of at most
/// [`UNKNOWN_WAIT_MAX`] it waits for about half an hour.
const UNKNOWN_RETRIES: u32 = 40;

/// The longest wait for an order that is not known here.
const UNKNOWN_WAIT_MAX: Duration = Duration::from_mins(1);

/// The stock service on its `store`.
pub fn service(store: &Arc<dyn Store>, retry: &RetryPolicy) -> Service {
    let known = known::Orders::of(store.clone());
    let patient = retry
        .clone()
        .retries(UNKNOWN_RETRIES)
        .at_most(UNKNOWN_WAIT_MAX);
    Service::new(NAME)
        .aggregate::<Shelf>()
        .aggregate::<Reservation>()
        .group(reactors::follow(known).retry(patient))
        .group(reactors::imports().retry(retry.clone()))
        .group(reactors::shelves().retry(retry.clone()))
        .projection(view::KeepShelves)
}
