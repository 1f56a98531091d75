//! Rules: which call meets which fault.

use factum_core::Error;

use super::{Call, Faults, Gate, Operation};

/// A rule in the making: which calls it is about. Its last word says what happens to them, and puts it in the plan.
#[must_use = "say what happens, with `.fails(..)` or one of its kind"]
#[derive(Debug)]
pub struct Rule {
    pub(super) faults: Faults,
    pub(super) aim: Aim,
}

/// Which calls a rule is about.
#[derive(Clone, Debug)]
pub(super) struct Aim {
    /// `None`: every kind of call.
    pub(super) call: Option<Call>,
    pub(super) node: Option<String>,
    pub(super) about: Option<String>,
    /// The first call that it is about, counted from 1 since the rule was made.
    pub(super) nth: u64,
    /// How many, from there on.
    pub(super) times: u64,
}

/// What happens to a call.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// It is not done, and answered with this error.
    Fails(Error),
    /// It is done, and answered with this error.
    Loses(Error),
    /// It is done when the gate is open.
    Waits(Gate),
    /// It is done twice.
    Twice,
    /// It is done behind the next one of another partition.
    Swaps,
}

impl Rule {
    /// Only calls of this node.
    pub fn on(mut self, node: &str) -> Self {
        self.aim.node = Some(node.into());
        self
    }

    /// Only calls whose subject contains `text`.
    pub fn about(mut self, text: &str) -> Self {
        self.aim.about = Some(text.into());
        self
    }

    /// Only the n-th of these calls, counted from 1 and from now on. Without it: the first.
    ///
    /// # Panics
    ///
    /// When `nth` is 0.
    #[track_caller]
    pub fn nth(mut self, nth: u64) -> Self {
        assert!(nth > 0, "calls are counted from 1");
        self.aim.nth = nth;
        self
    }

    /// That many of these calls, one after another. Without it: one.
    pub fn times(mut self, times: u64) -> Self {
        self.aim.times = times;
        self
    }

    /// The call is not done, and answered with this error.
    ///
    /// Of a message that is sent: it is not appended, the messages behind it are, and its report is this error. So
    /// a consumer sees what comes behind before what it follows. Of a delivery: the error comes first, the messages
    /// with the next call.
    pub fn fails(self, error: Error) {
        self.meets(Fault::Fails(error));
    }

    /// The call is done, and its answer is lost: its caller gets an error of class unknown.
    pub fn loses_the_answer(self) {
        let call = self
            .aim
            .call
            .map_or_else(String::new, |call| format!(" to {call:?}"));
        self.meets(Fault::Loses(Error::unknown(format!(
            "the answer{call} was lost"
        ))));
    }

    /// The call waits, not done, until the gate is opened. Of a delivery: its partition waits, and the others go on.
    /// Of a report: what it tells has happened, and is heard late.
    pub fn waits(self) -> Gate {
        let gate = Gate::closed();
        self.meets(Fault::Waits(gate.clone()));
        gate
    }

    /// The message is appended twice, or the messages are delivered twice.
    ///
    /// # Panics
    ///
    /// When the rule is about other calls than [`Call::Send`] or [`Call::Deliver`].
    #[track_caller]
    pub fn twice(self) {
        let call = self.aim.call;
        assert!(
            matches!(call, Some(Call::Send | Call::Deliver)),
            "only a message that is sent or delivered can happen twice, not {call:?}"
        );
        self.meets(Fault::Twice);
    }

    /// It changes places with what comes next of another partition, as far as a broker may: of a partition nothing comes
    /// before what it follows. Of a message that is sent: it is appended behind the next message to another partition
    /// that is sent with it, if there is one. Of a delivery: it comes behind those of other partitions that come with it,
    /// or next; when nothing comes, it comes itself when it is asked again.
    ///
    /// # Panics
    ///
    /// When the rule is about other calls than [`Call::Send`] or [`Call::Deliver`].
    #[track_caller]
    pub fn swaps(self) {
        let call = self.aim.call;
        assert!(
            matches!(call, Some(Call::Send | Call::Deliver)),
            "only a message that is sent or delivered can change places, not {call:?}"
        );
        self.meets(Fault::Swaps);
    }

    fn meets(self, fault: Fault) {
        self.faults.add(self.aim, fault);
    }
}

impl Aim {
    /// Whether the rule is about this call.
    pub(super) fn is_about(&self, operation: &Operation) -> bool {
        self.call.is_none_or(|call| call == operation.call)
            && self
                .node
                .as_ref()
                .is_none_or(|node| **node == *operation.node)
            && self
                .about
                .as_ref()
                .is_none_or(|text| operation.subject.contains(text))
    }
}
