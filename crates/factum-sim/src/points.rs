//! Points: where a life may end.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// The points that a story passes. Clones are handles of one story's.
#[derive(Clone, Debug, Default)]
pub struct Points(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// How many points the present life has passed.
    passed: u64,
    /// The one at which it ends.
    crash_at: Option<u64>,
    /// Or the kind of point at which it ends, when it has passed so many more of these.
    crash_kind: Option<(String, u64)>,
    crash: CancellationToken,
    /// Where the present life ended.
    ended_at: Option<String>,
    /// How many points a story may have, and whether it came to more.
    steps_max: Option<u64>,
    overran: bool,
    /// How often each kind of point was passed, and how often a life ended there.
    kinds: BTreeMap<String, Kind>,
    trace: crc32fast::Hasher,
    steps: u64,
}

/// How often a kind of point was passed, and how often a life ended there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    /// How often it was passed, the ends of lives included.
    pub passed: u64,
    /// How often a life ended there.
    pub crashed: u64,
}

impl Points {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A life begins that ends at its `crash_at`-th point, or not at all.
    pub(crate) fn begin(&self, crash_at: Option<u64>) -> CancellationToken {
        let mut inner = self.inner();
        inner.passed = 0;
        inner.crash_at = crash_at;
        inner.crash_kind = None;
        inner.ended_at = None;
        inner.crash = CancellationToken::new();
        inner.crash.clone()
    }

    /// Lets the present life end at a point of this kind, after passing `passed` of them, if it comes so far.
    pub fn end_at(&self, kind: &str, passed: u64) {
        self.inner().crash_kind = Some((kind.to_string(), passed));
    }

    /// Where the present life ended: the kind of point, and what it was about.
    pub fn ended_at(&self) -> Option<String> {
        self.inner().ended_at.clone()
    }

    /// Ends a story at its `steps_max`-th point, whatever it does: one that never becomes quiet is found out.
    pub fn at_most(&self, steps_max: u64) {
        self.inner().steps_max = Some(steps_max);
    }

    /// Whether it came to more points than it may have.
    pub fn overran(&self) -> bool {
        self.inner().overran
    }

    /// Passes a point of this kind, or ends the life: then this never returns. `subject` goes into the trace.
    pub async fn pass(&self, kind: &str, subject: &str) {
        if self.arrive(kind, subject) {
            std::future::pending::<()>().await;
        }
    }

    fn arrive(&self, kind: &str, subject: &str) -> bool {
        let mut inner = self.inner();
        inner.trace.update(kind.as_bytes());
        inner.trace.update(subject.as_bytes());
        inner.trace.update(&[0]);
        inner.steps += 1;
        // A life that has ended does nothing more, whatever still runs of it.
        if inner.crash.is_cancelled() {
            return true;
        }
        if inner.steps_max.is_some_and(|most| inner.steps > most) {
            inner.overran = true;
            inner.crash.cancel();
            return true;
        }
        let of_kind = match &mut inner.crash_kind {
            Some((wanted, passed)) if wanted == kind => {
                *passed = passed.wrapping_sub(1);
                *passed == u64::MAX
            }
            _ => false,
        };
        let crashes = of_kind || inner.crash_at == Some(inner.passed);
        inner.passed += 1;
        let entry = inner.kinds.entry(kind.to_string()).or_default();
        entry.passed += 1;
        entry.crashed += u64::from(crashes);
        if crashes {
            inner.ended_at = Some(format!("{kind} {subject}").trim_end().to_string());
            inner.crash.cancel();
        }
        crashes
    }

    /// Each kind of point, with how often it was passed and how often a life ended there.
    pub fn kinds(&self) -> BTreeMap<String, Kind> {
        self.inner().kinds.clone()
    }

    /// A hash of all points passed, in order: equal for two runs of one seed.
    pub fn trace(&self) -> (u64, u32) {
        let inner = self.inner();
        (inner.steps, inner.trace.clone().finalize())
    }
}
