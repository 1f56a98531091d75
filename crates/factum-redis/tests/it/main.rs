//! Views on real servers. Those of the suites share the one that `FACTUM_TEST_REDIS` tells; what kills, starves or
//! dresses a server has one of its own.

mod access;
mod cluster;
mod losses;
mod outages;
mod proxy;
mod runtime;
mod server;
mod shelf;
mod suites;
mod support;
mod sweeps;
mod tls;
mod walks;
