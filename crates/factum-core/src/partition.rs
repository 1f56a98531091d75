//! The owner of one inbox, as a state machine: what of a partition was seen, what may run now, and which commit is
//! owed for messages that nobody handles.
//!
//! One lane runs one thing at a time, live messages and retries of parked ones alike. Different lanes run side by
//! side. The owner's picture is dropped whole whenever it is fenced or an outcome is unknown; what it needs to go
//! on is the row, the parked lanes and the partition itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    Advance, Class, Fence, InboxRow, Lane, Lasts, Link, Message, ParkedId, Seen, Timestamp, Trying,
    WINDOW_MAX,
};

/// How many messages above `low` an owner reads at most: bounds its memory, and the stretch that is tried one by
/// one after an unclean end.
pub const AHEAD_MAX: u64 = 1_024;

const _: () = assert!(
    AHEAD_MAX <= WINDOW_MAX,
    "what is read ahead must fit into the bitmap"
);

/// The owner's picture of its partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Partition {
    row: InboxRow,
    /// How many messages above `low` are read at most.
    ahead: u64,
    /// The next offset to read.
    poll: u64,
    /// The last place of each source as of `poll`.
    lasts: Lasts,
    /// What was seen from `row.low` (or a little below) up to `poll`.
    seen: VecDeque<Seen>,
    advance: Option<Advance>,
    /// Messages that are to be handled, by offset.
    queued: BTreeMap<u64, Message>,
    /// Live messages of each lane that wait for their turn.
    lanes: BTreeMap<Lane, VecDeque<u64>>,
    /// Lanes whose first live message may start: by its offset, so that the oldest starts first.
    ready: BTreeSet<(u64, Lane)>,
    /// Lanes that run something.
    busy: BTreeSet<Lane>,
    /// Lanes that are parked in the store, as far as is known.
    parked: BTreeSet<Lane>,
    /// Whether more lanes may be parked than it was told of.
    more_parked: bool,
    /// After an unclean end: what the last owner may have died of is tried one by one behind an attempt mark.
    careful: Option<Careful>,
    /// The last mark that this owner gave out.
    mark: Option<Trying>,
    /// The lane in which a parked message is tried behind a mark.
    retries_suspect: Option<Lane>,
}

/// What a life keeps in mind of an inbox that it owned, for when it claims the inbox again: it has not died meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Memory {
    fence: Fence,
    careful: Option<Careful>,
    mark: Option<Trying>,
}

/// What an owner after an unclean end has to be careful with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Careful {
    /// The mark that the last owner left.
    left: Option<Trying>,
    /// Messages below this offset may have been running.
    until: u64,
    /// So may retries that were due by then, as long as there are any.
    due_by: Option<Timestamp>,
}

/// A message to handle now.
#[derive(Clone, Debug)]
pub struct Job {
    /// The message.
    pub message: Message,
    /// Whether its lane is parked, so that it has to wait behind.
    pub wait: bool,
    /// Whether its lane may be parked without the owner's knowing: the store is to be asked before it runs, since what a
    /// handler does outside of the store can't be taken back when the commit is refused.
    pub ask: bool,
    /// The attempt mark to set before it runs.
    pub trying: Option<Trying>,
}

/// What the owner does with a polled message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// It will run.
    Queued,
    /// It is finished already.
    Done,
    /// No handler runs for it: it is a duplicate or premature, or nobody handles such messages.
    Void(Class),
}

impl Partition {
    /// The picture of a new owner: the row that it claimed at `now`, the lanes that are parked, and the partition's end
    /// at that time.
    pub fn new(
        row: InboxRow,
        parked: impl IntoIterator<Item = Lane>,
        end: u64,
        now: Timestamp,
    ) -> Self {
        let careful = (!row.clean).then(|| Careful {
            left: row.trying,
            until: end.min(row.low + AHEAD_MAX),
            due_by: Some(now),
        });
        Self {
            ahead: AHEAD_MAX,
            poll: row.low,
            lasts: row.lasts.clone(),
            seen: VecDeque::new(),
            advance: None,
            queued: BTreeMap::new(),
            lanes: BTreeMap::new(),
            ready: BTreeSet::new(),
            busy: BTreeSet::new(),
            parked: parked.into_iter().collect(),
            more_parked: false,
            careful,
            mark: None,
            retries_suspect: None,
            row,
        }
    }

    /// The same life owned the inbox before, and remembers this of it: it was fenced, or didn't know an outcome, and did
    /// not die. So nothing that it tried is counted as a death.
    #[must_use]
    pub fn claimed_again(mut self, before: Memory) -> Self {
        let Some(careful) = &mut self.careful else {
            return self;
        };
        let (then, now) = (before.fence, self.row.fence);
        if then.store == now.store && then.owner.0 + 1 == now.owner.0 {
            // Nobody was the owner in between: there is to be careful with what there was before, and nothing else.
            self.careful = before.careful;
        } else if before.mark.is_some() && before.mark == self.row.trying {
            careful.left = before.careful.and_then(|careful| careful.left);
        }
        self
    }

    /// What the life that owns it keeps in mind, for [`Partition::claimed_again`].
    pub fn memory(&self) -> Memory {
        Memory {
            fence: self.row.fence,
            careful: self.careful.clone(),
            mark: self.mark,
        }
    }

    /// Reads at most `messages` ahead, and never more than [`AHEAD_MAX`].
    #[must_use]
    pub fn reading_ahead(mut self, messages: u64) -> Self {
        self.ahead = messages.min(AHEAD_MAX);
        self
    }

    /// More lanes with a key may be parked than it was told of.
    #[must_use]
    pub fn with_more_parked(mut self, more: bool) -> Self {
        self.more_parked = more;
        self
    }

    /// The row as the last commit left it.
    pub fn row(&self) -> &InboxRow {
        &self.row
    }

    /// The next offset to read.
    pub fn poll(&self) -> u64 {
        self.poll
    }

    /// The last place of each source, in the partition up to the next offset to read.
    pub fn lasts(&self) -> &Lasts {
        &self.lasts
    }

    /// Whether more messages may be read now.
    pub fn has_room(&self) -> bool {
        self.poll < self.row.low + self.ahead
    }

    /// Whether messages are tried one by one, because the last owner ended without a release.
    pub fn is_careful(&self) -> bool {
        let suspects = |careful: &Careful| self.row.low < careful.until || careful.due_by.is_some();
        self.careful.as_ref().is_some_and(suspects)
    }

    /// Takes the next message of the partition. Offsets that were left out hold nothing. `handled` says whether
    /// anybody in the group handles such messages.
    pub fn polled(&mut self, message: Message, link: Option<Link>, handled: bool) -> Polled {
        let class = self.lasts.fold(self.row.start, link.as_ref());
        let void = !handled || class != Class::Deliver;
        self.seen.push_back(Seen {
            from: self.poll,
            offset: message.offset,
            void,
            link,
            timestamp: message.timestamp,
        });
        self.advance = None;
        self.poll = message.offset + 1;
        if self.row.is_done(message.offset) {
            return Polled::Done;
        }
        if void {
            return Polled::Void(class);
        }
        let (lane, offset) = (message.lane(), message.offset);
        self.queued.insert(offset, message);
        let queue = self.lanes.entry(lane.clone()).or_default();
        queue.push_back(offset);
        if queue.len() == 1 && !self.busy.contains(&lane) {
            self.ready.insert((offset, lane));
        }
        Polled::Queued
    }

    /// What was seen from `low` on, for the next commit.
    pub fn advance(&mut self) -> Advance {
        let seen = &self.seen;
        self.advance
            .get_or_insert_with(|| seen.iter().copied().collect())
            .clone()
    }

    /// The next message to handle, if one may start now. Its lane is busy until [`Partition::finished`].
    pub fn start(&mut self) -> Option<Job> {
        if self.is_careful() && !self.busy.is_empty() {
            return None;
        }
        // Behind a large hole it has to wait until `low` has come over that.
        let (offset, _) = self.ready.first()?;
        if *offset >= self.row.low + WINDOW_MAX {
            return None;
        }
        let (offset, lane) = self.ready.pop_first()?;
        let message = self
            .queued
            .get(&offset)
            .expect("a ready message is queued")
            .clone();
        let wait = self.parked.contains(&lane);
        let ask = self.more_parked && !wait && matches!(lane, Lane::Key(_));
        let trying = (self.is_careful() && !wait).then(|| self.trying(offset));
        self.busy.insert(lane);
        Some(Job {
            message,
            wait,
            ask,
            trying,
        })
    }

    /// The mark for a try of the message at `offset`: one more than the last owner left, if it died of this one.
    fn trying(&mut self, offset: u64) -> Trying {
        let left = self.careful.as_ref().and_then(|careful| careful.left);
        let before = left
            .filter(|left| left.offset == offset)
            .map_or(0, |left| left.tries);
        let mark = Trying {
            offset,
            tries: before + 1,
        };
        self.mark = Some(mark);
        mark
    }

    /// The attempt mark for the retry of a parked message that was due at `due`: only for those that the last owner
    /// may have died of.
    pub fn retry_mark(&mut self, id: &ParkedId, due: Option<Timestamp>) -> Option<Trying> {
        let due_by = self.careful.as_ref()?.due_by?;
        due.is_some_and(|due| due <= due_by)
            .then(|| self.trying(id.offset))
    }

    /// By when those retries were due that are tried one by one; `None` when there are no more.
    pub fn suspects_due_by(&self) -> Option<Timestamp> {
        self.careful.as_ref().and_then(|careful| careful.due_by)
    }

    /// There are no more retries that the last owner may have died of.
    pub fn no_suspects(&mut self) {
        if let Some(careful) = &mut self.careful {
            careful.due_by = None;
        }
    }

    /// Whether the retry of a parked message of this lane may start, behind its [mark](Self::retry_mark) if it has one: the
    /// lane is busy from then on.
    pub fn start_retry(&mut self, lane: &Lane, mark: Option<Trying>) -> bool {
        if self.busy.contains(lane) || (self.is_careful() && !self.busy.is_empty()) {
            return false;
        }
        if mark.is_some() {
            self.retries_suspect = Some(lane.clone());
        }
        self.ready.retain(|(_, ready)| ready != lane);
        self.busy.insert(lane.clone())
    }

    /// A live message is finished or parked: `row` is what its commit left.
    pub fn finished(&mut self, message: &Message, row: InboxRow) {
        let lane = message.lane();
        self.queued.remove(&message.offset);
        if let Some(queue) = self.lanes.get_mut(&lane) {
            queue.retain(|offset| *offset != message.offset);
        }
        self.written(row);
        self.idle(&lane);
    }

    /// What ran in this lane ended without a commit, or was a retry: the lane may run the next.
    pub fn idle(&mut self, lane: &Lane) {
        self.busy.remove(lane);
        self.retries_suspect.take_if(|suspect| suspect == lane);
        match self
            .lanes
            .get(lane)
            .and_then(|queue| queue.front().copied())
        {
            Some(offset) => {
                self.ready.insert((offset, lane.clone()));
            }
            None => {
                self.lanes.remove(lane);
            }
        }
    }

    /// A commit left the row like this.
    pub fn written(&mut self, row: InboxRow) {
        // Commits are applied in order, but their answers may arrive in another.
        if row.low >= self.row.low {
            self.row = row;
        }
        while self
            .seen
            .front()
            .is_some_and(|seen| seen.offset < self.row.low)
        {
            self.seen.pop_front();
            self.advance = None;
        }
    }

    /// The lane is parked, or not any more.
    pub fn set_parked(&mut self, lane: &Lane, parked: bool) {
        if parked {
            self.parked.insert(lane.clone());
        } else {
            self.parked.remove(lane);
        }
    }

    /// Whether the lane is parked, as far as is known.
    pub fn is_parked(&self, lane: &Lane) -> bool {
        self.parked.contains(lane)
    }

    /// Whether the row alone should be committed now: `low` stands at a hole, or at a message for which no handler's commit
    /// will come; and nothing runs whose commit takes it along, or half of what may be read ahead is read.
    ///
    /// Not while a parked message is tried behind a mark. Its offset is finished for the row, whose every move ends marks
    /// of what is finished: the death that the mark is for would not be counted. Nothing else runs meanwhile.
    pub fn owes_void(&self) -> bool {
        let low = self.row.low;
        let stands = self.seen.front().is_some_and(|seen| {
            seen.from <= low && (low < seen.offset || seen.void || self.row.is_done(low))
        });
        let half = (self.poll - low) * 2 >= self.ahead;
        stands && self.retries_suspect.is_none() && (self.busy.is_empty() || half)
    }

    /// How many messages run.
    pub fn running(&self) -> usize {
        self.busy.len()
    }

    /// How many messages wait to run, in memory.
    pub fn waiting(&self) -> usize {
        self.queued.len().saturating_sub(self.busy.len())
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.queued.is_empty() && self.busy.is_empty()
    }

    /// Forgets what waits and was not started: it is read again by the next owner.
    pub fn give_up_waiting(&mut self) {
        self.ready.clear();
        self.lanes.clear();
        let busy = &self.busy;
        self.queued
            .retain(|_, message| busy.contains(&message.lane()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Headers, Start, Topic};

    fn message(offset: u64, key: &str) -> Message {
        Message {
            topic: Topic::of("t"),
            partition: 0,
            offset,
            timestamp: Timestamp::UNIX_EPOCH,
            key: Some(key.into()),
            headers: Headers::new(),
            value: None,
        }
    }

    fn owner(clean: bool) -> Partition {
        let row = InboxRow {
            clean,
            ..InboxRow::new(Start::Beginning, 0)
        };
        Partition::new(row, [], 10, Timestamp::UNIX_EPOCH)
    }

    fn finish(owner: &mut Partition, message: &Message) {
        let mut row = owner.row().clone();
        row.apply(Some(message.offset), &owner.advance()).unwrap();
        owner.finished(message, row);
    }

    #[test]
    fn keys_run_side_by_side_and_each_in_order() {
        let mut owner = owner(true);
        for (offset, key) in [(0, "a"), (1, "a"), (2, "b")] {
            owner.polled(message(offset, key), None, true);
        }
        let first = owner.start().unwrap().message;
        let second = owner.start().unwrap().message;
        assert_eq!((first.offset, second.offset), (0, 2));
        assert!(owner.start().is_none());
        finish(&mut owner, &first);
        assert_eq!(owner.start().unwrap().message.offset, 1);
        assert_eq!(owner.row().low, 1);
    }

    /// It went wrong: what a handler did outside came before the effects of messages that were parked.
    #[test]
    fn an_owner_that_was_not_told_of_all_parked_lanes_asks_before_it_runs_others() {
        let mut owner = owner(true).with_more_parked(true);
        let keyless = Message {
            key: None,
            ..message(2, "")
        };
        owner.set_parked(&message(0, "a").lane(), true);
        for message in [message(0, "a"), message(1, "b"), keyless] {
            owner.polled(message, None, true);
        }
        let mut asks = || owner.start().map(|job| (job.wait, job.ask));
        assert_eq!(asks(), Some((true, false)), "it is known to be parked");
        assert_eq!(asks(), Some((false, true)));
        assert_eq!(
            asks(),
            Some((false, false)),
            "nothing can be parked before it"
        );
    }

    #[test]
    fn a_lane_that_retries_a_parked_message_runs_no_live_one() {
        let mut owner = owner(true);
        let lane = message(0, "a").lane();
        owner.set_parked(&lane, true);
        assert!(owner.start_retry(&lane, None));
        owner.polled(message(0, "a"), None, true);
        assert!(owner.start().is_none());
        assert!(!owner.start_retry(&lane, None));
        owner.idle(&lane);
        assert!(owner.start().unwrap().wait);
    }

    #[test]
    fn after_an_unclean_end_messages_are_tried_one_by_one_behind_a_mark() {
        let mut owner = owner(false);
        owner.polled(message(0, "a"), None, true);
        owner.polled(message(1, "b"), None, true);
        let job = owner.start().unwrap();
        assert_eq!(
            job.trying,
            Some(Trying {
                offset: 0,
                tries: 1
            })
        );
        assert!(owner.start().is_none());
        finish(&mut owner, &job.message);
        assert_eq!(owner.start().unwrap().message.offset, 1);
    }

    #[test]
    fn tries_are_counted_over_deaths_and_not_within_one_life() {
        let mut row = InboxRow::new(Start::Beginning, 0);
        row.clean = false;
        row.trying = Some(Trying {
            offset: 7,
            tries: 2,
        });
        let now = Timestamp::from_micros(5);
        let mut owner = Partition::new(row, [], 0, now);
        let id = "g:t:0:7".parse().unwrap();
        for _ in 0..2 {
            assert_eq!(
                owner.retry_mark(&id, Some(now)),
                Some(Trying {
                    offset: 7,
                    tries: 3
                })
            );
        }
        // It failed in good order and is due again later: no suspect any more.
        assert_eq!(owner.retry_mark(&id, Some(Timestamp::from_micros(6))), None);
        owner.no_suspects();
        assert!(!owner.is_careful());
    }

    /// It went wrong: a fence, a conflict or an unknown outcome was counted as a death of the process.
    #[test]
    fn a_life_that_claims_again_counts_no_death_and_another_life_does() {
        let mut row = InboxRow::new(Start::Beginning, 7);
        row.clean = false;
        row.trying = Some(Trying {
            offset: 7,
            tries: 1,
        });
        let claim = |row: &mut InboxRow| {
            row.fence.owner.0 += 1;
            Partition::new(row.clone(), [], 10, Timestamp::UNIX_EPOCH)
        };
        let first = |owner: &mut Partition| {
            owner.polled(message(7, "a"), None, true);
            owner.start().unwrap().trying.map(|trying| trying.tries)
        };
        let mut owner = claim(&mut row);
        assert_eq!(first(&mut owner), Some(2), "one life died of it before");
        for _ in 0..5 {
            row.trying = owner.mark;
            let memory = owner.memory();
            owner = claim(&mut row).claimed_again(memory);
            assert_eq!(first(&mut owner), Some(2), "it is the same life");
        }
        // An operator wrote what only an owner writes.
        let memory = owner.memory();
        row.fence.owner.0 += 1;
        owner = claim(&mut row).claimed_again(memory);
        assert_eq!(first(&mut owner), Some(2), "nobody died");
        // Another life tried it in between, and died of it.
        let memory = owner.memory();
        row.fence.owner.0 += 1;
        row.trying = Some(Trying {
            offset: 7,
            tries: 3,
        });
        owner = claim(&mut row).claimed_again(memory);
        assert_eq!(first(&mut owner), Some(4));
        // Who had nothing to be careful with, has nothing when it claims again.
        let mut clean = InboxRow::new(Start::Beginning, 7);
        let memory = claim(&mut clean).memory();
        clean.clean = false;
        owner = claim(&mut clean).claimed_again(memory);
        assert_eq!(first(&mut owner), None);
    }

    #[test]
    fn the_row_alone_is_owed_for_what_no_handler_finishes() {
        let mut owner = owner(true);
        owner.polled(message(2, "a"), None, true);
        assert!(owner.owes_void());
        let mut row = owner.row().clone();
        row.apply(None, &owner.advance()).unwrap();
        owner.written(row);
        assert!(!owner.owes_void());
        assert_eq!(owner.row().low, 2);
    }

    /// It went wrong: the row moved on, and took the mark of what was being tried with it.
    #[test]
    fn the_row_alone_is_not_committed_while_a_parked_message_is_tried_behind_a_mark() {
        let row = InboxRow {
            clean: false,
            ..InboxRow::new(Start::Beginning, 10)
        };
        let now = Timestamp::UNIX_EPOCH;
        let mut owner = Partition::new(row, [], 10, now).reading_ahead(4);
        let (lane, id) = (message(3, "a").lane(), "g:t:0:3".parse().unwrap());
        for offset in 10..14 {
            owner.polled(message(offset, "b"), None, false);
        }
        assert!(owner.owes_void());
        let mark = owner.retry_mark(&id, Some(now));
        assert!(mark.is_some() && owner.start_retry(&lane, mark));
        assert!(!owner.owes_void());
        owner.idle(&lane);
        assert!(owner.owes_void());
        // One that nobody died of is in no danger, and holds up nothing.
        assert!(owner.start_retry(&lane, None));
        assert!(owner.owes_void());
    }

    /// It went wrong: each offset of a compacted stretch was kept and copied into each commit, and the message behind it
    /// was finished before the row had come near it, which is fatal.
    #[test]
    fn a_hole_of_any_size_costs_one_entry_and_what_lies_behind_waits_until_low_is_there() {
        let mut owner = owner(true);
        let far = 10_000_000;
        owner.polled(message(0, "a"), None, true);
        owner.polled(message(far, "b"), None, true);
        assert!(!owner.has_room());
        assert_eq!(owner.advance().len(), 2);
        let first = owner.start().unwrap().message;
        assert!(owner.start().is_none(), "it lies beyond the window");
        finish(&mut owner, &first);
        assert_eq!(owner.row().low, far);
        let second = owner.start().unwrap().message;
        finish(&mut owner, &second);
        assert_eq!(owner.row().low, far + 1);

        // Nobody's commit comes for a hole at the start.
        let mut owner = self::owner(true);
        owner.polled(message(far, "b"), None, true);
        assert!(owner.owes_void() && owner.start().is_none());
        let mut row = owner.row().clone();
        row.apply(None, &owner.advance()).unwrap();
        owner.written(row);
        assert!(!owner.owes_void());
        assert_eq!(owner.start().unwrap().message.offset, far);
    }

    #[test]
    fn reading_ahead_is_bounded() {
        let mut owner = owner(true);
        let mut offset = 0;
        while owner.has_room() {
            owner.polled(message(offset, "a"), None, true);
            offset += 1;
        }
        assert_eq!(offset, AHEAD_MAX);
    }
}
