//! Views on real servers. Those of the suites share the one that `FACTUM_TEST_REDIS` tells; what kills, starves or
//! dresses a server has one of its own.

mod suites;
mod support;
