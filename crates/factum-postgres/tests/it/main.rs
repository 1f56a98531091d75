//! Stores on PostgreSQL under the ports' suites, and what only they have to keep: a section that several processes share.

mod failover;
mod outages;
mod proxy;
mod section;
mod server;
mod suites;
mod support;
mod tls;
