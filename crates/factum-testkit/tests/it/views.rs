//! The memory store's views against the suite of the views port.

use crate::store::memory;

factum_testkit::views_suite!(memory());
