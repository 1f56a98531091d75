//! What came of a load.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

/// How many kinds of failure are shown.
const FAILURES_SHOWN: usize = 10;

/// An order that was sent: what came of it, and how long it took since it was due.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) outcome: Result<(), String>,
    pub(super) took: Duration,
}

/// What came of a load.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    pub(super) orders: u64,
    pub(super) rate_asked: u32,
    pub(super) rate_reached: f64,
    pub(super) p50_ms: f64,
    pub(super) p90_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    pub(super) failed: u64,
    /// How often each failure happened.
    pub(super) failures: BTreeMap<String, u64>,
    /// How long it took after the last order until all were paid, reserved or cancelled.
    pub(super) drain_ms: f64,
    pub(super) broken: Vec<String>,
    /// Why nobody knows whether an invariant is broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unchecked: Option<String>,
}

impl Summary {
    pub(super) fn of(
        all: &[Taken],
        rate_asked: u32,
        took: Duration,
        drain: Duration,
        broken: Result<Vec<String>, String>,
    ) -> Self {
        let (broken, unchecked) = match broken {
            Ok(broken) => (broken, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let mut times: Vec<_> = all
            .iter()
            .filter(|one| one.outcome.is_ok())
            .map(|one| one.took)
            .collect();
        times.sort();
        let mut failures = BTreeMap::new();
        for failure in all.iter().filter_map(|one| one.outcome.as_ref().err()) {
            *failures.entry(failure.clone()).or_default() += 1;
        }
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        let at = |percent| millis(percentile(&times, percent));
        #[expect(clippy::cast_precision_loss, reason = "a rate, and not a count")]
        let rate_reached = times.len() as f64 / took.as_secs_f64().max(0.001);
        Self {
            orders: times.len() as u64,
            rate_asked,
            rate_reached,
            p50_ms: at(50),
            p90_ms: at(90),
            p99_ms: at(99),
            max_ms: at(100),
            failed: failures.values().sum(),
            failures,
            drain_ms: millis(drain),
            broken,
            unchecked,
        }
    }
}

/// The least of the sorted `times` that is not less than `percent` of them; zero when there are none.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).copied().unwrap_or_default()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "orders      {} taken, {} not", self.orders, self.failed)?;
        writeln!(
            f,
            "rate        {:.1} a second, {} were asked for",
            self.rate_reached, self.rate_asked
        )?;
        writeln!(
            f,
            "taken in    p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, at most {:.1} ms",
            self.p50_ms, self.p90_ms, self.p99_ms, self.max_ms
        )?;
        if self.unchecked.is_none() {
            let seconds = self.drain_ms / 1000.0;
            writeln!(f, "finished    {seconds:.1} s after the last one")?;
        }
        for (failure, times) in self.failures.iter().take(FAILURES_SHOWN) {
            writeln!(f, "failure     {times} times: {failure}")?;
        }
        for broken in self.broken.iter().take(FAILURES_SHOWN) {
            writeln!(f, "broken      {broken}")?;
        }
        let invariants = match (&self.unchecked, self.broken.len()) {
            (Some(why), _) => format!("not checked: {why}"),
            (None, 0) => "all hold".into(),
            (None, broken) => format!("{broken} broken"),
        };
        write!(f, "invariants  {invariants}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        for (percent, millis) in [(50, 100), (99, 198), (100, 200), (0, 1)] {
            assert_eq!(
                percentile(&times, percent),
                Duration::from_millis(millis),
                "{percent}"
            );
        }
        assert_eq!(percentile(&times[..1], 99), Duration::from_millis(1));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }

    #[test]
    fn failures_are_counted_by_kind_and_not_timed() {
        let taken = |outcome: Result<(), &str>, millis| Taken {
            outcome: outcome.map_err(Into::into),
            took: Duration::from_millis(millis),
        };
        let all = [
            taken(Ok(()), 5),
            taken(Err("503"), 9000),
            taken(Err("503"), 9000),
        ];
        let summary = Summary::of(
            &all,
            10,
            Duration::from_secs(1),
            Duration::ZERO,
            Ok(Vec::new()),
        );
        assert_eq!(
            (summary.orders, summary.failed, summary.max_ms),
            (1, 2, 5.0)
        );
        assert_eq!(summary.failures, BTreeMap::from([("503".to_owned(), 2)]));
        assert!(summary.to_string().contains("2 times: 503"));
    }
}
