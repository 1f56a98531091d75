//! Faults on demand: what is out of order in the pretended world.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

/// How often a flaky card fails before it works, unless told otherwise.
const FLAKY_TRIES: u32 = 2;

/// How the firms' own switches are, or are to be: what is absent stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Switches {
    /// Whether the gateway answers nothing.
    pub gateway_down: Option<bool>,
    /// Whether the notifier answers nothing.
    pub notifier_down: Option<bool>,
    /// How often a flaky card fails before it works.
    pub flaky_tries: Option<u32>,
}

/// Switches for what goes wrong. Cards carry faults of their own: `card:declined`, `card:flaky`.
#[derive(Debug)]
pub struct Faults {
    gateway_down: AtomicBool,
    notifier_down: AtomicBool,
    advice_hidden: AtomicBool,
    flaky_tries: AtomicU32,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            gateway_down: AtomicBool::new(false),
            notifier_down: AtomicBool::new(false),
            advice_hidden: AtomicBool::new(false),
            flaky_tries: AtomicU32::new(FLAKY_TRIES),
        }
    }
}

impl Faults {
    /// Sets the firms' switches, and tells how all of them are.
    pub(super) fn switch(&self, to: Switches) -> Switches {
        if let Some(down) = to.gateway_down {
            self.set_gateway_down(down);
        }
        if let Some(down) = to.notifier_down {
            self.set_notifier_down(down);
        }
        if let Some(tries) = to.flaky_tries {
            self.set_flaky_tries(tries);
        }
        Switches {
            gateway_down: Some(self.gateway_is_down()),
            notifier_down: Some(self.notifier_is_down()),
            flaky_tries: Some(self.flaky_tries()),
        }
    }

    /// Whether the gateway answers nothing.
    pub fn gateway_is_down(&self) -> bool {
        self.gateway_down.load(Ordering::Relaxed)
    }

    /// Lets the gateway answer nothing, or answer again.
    pub fn set_gateway_down(&self, down: bool) {
        self.gateway_down.store(down, Ordering::Relaxed);
    }

    /// Whether the notifier answers nothing.
    pub fn notifier_is_down(&self) -> bool {
        self.notifier_down.load(Ordering::Relaxed)
    }

    /// Lets the notifier answer nothing, or answer again.
    pub fn set_notifier_down(&self, down: bool) {
        self.notifier_down.store(down, Ordering::Relaxed);
    }

    /// Whether missing stock is hidden from the advice given to new orders, so that the late rejection is seen.
    pub fn advice_is_hidden(&self) -> bool {
        self.advice_hidden.load(Ordering::Relaxed)
    }

    /// Hides missing stock from the advice, or shows it again.
    pub fn set_advice_hidden(&self, hidden: bool) {
        self.advice_hidden.store(hidden, Ordering::Relaxed);
    }

    /// How often a flaky card fails before it works.
    pub fn flaky_tries(&self) -> u32 {
        self.flaky_tries.load(Ordering::Relaxed)
    }

    /// Sets how often a flaky card fails before it works.
    pub fn set_flaky_tries(&self, tries: u32) {
        self.flaky_tries.store(tries, Ordering::Relaxed);
    }
}
