//! When to try again, as arithmetic: how often and after how long.

use std::time::Duration;

use crate::FailureClass;

/// How often a failed handler is retried, and how long it waits before each time.
///
/// Three retries at 1, 2 and 4 seconds are four tries:
///
/// ```
/// use std::time::Duration;
/// use factum_core::RetryPolicy;
/// let policy = RetryPolicy::exponential(Duration::from_secs(1)).retries(3).without_jitter();
/// let delays: Vec<_> = (1..).map_while(|tries| policy.delay(tries, 0.5)).map(|d| d.as_secs()).collect();
/// assert_eq!(delays, [1, 2, 4]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    base: Duration,
    cap: Duration,
    jitter: f64,
    retries: u32,
    /// Overrides by class: how many retries such a failure gets.
    by_class: Vec<(FailureClass, u32)>,
}

impl RetryPolicy {
    /// Retries without a limit of their own waiting `base`, twice that, four times that, …, with the
    /// defaults: 3 retries, at most 1 hour between two, and up to a fifth of each wait as jitter.
    #[must_use]
    pub fn exponential(base: Duration) -> Self {
        let by_class = vec![(FailureClass::Poison, 0), (FailureClass::Rejected, 0)];
        Self {
            base,
            cap: Duration::from_hours(1),
            jitter: 0.2,
            retries: 3,
            by_class,
        }
    }

    /// No retries at all: the first failure is the last.
    #[must_use]
    pub fn never() -> Self {
        Self::exponential(Duration::ZERO).retries(0)
    }

    /// The number of retries behind the first try.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The number of retries for failures of `class`. Poison and rejections get none by default.
    #[must_use]
    pub fn retries_for(mut self, class: FailureClass, retries: u32) -> Self {
        self.by_class.retain(|(known, _)| *known != class);
        self.by_class.push((class, retries));
        self
    }

    /// The longest wait between two tries.
    #[must_use]
    pub fn at_most(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// The part of each wait that is random, from 0 to 1: a wait of `d` lasts from `d * (1 - jitter)` to `d`.
    #[must_use]
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.jitter = fraction.clamp(0.0, 1.0);
        self
    }

    /// Waits that are exactly what the policy says, for tests and demonstrations.
    #[must_use]
    pub fn without_jitter(self) -> Self {
        self.jitter(0.0)
    }

    /// How often a failure of `class` is tried in all, the first time included.
    pub fn tries(&self, class: FailureClass) -> u32 {
        let known = self.by_class.iter().find(|(known, _)| *known == class);
        known
            .map_or(self.retries, |(_, retries)| *retries)
            .saturating_add(1)
    }

    /// How long to wait when `tries` tries have failed, the last with a failure of `class`; `None` when
    /// that was the last. `fraction` is a random number from 0 to 1.
    pub fn delay_for(&self, class: FailureClass, tries: u32, fraction: f64) -> Option<Duration> {
        if tries >= self.tries(class) {
            return None;
        }
        let doublings = tries.saturating_sub(1);
        let wait = 2_u32
            .checked_pow(doublings)
            .and_then(|factor| self.base.checked_mul(factor));
        let wait = wait.unwrap_or(self.cap).min(self.cap);
        Some(wait.mul_f64(1.0 - self.jitter * fraction.clamp(0.0, 1.0)))
    }

    /// [`RetryPolicy::delay_for`] a transient failure.
    pub fn delay(&self, tries: u32, fraction: f64) -> Option<Duration> {
        self.delay_for(FailureClass::Transient, tries, fraction)
    }
}

/// One second, doubled, three times: what the guarantees call the default.
impl Default for RetryPolicy {
    fn default() -> Self {
        Self::exponential(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_cap_and_never_overflow() {
        let policy = RetryPolicy::exponential(Duration::from_secs(1))
            .retries(u32::MAX)
            .at_most(Duration::from_mins(1))
            .without_jitter();
        assert_eq!(policy.delay(6, 0.0), Some(Duration::from_secs(32)));
        for tries in [7, 8, 33, 34, 1000, u32::MAX - 1] {
            assert_eq!(
                policy.delay(tries, 0.0),
                Some(Duration::from_mins(1)),
                "{tries}"
            );
        }
    }

    #[test]
    fn jitter_only_shortens() {
        let policy = RetryPolicy::exponential(Duration::from_secs(10)).jitter(0.5);
        assert_eq!(policy.delay(1, 0.0), Some(Duration::from_secs(10)));
        assert_eq!(policy.delay(1, 1.0), Some(Duration::from_secs(5)));
    }

    #[test]
    fn poison_is_not_retried_unless_asked_for() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.tries(FailureClass::Poison), 1);
        assert_eq!(policy.delay_for(FailureClass::Poison, 1, 0.0), None);
        assert_eq!(
            policy
                .retries_for(FailureClass::Poison, 1)
                .tries(FailureClass::Poison),
            2
        );
    }
}
