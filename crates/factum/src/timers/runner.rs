//! The owner of a store's timers: sleeps until the next is due, fires those that are, and remembers which failed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use factum_core::{Error, Fence, RetryPolicy, Role, Signal, Timer, Timestamp};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Handlers, Unfired};
use crate::{
    Health, Service, Status,
    post::Post,
    relay::{backoff, pause},
    work::Core,
};

/// How many timers fire at a time.
const FIRING_MAX: usize = 16;

/// How many timers are looked at, besides those that are held.
const BATCH_TIMERS: usize = 64;

/// How many failed timers are waited for in memory, at about 200 bytes each: 2 MB. At the bound no other timer
/// fires before one of them does.
const HELD_MAX: usize = 10_000;

/// How long the owner sleeps at most before it looks again: a lost wake-up, or a clock that jumped, costs this much.
const POLL_MAX: Duration = Duration::from_secs(1);

/// How long it sleeps at least.
const POLL_MIN: Duration = Duration::from_millis(1);

/// A setting of a timer.
type Setting = (String, u64);

/// A timer that is not to be fired now.
struct Held {
    /// How often it has failed.
    failures: u32,
    /// When it is tried again; `None` while it fires.
    until: Option<Timestamp>,
    /// How it failed last.
    reason: String,
}

/// Why the timers are no longer owned.
enum End {
    Stopped,
    /// The timers have another owner.
    Fenced,
    Troubled(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Troubled(error)
    }
}

/// Fires a service's timers until `stop`, or until something fatal.
pub(crate) async fn run(
    core: Arc<Core>,
    service: Arc<Service>,
    health: Health,
    stop: CancellationToken,
) -> Result<(), Error> {
    let runner = Runner {
        handlers: Handlers::new(&core, &service.timers)?,
        core: &core,
        health: &health,
        part: format!("{}/timers", core.service),
        // A timer has no dead letter to become: it is tried as long as it is set, in the end every 5 minutes.
        policy: RetryPolicy::exponential(Duration::from_secs(1))
            .retries(u32::MAX)
            .at_most(Duration::from_mins(5)),
        stop: &stop,
    };
    let post = Post::new(&core, Role::Timers, &stop);
    let ended = runner.take_turns(&post).await;
    post.leave().await;
    ended
}

struct Runner<'a> {
    handlers: Handlers,
    core: &'a Core,
    health: &'a Health,
    part: String,
    policy: RetryPolicy,
    stop: &'a CancellationToken,
}

impl Runner<'_> {
    /// Fires timers whenever it is this process's turn.
    async fn take_turns(&self, post: &Post<'_>) -> Result<(), Error> {
        let (env, mut troubles) = (&self.core.env, 0);
        let well = || self.health.set(&self.part, Status::Running, env.now());
        while !self.stop.is_cancelled() {
            let end = match post.stand_by(well).await {
                Ok(false) => break,
                Ok(true) => post.hold(self.own(&mut troubles)).await,
                Err(error) => Some(error.into()),
            };
            match end {
                // It is somebody else's turn.
                None => {}
                Some(End::Stopped) => break,
                // The store was given a new epoch, or it is somebody else's turn and we hear of it here first.
                Some(End::Fenced) => pause(self.stop, backoff(env, 0)).await,
                Some(End::Troubled(error)) if error.is_fatal() || error.is_poison() => {
                    return Err(error);
                }
                Some(End::Troubled(error)) => {
                    let status = Status::Degraded(format!("{error:#}"));
                    self.health.set(&self.part, status, env.now());
                    pause(self.stop, backoff(env, troubles)).await;
                    troubles += 1;
                }
            }
        }
        Ok(())
    }

    /// Claims the timers and fires them until an end.
    async fn own(&self, troubles: &mut u32) -> End {
        let fence = match self.core.store.claim_timers().await {
            Ok(fence) => fence,
            Err(error) => return End::Troubled(error),
        };
        let mut firing = FuturesUnordered::new();
        let mut held = BTreeMap::new();
        let mut seen = 0;
        loop {
            if self.stop.is_cancelled() {
                // Those that have begun may end: dropping them would have their handlers run again for nothing.
                while let Some((setting, fired)) = firing.next().await {
                    if let Err(end) = self.fired(&mut held, &setting, fired) {
                        return end;
                    }
                }
                return End::Stopped;
            }
            let (due, wait) = match self.look(&mut held, firing.len()).await {
                Ok(looked) => looked,
                Err(error) => return End::Troubled(error),
            };
            *troubles = 0;
            self.tell(&held);
            for timer in due {
                firing.push(self.fire(fence, timer));
            }
            let set = timeout(wait, self.core.store.wait(Signal::Timers, seen));
            let end = tokio::select! {
                biased;
                () = self.stop.cancelled() => Ok(()),
                Some((setting, fired)) = firing.next(), if !firing.is_empty() => {
                    self.fired(&mut held, &setting, fired)
                }
                set = set => match set {
                    Ok(Ok(value)) => {
                        seen = value;
                        Ok(())
                    }
                    Ok(Err(error)) => Err(error.into()),
                    Err(_) => Ok(()),
                },
            };
            if let Err(end) = end {
                return end;
            }
        }
    }

    /// The timers to fire now, which are held from now on, and how long nothing else will be due.
    async fn look(
        &self,
        held: &mut BTreeMap<Setting, Held>,
        firing: usize,
    ) -> Result<(Vec<Timer>, Duration), Error> {
        // What is held came due before all others, so these are all of it and a batch more.
        let timers = self
            .core
            .store
            .next_timers(held.len() + BATCH_TIMERS)
            .await?;
        let set: BTreeMap<_, _> = timers
            .into_iter()
            .map(|timer| ((timer.id.clone(), timer.generation), timer))
            .collect();
        held.retain(|setting, held| held.until.is_none() || set.contains_key(setting));
        let now = self.core.env.now();
        let mut by_due: Vec<_> = set.into_iter().collect();
        by_due.sort_by_key(|(_, timer)| timer.due);
        let (mut due, mut wait) = (Vec::new(), POLL_MAX);
        for (setting, timer) in by_due {
            let ready = match held.get(&setting) {
                Some(Held { until: None, .. }) => continue,
                Some(Held {
                    until: Some(until), ..
                }) => timer.due.max(*until),
                None => timer.due,
            };
            if ready > now {
                wait = wait.min(ready.since(now).max(POLL_MIN));
            } else if firing + due.len() < FIRING_MAX
                && (held.len() < HELD_MAX || held.contains_key(&setting))
            {
                let new = || Held {
                    failures: 0,
                    until: None,
                    reason: String::new(),
                };
                held.entry(setting).or_insert_with(new).until = None;
                due.push(timer);
            }
        }
        Ok((due, wait))
    }

    async fn fire(&self, fence: Fence, timer: Timer) -> (Setting, Result<(), Unfired>) {
        let fired = self.handlers.fire(self.core, fence, &timer).await;
        ((timer.id, timer.generation), fired)
    }

    fn fired(
        &self,
        held: &mut BTreeMap<Setting, Held>,
        setting: &Setting,
        fired: Result<(), Unfired>,
    ) -> Result<(), End> {
        match fired {
            Ok(()) => {
                held.remove(setting);
            }
            Err(Unfired::Failed(reason)) => {
                let env = &self.core.env;
                let Some(held) = held.get_mut(setting) else {
                    return Ok(());
                };
                held.failures = held.failures.saturating_add(1);
                let wait = self
                    .policy
                    .delay(held.failures, env.fraction())
                    .unwrap_or(POLL_MAX);
                held.until = Some(env.now() + wait);
                held.reason = reason;
            }
            Err(Unfired::Stop(reason)) => return Err(Error::fatal(reason).into()),
            Err(Unfired::Fenced) => return Err(End::Fenced),
            Err(Unfired::Fatal(error)) => return Err(error.into()),
        }
        Ok(())
    }

    /// Says how the timers are doing.
    fn tell(&self, held: &BTreeMap<Setting, Held>) {
        let failed = || held.iter().filter(|(_, held)| held.failures > 0);
        let status = match failed().next() {
            None => Status::Running,
            Some(((id, _), held)) => Status::Degraded(format!(
                "{} timers failed and are tried again, such as `{id}`: {}",
                failed().count(),
                held.reason
            )),
        };
        self.health.set(&self.part, status, self.core.env.now());
    }
}
