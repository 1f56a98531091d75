//! The embedded stores under the ports' suites, and what only they have to keep: a file.

mod backup;
mod broker;
#[cfg(target_os = "linux")]
mod disk;
mod file;
mod lost_topics;
mod markers;
mod own_sql;
mod plain;
mod start;
mod suites;
mod support;
mod witness;
