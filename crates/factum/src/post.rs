//! Posts: what one process at a time does for a store, and how the others wait for it.
//!
//! The relay, the timers and each projection are posts. Who has the lease of a post does its work and gives a sign of
//! life several times in a term; the others look at it, and take the lease when its holder gave it back or was silent
//! for a whole term. A process that was paused meanwhile and wakes is fenced at its next commit, finds the lease in
//! other hands, and waits in its turn.
//!
//! In a store that one process uses there is nobody to wait for, and nothing of this is done.

use std::time::Duration;

use factum_core::{Error, Role, Watch};
use tokio_util::sync::CancellationToken;

use crate::{relay::pause, work::Core};

/// For how long a holder gives no sign of life before its place is taken, unless told otherwise. Half of what a
/// take-over may last, since the sleeps of who waits are drawn and its claim takes time too.
pub(crate) const TERM: Duration = Duration::from_secs(5);

/// How many signs of life are given in a term: as many may be late or lost as are left over one.
const BEATS: u32 = 5;

/// A post, as this process stands to it.
pub(crate) struct Post<'a> {
    core: &'a Core,
    role: Role,
    stop: &'a CancellationToken,
}

/// One wait for a post.
#[derive(Default)]
pub(crate) struct Wait {
    watch: Watch,
    waited: Duration,
    told: bool,
}

impl<'a> Post<'a> {
    pub(crate) fn new(core: &'a Core, role: Role, stop: &'a CancellationToken) -> Self {
        Self { core, role, stop }
    }

    /// Waits until the post is this process's. `false`: it is time to stop. `well` is called at each look.
    pub(crate) async fn stand_by(&self, well: impl Fn()) -> Result<bool, Error> {
        let mut wait = Wait::default();
        while !self.stop.is_cancelled() {
            if self.is_ours(&mut wait, false).await? {
                return Ok(true);
            }
            well();
            self.rest(&mut wait, self.core.term / BEATS).await;
        }
        Ok(false)
    }

    /// Looks at the lease, and takes it if it may; if `seized`, whoever has it.
    pub(crate) async fn is_ours(&self, wait: &mut Wait, seized: bool) -> Result<bool, Error> {
        let store = &self.core.store;
        if !store.capabilities().shared {
            return Ok(true);
        }
        let lease = store.lease(&self.role).await?;
        let waited = std::mem::take(&mut wait.waited);
        let is_free = wait.watch.is_free(&lease, waited, self.core.term);
        let holder = Some(self.core.holder);
        if is_free || seized || lease.holder == holder {
            // If it was changed since, somebody else was faster: that is seen at the next look.
            return store.set_lease(&self.role, lease.beat, holder).await;
        }
        if !std::mem::replace(&mut wait.told, true) {
            let (role, service) = (&self.role, &self.core.service);
            tracing::info!("another process has the {role} of `{service}`: standing by");
        }
        Ok(false)
    }

    /// Sleeps between two looks, not in step with others.
    pub(crate) async fn rest(&self, wait: &mut Wait, every: Duration) {
        wait.waited = every.mul_f64(0.75 + self.core.env.fraction() / 2.0);
        pause(self.stop, wait.waited).await;
    }

    /// Does `work` as long as the post is this process's. `None`: it isn't any more, and the work was dropped where it
    /// stood. What it had handed to the store may happen; the next owner's claim fences what it had not.
    pub(crate) async fn hold<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        if !self.core.store.capabilities().shared {
            return Some(work.await);
        }
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.beat() => None,
        }
    }

    /// Gives signs of life until the lease is in other hands.
    async fn beat(&self) {
        let (store, role) = (&self.core.store, &self.role);
        loop {
            tokio::time::sleep(self.core.term / BEATS).await;
            let given = async {
                let lease = store.lease(role).await?;
                let ours = lease.holder == Some(self.core.holder);
                Ok::<_, Error>(ours && store.set_lease(role, lease.beat, lease.holder).await?)
            };
            match given.await {
                Ok(true) => {}
                Ok(false) => {
                    let service = &self.core.service;
                    tracing::warn!("another process has taken the {role} of `{service}`");
                    return;
                }
                // As long as the store doesn't answer, no commit comes through either.
                Err(error) => tracing::debug!("no sign of life as {role}: {error:#}"),
            }
        }
    }

    /// Gives the lease back, so that nobody has to wait for a term. If that fails, they wait.
    pub(crate) async fn leave(&self) {
        let (store, role) = (&self.core.store, &self.role);
        if !store.capabilities().shared {
            return;
        }
        let left = async {
            let lease = store.lease(role).await?;
            if lease.holder == Some(self.core.holder) {
                store.set_lease(role, lease.beat, None).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = left.await {
            tracing::debug!("the {role} was not given back: {error:#}");
        }
    }
}
