//! Mutations: each leaves out or changes one rule of the protocol, and must be found.
//!
//! They are planted around the real machines, in what goes in and what comes out: no code that runs has a switch for
//! them. `docs/internals/exploration.md` has the table.

/// A rule that is left out or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mutation {
    /// The chain rule is left out: a duplicate is what is not greater than the last, and nothing is premature.
    M1,
    /// The consumer's fence is not compared.
    M2,
    /// A parked lane is no reason to wait, neither before the run nor in the commit.
    M3,
    /// The checkpoint is what was sent.
    M4,
    /// A record that failed is sent again alone, and acknowledgements count in whatever order.
    M5,
    /// The relay's code decides where a record goes, and an old one does not know the second partition.
    M6,
    /// The header carries the store's present epoch.
    M7,
    /// The chain begins anew in each epoch.
    M8,
    /// The cursor is not compared with the epoch.
    M9,
    /// A fence is the owner epoch alone.
    M10,
    /// A restore opens the backup's epoch + 1.
    M11,
    /// The second record of a partition does not wait for the first one's acknowledgement.
    M12,
    /// The producer reorders within a run and does not tell.
    M13,
    /// The last place is that of the largest message handled.
    M14,
    /// What is done is not folded after a claim.
    M15,
    /// A claim reads the row first and raises the fence then.
    M16,
    /// The row is never committed alone.
    M17,
    /// Parked rows are settled without a fence.
    M18,
    /// Retries run beside their lane, and the lane is not looked at before a run.
    M19,
    /// A waiting row is written without looking whether the lane is parked.
    M20,
    /// The next of a lane is released apart from the commit that settles its head.
    M21,
    /// A group that starts in the middle doesn't look where the chain stood before its start.
    M22,
}
