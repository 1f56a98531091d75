//! Roles: the services of the platform by name.

use std::fmt;

use factum::Event as _;

use crate::{
    contracts::{OrderEvent, PaymentEvent, StockEvent, UserRegistered},
    notification, order, payment, query, stock, users,
};

/// What each service is called, in the order in which they are told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The user registry.
    Users,
    /// The order service.
    Order,
    /// The payment service.
    Payment,
    /// The stock service.
    Stock,
    /// The notification service.
    Notification,
    /// What answers queries, where the services are processes of their own.
    Query,
}

impl Role {
    /// All that do the business. Where they share a process, each answers the queries about its own.
    pub const ALL: [Self; 5] = [
        Self::Users,
        Self::Order,
        Self::Payment,
        Self::Stock,
        Self::Notification,
    ];

    /// All that a process can be.
    pub const EVERY: [Self; 6] = [
        Self::Users,
        Self::Order,
        Self::Payment,
        Self::Stock,
        Self::Notification,
        Self::Query,
    ];

    /// The service's name, and that of its store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Users => users::NAME,
            Self::Order => order::NAME,
            Self::Payment => payment::NAME,
            Self::Stock => stock::NAME,
            Self::Notification => notification::NAME,
            Self::Query => query::NAME,
        }
    }

    /// The role whose service has this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|role| role.name() == name)
    }

    /// The topic that its service publishes to.
    pub(super) fn topic(self) -> Option<&'static str> {
        match self {
            Self::Users => UserRegistered::TOPIC,
            Self::Order => OrderEvent::TOPIC,
            Self::Payment => PaymentEvent::TOPIC,
            Self::Stock => StockEvent::TOPIC,
            Self::Notification | Self::Query => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
