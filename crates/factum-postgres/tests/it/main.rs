//! Stores on PostgreSQL under the ports' suites, and what only they have to keep: a section that several processes share.

mod proxy;
mod section;
mod suites;
mod support;
