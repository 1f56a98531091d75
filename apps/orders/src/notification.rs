//! The notification service: tells users what became of their orders, once for each event.

mod aggregate;
pub use aggregate::{Notification, NotificationSent, Record};
mod reactors;
mod view;
pub use view::{NOTIFICATIONS, NotificationRow, by_order};

use factum::{RetryPolicy, Service};

use crate::outside::Notifier;

/// The service's name, and that of its store.
pub const NAME: &str = "notification";

/// The notification service.
pub fn service(notifier: &Notifier, retry: &RetryPolicy) -> Service {
    Service::new(NAME)
        .aggregate::<Notification>()
        .group(reactors::group(notifier).retry(retry.clone()))
        .projection(view::KeepNotifications)
}
