//! What is on the way, and what has become of it: shared by who sends and the thread that hears the broker.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use factum_core::{Error, Report};
use tokio::sync::Notify;

/// The messages of one producer run.
pub(super) struct Outbox {
    messages_max: usize,
    bytes_max: usize,
    state: Mutex<State>,
    /// Rings when a report has come, and with it room.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By ticket, in the order of sending.
    on_the_way: BTreeMap<usize, Sent>,
    bytes: usize,
    next_ticket: usize,
    reports: VecDeque<Report>,
    /// Reports of what was never sent: told behind those of what was sent before.
    refused: Vec<Report>,
    failed: Option<Error>,
    /// Whether what waits in the library must not be sent any more.
    purge: bool,
    closed: bool,
}

#[derive(Debug)]
struct Sent {
    sequence: u64,
    bytes: usize,
}

/// What the courier has to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// The oldest message that is on the way.
    pub(super) oldest: Option<usize>,
    /// Whether to purge what waits, told once.
    pub(super) purge: bool,
    /// Whether nobody sends any more.
    pub(super) closed: bool,
}

impl Outbox {
    pub(super) fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self {
            messages_max,
            bytes_max,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is made in one go after everything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so much more may be on the way. What is above a bound goes alone.
    pub(super) async fn room(&self, messages: usize, bytes: usize) -> Result<(), Error> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let state = self.state();
                if let Some(error) = &state.failed {
                    let what = "a producer that has failed sends no more: make a new one";
                    return Err(error.clone().while_(what));
                }
                if state.on_the_way.is_empty()
                    || state.on_the_way.len() + messages <= self.messages_max
                        && state.bytes + bytes <= self.bytes_max
                {
                    return Ok(());
                }
            }
            changed.await;
        }
    }

    /// Notes a message that is about to be sent; the number comes back with its fate.
    pub(super) fn begin(&self, sequence: u64, bytes: usize) -> usize {
        let mut state = self.state();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.bytes += bytes;
        state.on_the_way.insert(ticket, Sent { sequence, bytes });
        ticket
    }

    /// The message was not sent.
    pub(super) fn undo(&self, ticket: usize) {
        let mut state = self.state();
        if let Some(sent) = state.on_the_way.remove(&ticket) {
            state.bytes -= sent.bytes;
        }
    }

    /// These were not sent, and nothing will be.
    pub(super) fn refuse(&self, sequences: impl Iterator<Item = u64>, error: &Error) {
        let mut state = self.state();
        state.failed.get_or_insert_with(|| error.clone());
        state.refused.extend(sequences.map(|sequence| Report {
            sequence,
            result: Err(error.clone()),
        }));
        drop(state);
        self.changed.notify_one();
    }

    /// What has become of a message.
    pub(super) fn settle(&self, ticket: usize, result: Result<u64, Error>) {
        let mut state = self.state();
        // It may have been given up before.
        let Some(sent) = state.on_the_way.remove(&ticket) else {
            return;
        };
        state.bytes -= sent.bytes;
        if let Err(error) = &result
            && state.failed.is_none()
        {
            state.failed = Some(error.clone());
            state.purge = true;
        }
        state.reports.push_back(Report {
            sequence: sent.sequence,
            result,
        });
        drop(state);
        self.changed.notify_one();
    }

    /// Nothing can be sent any more. What is on the way has its fate still to come.
    pub(super) fn fail(&self, error: Error) {
        let mut state = self.state();
        if state.failed.is_none() {
            state.failed = Some(error);
            state.purge = true;
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Counts all that is on the way as failed.
    pub(super) fn give_up(&self, error: &Error) {
        let mut state = self.state();
        state.failed.get_or_insert_with(|| error.clone());
        state.purge = true;
        state.bytes = 0;
        let given_up = std::mem::take(&mut state.on_the_way);
        state
            .reports
            .extend(given_up.into_values().map(|sent| Report {
                sequence: sent.sequence,
                result: Err(error.clone()),
            }));
        drop(state);
        self.changed.notify_one();
    }

    /// The reports that are there; waits for one if any is to come.
    pub(super) async fn reports(&self) -> Vec<Report> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.state();
                if !state.reports.is_empty() {
                    return state.reports.drain(..).collect();
                }
                if state.on_the_way.is_empty() {
                    return std::mem::take(&mut state.refused);
                }
            }
            changed.await;
        }
    }

    /// Nobody sends any more, nor asks.
    pub(super) fn close(&self) {
        self.state().closed = true;
    }

    pub(super) fn look(&self) -> Look {
        let mut state = self.state();
        Look {
            oldest: state.on_the_way.keys().next().copied(),
            purge: std::mem::take(&mut state.purge),
            closed: state.closed,
        }
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Outbox")
            .field("on_the_way", &state.on_the_way.len())
            .field("bytes", &state.bytes)
            .field("failed", &state.failed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn told(reports: Vec<Report>) -> Vec<(u64, Option<u64>)> {
        let reports = reports.into_iter();
        reports
            .map(|report| (report.sequence, report.result.ok()))
            .collect()
    }

    #[tokio::test]
    async fn reports_of_what_was_refused_come_behind_those_of_what_was_sent() {
        let outbox = Outbox::new(10, 100);
        let ticket = outbox.begin(1, 5);
        outbox.refuse([2, 3].into_iter(), &Error::poison("too large"));
        let wait = timeout(Duration::from_millis(1), outbox.reports()).await;
        assert!(wait.is_err(), "1 is still on the way");

        outbox.settle(ticket, Ok(7));

        assert_eq!(told(outbox.reports().await), [(1, Some(7))]);
        assert_eq!(told(outbox.reports().await), [(2, None), (3, None)]);
        assert_eq!(told(outbox.reports().await), []);
        assert!(!outbox.look().purge, "what was sent before is appended");
    }

    #[tokio::test]
    async fn the_first_failure_purges_what_waits_and_ends_the_run() {
        let outbox = Outbox::new(10, 100);
        let (one, two) = (outbox.begin(1, 5), outbox.begin(2, 5));
        outbox.settle(one, Err(Error::transient("no")));
        assert!(outbox.look().purge);
        assert!(!outbox.look().purge, "it is told once");
        assert!(outbox.room(1, 1).await.is_err());
        outbox.settle(two, Ok(3));
        assert_eq!(told(outbox.reports().await), [(1, None), (2, Some(3))]);
    }

    #[tokio::test]
    async fn what_is_given_up_is_reported_once() {
        let outbox = Outbox::new(10, 100);
        let tickets = [outbox.begin(1, 5), outbox.begin(2, 5)];
        outbox.give_up(&Error::unknown("stalled"));
        // Its fate may come all the same.
        outbox.settle(tickets[0], Ok(1));
        assert_eq!(told(outbox.reports().await), [(1, None), (2, None)]);
        assert_eq!(outbox.look().oldest, None);
    }

    #[tokio::test]
    async fn room_is_what_the_bounds_leave_and_what_is_larger_goes_alone() {
        let outbox = Outbox::new(2, 100);
        outbox.room(5, 500).await.unwrap();
        let ticket = outbox.begin(1, 60);
        for (messages, bytes, fits) in [(1, 40, true), (1, 41, false), (2, 1, false)] {
            let room = timeout(Duration::from_millis(1), outbox.room(messages, bytes)).await;
            assert_eq!(room.is_ok(), fits, "{messages} messages of {bytes} bytes");
        }
        outbox.settle(ticket, Ok(0));
        outbox.room(5, 500).await.unwrap();
    }
}
