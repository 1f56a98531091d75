//! The notification service: tells users what became of their orders, once for each event.

mod aggregate;
pub use aggregate::{Notification, NotificationSent, Record};
mod reactors;
mod view;
pub use view::{NOTIFICATIONS, NotificationRow, by_order};

use factum::{GroupSpec, RetryPolicy, Service};

use crate::{contracts, outside::Notifier};

/// The service's name, and that of its store.
pub const NAME: &str = "notification";

/// The notification service, without its topics.
pub fn service(notifier: &Notifier, retry: &RetryPolicy) -> Service {
    let tell = |what| reactors::Tell::new(notifier, what);
    let follow = GroupSpec::new("notification-service")
        .on(
            contracts::STOCK,
            reactors::OnReserved(tell("your order is confirmed")),
        )
        .on(
            contracts::STOCK,
            reactors::OnOutOfStock(tell("your order can't be fulfilled")),
        )
        .on(
            contracts::PAYMENTS,
            reactors::OnUnpaid(tell("your payment failed")),
        )
        .on(
            contracts::PAYMENTS,
            reactors::OnRefunded(tell("your money is on its way back")),
        )
        .on(
            contracts::ORDERS,
            reactors::OnShipped(tell("your order is on its way")),
        )
        .on(
            contracts::ORDERS,
            reactors::OnCancelled(tell("your order was cancelled")),
        )
        .retry(retry.clone());
    Service::new(NAME)
        .aggregate::<Notification>()
        .group(follow)
        .projection(view::KeepNotifications)
}
