//! The plan of a simulated world: its rules, its hook, and the log of what was written.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use factum_core::Error;

use super::{
    Call, Entry, Gate, Moment, Operation, Rule,
    rule::{Aim, Fault},
};

/// How many writes the log keeps, the last ones: at some 200 bytes each, 13 MB.
const LOG_MAX: usize = 65_536;

/// What a hook answers with: the write goes on when it is done.
pub type HookFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

type Hook = Arc<dyn Fn(&Operation, Moment) -> HookFuture + Send + Sync>;

/// The plan of one simulated world. Clones are handles of one plan.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::sync::Arc;
/// use factum_core::{Commit, Error, ErrorClass, ServiceName, Store, StoreId};
/// use factum_testkit::{MemoryStore, TestEnv, faults::{Call, Faults, FaultyStore}};
///
/// let env = TestEnv::seeded(1).env();
/// let store = MemoryStore::new(StoreId(env.uuid()), ServiceName::of("order"), env.now());
/// let faults = Faults::new();
/// let store = FaultyStore::new("order-1", Arc::new(store), &faults);
///
/// faults.at(Call::Commit).nth(2).fails(Error::transient("the disk is full"));
/// let commit = || store.commit(Commit::new(env.commit_id(), env.now()));
/// assert!(commit().await.is_ok());
/// assert_eq!(commit().await.unwrap_err().class(), ErrorClass::Transient);
/// assert!(commit().await.is_ok());
/// assert_eq!(faults.log()[1].to_string(), "2 order-1 Commit: nothing -> transient: the disk is full");
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Default)]
struct Plan {
    rules: Vec<Planned>,
    hook: Option<Hook>,
    log: VecDeque<Entry>,
    writes: u64,
}

struct Planned {
    aim: Aim,
    fault: Fault,
    /// How many calls it was about so far.
    met: u64,
}

/// A call that has begun.
pub(super) struct Begun {
    pub(super) operation: Operation,
    /// What it waits for before it is done.
    gates: Vec<Gate>,
    pub(super) fault: Option<Fault>,
}

impl Faults {
    /// A plan without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// A rule for calls of this kind.
    pub fn at(&self, call: Call) -> Rule {
        let aim = Aim {
            call: Some(call),
            node: None,
            about: None,
            nth: 1,
            times: 1,
        };
        Rule {
            faults: self.clone(),
            aim,
        }
    }

    /// Holds all calls that a node begins from now on, until the gate is opened. Opened never, it is a crash.
    pub fn pause(&self, node: &str) -> Gate {
        let aim = Aim {
            call: None,
            node: Some(node.into()),
            about: None,
            nth: 1,
            times: u64::MAX,
        };
        let gate = Gate::closed();
        self.add(aim, Fault::Waits(gate.clone()));
        gate
    }

    /// Calls `hook` before and after every write, in place of the hook before. The write goes on when the future
    /// is done; one that never is stands for a crash at that point.
    ///
    /// The hook of a commit is called while no other commit through the same store is decided, so one that waits
    /// before a commit holds all commits behind it.
    pub fn on_write<F>(&self, hook: impl Fn(&Operation, Moment) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.lock().hook = Some(Arc::new(move |operation, moment| {
            Box::pin(hook(operation, moment))
        }));
    }

    /// The last writes, in the order in which they began, at most 65,536.
    pub fn log(&self) -> Vec<Entry> {
        self.lock().log.iter().cloned().collect()
    }

    /// Forgets all rules and the hook. What waits at a gate goes on waiting.
    pub fn clear(&self) {
        let mut plan = self.lock();
        plan.rules.clear();
        plan.hook = None;
    }

    /// Rules that no call has met yet, in words: a test whose fault never came has tested nothing.
    pub fn unmet(&self) -> Vec<String> {
        let plan = self.lock();
        let unmet = plan.rules.iter().filter(|rule| rule.met < rule.aim.nth);
        unmet
            .map(|rule| format!("{:?} {:?} (met {} calls)", rule.aim, rule.fault, rule.met))
            .collect()
    }

    pub(super) fn add(&self, aim: Aim, fault: Fault) {
        self.lock().rules.push(Planned { aim, fault, met: 0 });
    }

    /// Notes that a call begins, and says what it meets. Of several faults the first counts; it waits for all.
    pub(super) fn begin(&self, node: &Arc<str>, call: Call, subject: String) -> Begun {
        let mut plan = self.lock();
        if call.is_write() {
            plan.writes += 1;
        }
        let operation = Operation {
            number: plan.writes,
            node: node.clone(),
            call,
            subject,
        };
        if call.is_write() {
            if plan.log.len() == LOG_MAX {
                plan.log.pop_front();
            }
            plan.log.push_back(Entry {
                operation: operation.clone(),
                answer: None,
            });
        }
        let (mut gates, mut fault) = (Vec::new(), None);
        // What is met by nobody any more is dropped, so that a long run stays quick.
        plan.rules.retain(|rule| match &rule.fault {
            Fault::Waits(gate) if rule.aim.times == u64::MAX => !gate.is_open(),
            _ => rule.met < rule.aim.nth.saturating_add(rule.aim.times) - 1,
        });
        for rule in plan
            .rules
            .iter_mut()
            .filter(|rule| rule.aim.is_about(&operation))
        {
            rule.met += 1;
            if rule.met < rule.aim.nth {
                continue;
            }
            match &rule.fault {
                Fault::Waits(gate) => gates.push(gate.clone()),
                other => fault = fault.or_else(|| Some(other.clone())),
            }
        }
        Begun {
            operation,
            gates,
            fault,
        }
    }

    /// Waits for what the call has to wait for, and lets the hook have its say.
    pub(super) async fn before(&self, begun: &Begun) {
        for gate in &begun.gates {
            gate.passed().await;
        }
        self.hook(&begun.operation, Moment::Before).await;
    }

    /// Lets the hook have its say, and notes the answer, as [`answer`] puts it.
    pub(super) async fn after(&self, begun: &Begun, answer: String) {
        self.hook(&begun.operation, Moment::After).await;
        if !begun.operation.call.is_write() {
            return;
        }
        let mut plan = self.lock();
        let age = plan.writes - begun.operation.number;
        let index = usize::try_from(age)
            .ok()
            .and_then(|age| plan.log.len().checked_sub(age + 1));
        if let Some(entry) = index.and_then(|index| plan.log.get_mut(index)) {
            entry.answer = Some(answer);
        }
    }

    async fn hook(&self, operation: &Operation, moment: Moment) {
        if !operation.call.is_write() {
            return;
        }
        let hook = self.lock().hook.clone();
        if let Some(hook) = hook {
            hook(operation, moment).await;
        }
    }

    /// Makes a call through the plan.
    pub(super) async fn run<T>(
        &self,
        node: &Arc<str>,
        call: Call,
        subject: impl fmt::Display,
        done: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let begun = self.begin(node, call, subject.to_string());
        self.before(&begun).await;
        let result = match &begun.fault {
            Some(Fault::Fails(error)) => Err(error.clone()),
            Some(Fault::Loses(error)) => {
                // A refusal is lost as a success is.
                drop(done.await);
                Err(error.clone())
            }
            _ => done.await,
        };
        self.after(&begun, answer(&result)).await;
        result
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        // A plan is whole whatever its holder did, so a panic elsewhere does not matter here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Begun {
    /// What a call waits for, taken out: for calls that go on meanwhile.
    pub(super) fn take_gates(&mut self) -> Vec<Gate> {
        std::mem::take(&mut self.gates)
    }
}

/// An answer as the log shows it.
pub(super) fn answer<T>(result: &Result<T, Error>) -> String {
    result
        .as_ref()
        .err()
        .map_or_else(|| "ok".into(), |error| format!("{error:?}"))
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.lock();
        f.debug_struct("Faults")
            .field("rules", &plan.rules.len())
            .field("writes", &plan.writes)
            .finish_non_exhaustive()
    }
}
