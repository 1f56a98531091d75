//! The owner of one inbox: runs what may run, one thing at a time in each lane.
//!
//! Its picture of the partition is shared with the handlers that run, so that each commit knows all that was seen up
//! to its moment. It ends when it is told to, when it is fenced, and whenever an outcome is unknown.

mod alone;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use factum_core::{
    AHEAD_MAX, At, Class, CommitError, InboxId, InboxRow, Job, Lane, Link, Message, Parked,
    ParkedFilter, ParkedState, Partition, Polled, Signal, Start, Timestamp,
    wire::{self, Incoming, WireError},
};
use tokio::{sync::Notify, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Consuming, PARKED_LANES_MAX,
    before::Linked,
    handle,
    incident::{Incident, Look, Watch},
};
use crate::{Status, relay::backoff};

/// How long an owner sleeps at most before it looks for due retries again: a lost wake-up costs this much.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// How many bytes of messages one partition's owner holds before its broker is asked to pause: those it looks at and
/// those that wait to be looked at. What a broker has given by then comes beside it, at most one batch of 8 MiB. With
/// 8 partitions of large messages that is 192 MiB; messages of up to 8 KiB are bounded by their number first.
pub const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many due retries are looked up at a time.
const RETRIES_MAX: usize = 100;

/// How an owner ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// As it was told to.
    Drained,
    /// It was fenced, or an outcome is unknown: if the partition is still assigned, it is claimed again.
    Reclaim,
    /// A handler asked for a person, or the store can't go on.
    Stopped(String),
}

/// The owner of one inbox.
pub(crate) struct Owner {
    pub(crate) consuming: Arc<Consuming>,
    inbox: InboxId,
    fence: factum_core::Fence,
    state: Mutex<State>,
    /// There are new messages.
    work: Notify,
    /// Finish what has begun, and end.
    drain: CancellationToken,
    /// Give up what has not finished, and end.
    cut_short: CancellationToken,
    /// End as it stands.
    dropped: CancellationToken,
    /// Has ended.
    gone: CancellationToken,
}

struct State {
    partition: Partition,
    buffer: VecDeque<Message>,
    /// How many bytes of messages are held, in the buffer and in the partition's queue.
    held_bytes: usize,
    /// Whether it had more than it may hold, and has had no room for more since.
    overfull: bool,
    /// Messages that are queued, as they were read: each is read once, unless it has to be looked at again.
    read: BTreeMap<u64, Result<Incoming, WireError>>,
    /// Sources that are missing a message.
    watch: Watch,
    /// Whether a message could not be parked, and nothing was finished since.
    full: bool,
}

impl State {
    fn has_room(&self) -> bool {
        let ahead = usize::try_from(AHEAD_MAX).unwrap_or(usize::MAX);
        self.buffer.len() <= ahead / 2 && self.held_bytes <= HELD_BYTES_MAX / 2
    }

    /// Whether there is room again after there was none. Said once: each turn of the member begins to read anew.
    fn makes_room(&mut self) -> bool {
        let room = self.overfull && self.has_room();
        self.overfull &= !room;
        room
    }
}

/// What a task of the owner reports.
pub(crate) struct Report {
    pub(crate) lane: Lane,
    pub(crate) message: Option<Message>,
    pub(crate) outcome: Outcome,
}

/// How the handling of a message ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Its commit left this row; the lane is parked now, or isn't.
    Finished(Box<InboxRow>, bool),
    /// A retry's commit went through; the lane is parked still, or isn't any more.
    Retried { parked: bool },
    /// The lane is parked, or isn't: nothing was done, look again.
    Lane { parked: bool },
    /// There is no room to park it: nothing was done, try again a little later.
    NoRoom,
    /// Nothing was done, and the message may be looked at again.
    Nothing,
    /// Fenced, or nobody knows: end and claim again.
    Reclaim,
    /// A person has to look.
    Stop(String),
}

impl Owner {
    pub(crate) fn new(
        consuming: Arc<Consuming>,
        inbox: InboxId,
        row: InboxRow,
        parked: Vec<Lane>,
        end: u64,
    ) -> Self {
        let fence = row.fence;
        let more_parked = parked.len() >= PARKED_LANES_MAX;
        let mut partition = Partition::new(row, parked, end, consuming.core.env.now())
            .with_more_parked(more_parked);
        if let Some(memory) = consuming.memories().remove(&inbox) {
            partition = partition.claimed_again(memory);
        }
        consuming.remember(&inbox, &partition);
        Self {
            consuming,
            inbox,
            fence,
            state: Mutex::new(State {
                partition,
                buffer: VecDeque::new(),
                held_bytes: 0,
                overfull: false,
                read: BTreeMap::new(),
                watch: Watch::default(),
                full: false,
            }),
            work: Notify::new(),
            drain: CancellationToken::new(),
            cut_short: CancellationToken::new(),
            dropped: CancellationToken::new(),
            gone: CancellationToken::new(),
        }
    }

    pub(crate) fn inbox(&self) -> &InboxId {
        &self.inbox
    }

    pub(crate) fn fence(&self) -> factum_core::Fence {
        self.fence
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen so far, for a commit.
    pub(crate) fn advance(&self) -> factum_core::Advance {
        self.state().partition.advance()
    }

    /// Looks at messages below the place where it goes on: one that was left out, and has not come again since, is
    /// still missing a predecessor.
    pub(super) fn look_back(&self, before: &[Linked]) {
        let mut state = self.state();
        let State {
            partition, watch, ..
        } = &mut *state;
        let row = partition.row();
        for Linked {
            offset,
            link,
            timestamp,
        } in before.iter().copied()
        {
            let last = row.lasts.get(link.source);
            // A source that has no place yet has its start before it, or is missing it.
            if row.start == Start::Beginning || last != At::ZERO {
                let crowded = row.lasts.is_too_many_for(link.source);
                watch.note(&self.inbox, offset, link, last, crowded, timestamp);
            }
        }
    }

    /// Raises what is missing for too long. Says whether an operator has mended something, so that all is read anew.
    fn watch(&self) -> bool {
        let core = &self.consuming.core;
        let now = core.env.now();
        let mut state = self.state();
        let watch = &mut state.watch;
        match watch.look(&self.inbox, &core.incidents, now) {
            Look::Same => {}
            Look::Raised => {
                let reason = watch.first().map(Incident::reason);
                self.show(Status::Degraded(reason.unwrap_or_default()));
            }
            Look::Ended => self.show(Status::Running),
            Look::Mended => {
                watch.give_up(&self.inbox, &core.incidents);
                self.show(Status::Running);
                return true;
            }
        }
        false
    }

    /// Shows that a message could not be parked, until another one is finished or settled.
    pub(crate) fn is_out_of_room(&self, reason: &CommitError) {
        self.state().full = true;
        self.show(Status::Degraded(reason.to_string()));
    }

    /// Shows how this partition is doing, beside the group as a whole.
    fn show(&self, status: Status) {
        let Consuming {
            core, health, part, ..
        } = &*self.consuming;
        let (topic, partition) = (&self.inbox.topic, self.inbox.partition);
        health.set(
            &format!("{part}/{topic}/{partition}"),
            status,
            core.env.now(),
        );
    }

    /// What it has raised is for the next owner to raise, if it is still so.
    fn give_up_watch(&self) {
        let mut state = self.state();
        if state.watch.first().is_some() || std::mem::take(&mut state.full) {
            self.show(Status::Running);
        }
        state
            .watch
            .give_up(&self.inbox, &self.consuming.core.incidents);
    }

    /// Hands over a message from the broker.
    pub(crate) fn deliver(&self, message: Message) {
        let mut state = self.state();
        state.held_bytes += message.size();
        state.buffer.push_back(message);
        drop(state);
        self.work.notify_one();
    }

    /// Whether it has more than it can look at, or hold. Its member is woken when there is room again.
    pub(crate) fn is_full(&self) -> bool {
        let ahead = usize::try_from(AHEAD_MAX).unwrap_or(usize::MAX);
        let mut state = self.state();
        let full = state.buffer.len() >= ahead || state.held_bytes >= HELD_BYTES_MAX;
        state.overfull |= full;
        full
    }

    /// Whether it can take more again.
    pub(crate) fn has_room(&self) -> bool {
        self.state().has_room()
    }

    /// Whether it has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Up to where everything is finished or parked.
    pub(crate) fn low(&self) -> u64 {
        self.state().partition.row().low
    }

    /// Asks it to finish what has begun, release the inbox and end.
    pub(crate) fn drain(&self) {
        self.drain.cancel();
    }

    /// Waits until it has ended.
    pub(crate) async fn drained(&self) {
        self.gone.cancelled().await;
    }

    /// Asks it to give up what it has begun, release the inbox and end.
    pub(crate) fn cut_short(&self) {
        self.cut_short.cancel();
    }

    /// Ends it as it stands.
    pub(crate) fn drop_all(&self) {
        self.dropped.cancel();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.drain.is_cancelled() || self.dropped.is_cancelled()
    }

    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.drain
    }

    /// Runs until it ends.
    pub(crate) async fn run(self: Arc<Self>) -> Ended {
        let mut jobs = JoinSet::new();
        let ended = tokio::select! {
            biased;
            () = self.dropped.cancelled() => Ended::Drained,
            ended = self.own_until_cut_short(&mut jobs) => ended,
        };
        self.give_up_watch();
        self.gone.cancel();
        self.consuming.turn.notify_one();
        ended
    }

    async fn own_until_cut_short(self: &Arc<Self>, jobs: &mut JoinSet<Report>) -> Ended {
        let ended = tokio::select! {
            biased;
            () = self.cut_short.cancelled() => None,
            ended = self.own(jobs) => Some(ended),
        };
        if let Some(ended) = ended {
            return ended;
        }
        // They end where they wait; a commit that is on its way counts or doesn't, whole. With none of them left nothing
        // can be taken for what the process died of, so it is released as in good order.
        jobs.shutdown().await;
        self.release().await
    }

    async fn own(self: &Arc<Self>, jobs: &mut JoinSet<Report>) -> Ended {
        let core = &self.consuming.core;
        let mut retry_at = Some(core.env.now());
        let mut parking = 0;
        let mut failures = 0;
        // Whether a due retry found its lane, or all places, taken: it is looked up again as soon as one is free.
        let mut held_off = false;
        loop {
            if self.drain.is_cancelled() && jobs.is_empty() {
                return self.release().await;
            }
            if !self.drain.is_cancelled() {
                self.take();
                if self.watch() {
                    return Ended::Reclaim;
                }
                // Retries go first: they make the room that live messages behind them may wait for.
                match self.start_retries(jobs, &mut retry_at).await {
                    Ok(refused) => {
                        failures = 0;
                        held_off |= refused;
                    }
                    Err(error) if error.is_fatal() => return Ended::Stopped(format!("{error:#}")),
                    Err(error) => {
                        self.consuming.trouble(&error);
                        retry_at = Some(core.env.now() + backoff(&core.env, failures));
                        failures += 1;
                    }
                }
                self.start(jobs);
                if self.owes_void()
                    && let Some(ended) = self.commit_void().await
                {
                    return ended;
                }
            }
            let wait = retry_at.map_or(LOOK_MAX, |at| at.since(core.env.now()).min(LOOK_MAX));
            let wait = if jobs.len() >= self.consuming.group.concurrency {
                LOOK_MAX
            } else {
                wait
            };
            tokio::select! {
                biased;
                Some(report) = jobs.join_next() => {
                    // Those that were in one group of commits have ended together.
                    let mut next = Some(report);
                    while let Some(report) = next {
                        let report = match report {
                            Ok(report) => report,
                            Err(error) => return Ended::Stopped(format!("a handler's task ended by itself: {error}")),
                        };
                        if let Some(ended) = self.report(report, &mut retry_at) {
                            return ended;
                        }
                        next = jobs.try_join_next();
                    }
                    if std::mem::take(&mut held_off) {
                        retry_at = Some(core.env.now());
                    }
                }
                () = self.drain.cancelled(), if !self.drain.is_cancelled() => {}
                () = self.work.notified() => {}
                changed = timeout(wait.max(Duration::from_millis(1)), core.store.wait(Signal::Parking, parking)) => {
                    if let Ok(Ok(value)) = changed {
                        parking = value;
                    }
                    retry_at = self.next_retry().await;
                }
            }
        }
    }

    /// Takes messages from the buffer as long as the window has room.
    fn take(&self) {
        let Consuming { core, group, .. } = &*self.consuming;
        let mut state = self.state();
        let State {
            partition,
            buffer,
            held_bytes,
            read,
            watch,
            ..
        } = &mut *state;
        while partition.has_room()
            && let Some(message) = buffer.pop_front()
        {
            let size = message.size();
            // After a claim the broker may still deliver what was on the way before the seek.
            if message.offset < partition.poll() {
                *held_bytes -= size;
                continue;
            }
            let link = link(&message);
            // What can't be read is handled too: it becomes a dead letter.
            let (offset, incoming) = (message.offset, wire::read(&message));
            let handled = incoming.as_ref().map_or(true, |incoming| {
                group.handles(&message.topic, &incoming.event_type.name)
            });
            let polled = partition.polled(message, link, handled);
            if polled != Polled::Queued {
                *held_bytes -= size;
            }
            match polled {
                Polled::Void(Class::Premature) => core.metrics.premature(&group.name),
                Polled::Void(Class::Deliver) => core.metrics.unknown(&group.name),
                Polled::Void(Class::Duplicate) => {
                    core.metrics
                        .message(&group.name, "duplicate", Duration::ZERO);
                }
                Polled::Queued => {
                    read.insert(offset, incoming);
                }
                Polled::Done => {}
            }
            if let Some(link) = link {
                let last = partition.lasts().get(link.source);
                let crowded = partition.lasts().is_too_many_for(link.source);
                watch.note(&self.inbox, offset, link, last, crowded, core.env.now());
            }
        }
        let room = state.makes_room();
        drop(state);
        if room {
            self.consuming.turn.notify_one();
        }
    }

    fn start(self: &Arc<Self>, jobs: &mut JoinSet<Report>) {
        while jobs.len() < self.consuming.group.concurrency {
            let mut state = self.state();
            let Some(job) = state.partition.start() else {
                break;
            };
            let read = state.read.remove(&job.message.offset);
            if job.trying.is_some() {
                self.consuming.remember(&self.inbox, &state.partition);
            }
            drop(state);
            let owner = self.clone();
            jobs.spawn(async move {
                let Job { message, .. } = &job;
                let (lane, copy) = (message.lane(), message.clone());
                let outcome = handle::live(&owner, job, read).await;
                Report {
                    lane,
                    message: Some(copy),
                    outcome,
                }
            });
        }
    }

    /// Starts retries that are due. Says whether one could not start because its lane, or all places, are taken.
    async fn start_retries(
        self: &Arc<Self>,
        jobs: &mut JoinSet<Report>,
        retry_at: &mut Option<Timestamp>,
    ) -> Result<bool, factum_core::Error> {
        let core = &self.consuming.core;
        let now = core.env.now();
        if retry_at.is_none_or(|at| at > now) {
            return Ok(false);
        }
        if jobs.len() >= self.consuming.group.concurrency {
            return Ok(true);
        }
        let mut filter = Some(ParkedFilter {
            inbox: Some(self.inbox.clone()),
            state: Some(ParkedState::Retrying),
            due: Some(now),
            ..ParkedFilter::default()
        });
        let (mut left, mut refused, mut suspected) = (RETRIES_MAX, false, false);
        // Large ones come in several pages: those whose lanes are taken must not hide the others.
        while left > 0
            && let Some(asked) = filter.take()
        {
            let page = core.store.parked(&asked, left).await?;
            filter = asked.behind(&page, left);
            left -= page.len();
            {
                let partition = &mut self.state().partition;
                let suspect = |row: &Parked| row.due <= partition.suspects_due_by();
                suspected |= page.iter().any(suspect);
                if filter.is_none() && !suspected {
                    partition.no_suspects();
                }
            }
            if self.start_page(jobs, page) {
                refused = true;
            }
            if jobs.len() >= self.consuming.group.concurrency {
                break;
            }
        }
        // There may be more than were looked at.
        *retry_at = filter.is_some().then_some(now);
        if retry_at.is_none() {
            *retry_at = self.next_retry().await.filter(|at| *at > now);
        }
        Ok(refused)
    }

    /// Starts these retries. Says whether one could not start because its lane, or all places, are taken.
    fn start_page(self: &Arc<Self>, jobs: &mut JoinSet<Report>, page: Vec<Parked>) -> bool {
        let mut refused = false;
        for parked in page {
            if jobs.len() >= self.consuming.group.concurrency {
                return true;
            }
            let lane = parked.lane.clone();
            let mark = {
                let mut state = self.state();
                let mark = state.partition.retry_mark(&parked.id, parked.due);
                state.partition.set_parked(&lane, true);
                if !state.partition.start_retry(&lane, mark) {
                    refused = true;
                    continue;
                }
                if mark.is_some() {
                    self.consuming.remember(&self.inbox, &state.partition);
                }
                mark
            };
            let owner = self.clone();
            jobs.spawn(async move {
                let outcome = handle::retry(&owner, parked, mark).await;
                Report {
                    lane,
                    message: None,
                    outcome,
                }
            });
        }
        refused
    }

    async fn next_retry(&self) -> Option<Timestamp> {
        match self.consuming.core.store.next_retry(&self.inbox).await {
            Ok(at) => at,
            // Looked up again a little later.
            Err(_) => Some(self.consuming.core.env.now() + LOOK_MAX),
        }
    }

    fn report(&self, report: Report, retry_at: &mut Option<Timestamp>) -> Option<Ended> {
        let Report {
            lane,
            message,
            outcome,
        } = report;
        let mut state = self.state();
        let went_on = matches!(outcome, Outcome::Finished(..) | Outcome::Retried { .. });
        if went_on && std::mem::take(&mut state.full) {
            self.show(Status::Running);
        }
        let State {
            partition,
            held_bytes,
            ..
        } = &mut *state;
        match outcome {
            Outcome::Finished(row, parked) => {
                if let Some(message) = &message {
                    if parked {
                        partition.set_parked(&lane, true);
                    }
                    partition.finished(message, *row);
                    *held_bytes -= message.size();
                }
            }
            Outcome::Retried { parked } | Outcome::Lane { parked } => {
                partition.set_parked(&lane, parked);
                partition.idle(&lane);
            }
            Outcome::NoRoom | Outcome::Nothing => partition.idle(&lane),
            Outcome::Reclaim => return Some(Ended::Reclaim),
            Outcome::Stop(reason) => return Some(Ended::Stopped(reason)),
        }
        if partition.is_parked(&lane) || message.is_none() {
            // The lane may have a retry that could not start while it was busy.
            *retry_at = Some(self.consuming.core.env.now());
        }
        let room = state.makes_room();
        drop(state);
        if room {
            self.consuming.turn.notify_one();
        }
        if went_on {
            self.consuming.well();
        }
        None
    }
}

fn link(message: &Message) -> Option<Link> {
    Link::from_headers(|name| message.headers.get(name))
        .ok()
        .flatten()
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}
