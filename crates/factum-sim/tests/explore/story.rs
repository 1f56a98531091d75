//! Steps in words, as the stories of counterexamples tell them.

use std::fmt;

use factum_core::{At, Fence};

/// Something that happens, and a note on how it went.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) what: What,
    pub(crate) note: &'static str,
}

/// A record, by the index of its fact.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fact(pub(crate) u8);

/// How a handler ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Well,
    FailsForNow,
    FailsForGood,
    Skips,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Append,
    BackUp,
    Restore,
    GroupBegins,
    ClaimRelay,
    TakeOver,
    RelayDies(Fence),
    Offer(Fence),
    Arrive(Fence, Fact, u32),
    Overtake(Fence, Fact, u32, bool),
    Lose(Fence, Fact),
    Hear(Fence, u64, Option<u64>),
    HearAndFail(Fence, u64),
    Suspect(Fence),
    StrayArrives(Fact, u32),
    StrayVanishes(Fact),
    Checkpoint(Fence, At),
    Claim,
    ReadRow,
    RaiseFence,
    LateClaim,
    Move,
    Release(Fence),
    Crash(Fence),
    OwnerIsTold(Fence),
    Poll(Fence, u64, Fact),
    Run(Fence, u64, Fact),
    Retry(Fence, u64, Fact),
    Queue(Fence, Fact),
    Commit(Fence, Fact, How),
    Answer(Fence, Fact),
    Void(Fence),
    Promote(Fence),
    Redrive(u64),
    OperatorReads(u64),
    Discard(u64),
    Retain(u64),
    Forget(u64),
    Rewind(At),
    RewindAnyway(u64),
    Accept(At, At),
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}", self.0 + 1)
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Well => "commits",
            Self::FailsForNow => "fails for now on",
            Self::FailsForGood => "fails for good on",
            Self::Skips => "leaves out",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what.fmt(f)?;
        if !self.note.is_empty() {
            write!(f, ": {}", self.note)?;
        }
        Ok(())
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append => write!(f, "the source's log gets its next record"),
            Self::BackUp => write!(f, "the source's store is backed up"),
            Self::Restore => write!(f, "the source's store is restored from its backup"),
            Self::GroupBegins => write!(f, "the group begins at the end of the topic"),
            Self::ClaimRelay => write!(f, "a relay claims"),
            Self::TakeOver => write!(f, "another relay claims; the one before goes on"),
            Self::RelayDies(relay) => write!(f, "relay {relay} dies"),
            Self::Offer(relay) => write!(f, "relay {relay} reads the next record"),
            Self::Arrive(relay, fact, partition) => {
                write!(
                    f,
                    "{fact} from relay {relay} arrives in partition {partition}"
                )
            }
            Self::Overtake(relay, fact, partition, sorts) => write!(
                f,
                "{fact} from relay {relay} arrives in partition {partition} before the one sent before it{}",
                if *sorts {
                    ", and is reported after it"
                } else {
                    ""
                }
            ),
            Self::Lose(relay, fact) => write!(f, "{fact} from relay {relay} is lost on the way"),
            Self::Hear(relay, position, Some(offset)) => {
                write!(
                    f,
                    "relay {relay} hears that {position} stands at offset {offset}"
                )
            }
            Self::Hear(relay, position, None) => {
                write!(f, "relay {relay} hears that {position} was not published")
            }
            Self::HearAndFail(relay, position) => write!(
                f,
                "relay {relay} hears that {position} was published, and can't write its checkpoint"
            ),
            Self::Suspect(relay) => write!(f, "relay {relay} takes something for a failure"),
            Self::StrayArrives(fact, partition) => {
                write!(
                    f,
                    "{fact} from an ended run arrives in partition {partition}"
                )
            }
            Self::StrayVanishes(fact) => {
                write!(
                    f,
                    "{fact} and what follows it from an ended run never arrive"
                )
            }
            Self::Checkpoint(relay, at) => write!(f, "relay {relay} checkpoints {at}"),
            Self::Claim => write!(f, "the member that has the partition claims its inbox"),
            Self::ReadRow => write!(f, "the member that has the partition reads its row"),
            Self::RaiseFence => write!(f, "the member that has read the row raises its fence"),
            Self::LateClaim => write!(
                f,
                "a member that no longer has the partition claims its inbox"
            ),
            Self::Move => write!(
                f,
                "the partition moves to another member; the owner before goes on"
            ),
            Self::Release(owner) => {
                write!(
                    f,
                    "owner {owner} releases its inbox; the partition moves to another member"
                )
            }
            Self::Crash(owner) => write!(f, "owner {owner} dies"),
            Self::OwnerIsTold(owner) => {
                write!(f, "owner {owner} is told that the partition is lost")
            }
            Self::Poll(owner, offset, fact) => {
                write!(f, "owner {owner} polls offset {offset}, {fact}")
            }
            Self::Run(owner, offset, fact) => {
                write!(f, "owner {owner} starts offset {offset}, {fact}")
            }
            Self::Retry(owner, offset, fact) => {
                write!(
                    f,
                    "owner {owner} tries the parked offset {offset} again, {fact}"
                )
            }
            Self::Queue(owner, fact) => write!(f, "owner {owner} queues its commit of {fact}"),
            Self::Commit(owner, fact, how) => write!(f, "owner {owner} {how} {fact}"),
            Self::Answer(owner, fact) => write!(f, "owner {owner} hears what became of {fact}"),
            Self::Void(owner) => write!(f, "owner {owner} commits the row alone"),
            Self::Promote(owner) => write!(f, "owner {owner} releases the next of a lane"),
            Self::Redrive(offset) => write!(f, "an operator redrives the parked offset {offset}"),
            Self::OperatorReads(offset) => {
                write!(
                    f,
                    "an operator looks at the parked offset {offset} and wants to discard it"
                )
            }
            Self::Discard(offset) => write!(f, "the operator discards offset {offset}"),
            Self::Forget(offset) => write!(f, "the broker forgets offset {offset}"),
            Self::Rewind(last) => write!(f, "an operator sets the relay back to {last}"),
            Self::RewindAnyway(to) => write!(f, "an operator sets the relay back to position {to}"),
            Self::Accept(from, last) => write!(
                f,
                "an operator lets the group go on behind {from}, as what follows {last} is missing"
            ),
            Self::Retain(offset) => write!(f, "the broker drops what lies below offset {offset}"),
        }
    }
}
