//! The projector: a service's own log becomes the rows of one projection.
//!
//! It keeps up the generation of rows that readers see. When the program's rows are of another shape than that
//! generation's, or an operator asks for it, it builds a new generation beside the old one, from the start of the
//! log, lets readers see it in the commit with which it has caught up, and only then drops the old one. Rows and
//! checkpoint are one commit, so it may die anywhere and goes on where it was.
//!
//! A failed event is tried again by the default policy; then the projection stops and says why, until a person lets
//! it go on or asks for a rebuild. Nothing is left out in silence: what a projection skips is in the audit record.
//!
//! Where several processes share a store, one owns a projection and the others stand by. Those with another
//! fingerprint than the generation that readers have come to see (a rolling deploy) stand aside.

mod batch;
mod follower;
mod plan;
mod progress;

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use factum_core::{AnyProjection, At, Error, ProjectionState, Role, Views};
use tokio_util::sync::CancellationToken;

pub(crate) use self::progress::{Part, Progress, Request, Seen, Standing};
use self::{
    follower::{Follower, Purpose},
    plan::{DROPPED, Plan, Stored, Wish, plan},
    progress::Rebuild,
};
use crate::{
    Health, Service, Status,
    post::{Post, Wait},
    relay::{backoff, pause},
    work::Core,
};

/// How often a process that stands by looks how far the owner has come, for those who ask it.
const STAND_BY_EVERY: Duration = Duration::from_millis(200);

/// How often a process whose rows are no longer wanted looks whether they are wanted again.
const STAND_ASIDE_EVERY: Duration = Duration::from_secs(1);

/// Runs a projection until `stop`, or until something fatal.
pub(crate) async fn run(
    core: Arc<Core>,
    service: Arc<Service>,
    projection: Arc<dyn AnyProjection>,
    progress: Progress,
    health: Health,
    stop: CancellationToken,
) -> Result<(), Error> {
    let name = projection.name();
    let Some(views) = core.store.views() else {
        return Err(Error::fatal(format!(
            "projection `{name}` needs a store that can hold views"
        )));
    };
    let projector = Projector {
        core: &core,
        projection: &*projection,
        views,
        known: known_types(&service),
        progress: progress.of(name),
        health: &health,
        part: format!("{}/projection/{name}", core.service),
        post: Post::new(
            &core,
            Role::Projection(name.clone(), projection.fingerprint().into()),
            &stop,
        ),
        stop: &stop,
        troubles: AtomicU32::new(0),
    };
    projector.progress.change(|standing| standing.failed = None);
    let result = projector.run().await;
    projector.post.leave().await;
    if let Err(error) = &result {
        projector
            .progress
            .change(|standing| standing.failed = Some(format!("{error:#}")));
    }
    result
}

/// The stored names that any code of the service reads: what is none of them was written by a newer program.
fn known_types(service: &Service) -> BTreeSet<&'static str> {
    let kinds = service.kinds.values().flat_map(|kind| kind.names());
    let projections = service
        .projections
        .iter()
        .flat_map(|projection| projection.names());
    let reactors = service.groups.iter().flat_map(|group| &group.reactors);
    kinds
        .chain(projections)
        .chain(reactors.flat_map(|(_, reactor)| reactor.names()))
        .collect()
}

/// A projection at work.
struct Projector<'a> {
    core: &'a Core,
    projection: &'a dyn AnyProjection,
    views: &'a dyn Views,
    known: BTreeSet<&'static str>,
    progress: Arc<Part>,
    health: &'a Health,
    /// Its name in the health record.
    part: String,
    post: Post<'a>,
    stop: &'a CancellationToken,
    /// How often it was in trouble since it last got on.
    troubles: AtomicU32,
}

/// What a projector remembers between two plans. All of it may be lost: what matters is stored.
#[derive(Default)]
struct Memory {
    /// A rebuild was asked for, and its generation is not made yet.
    rebuild: bool,
    /// Generations that can't be gone on with.
    useless: BTreeSet<u32>,
    /// Whether this program kept up the generation that readers see: when they see one of another shape
    /// afterwards, another program has taken over.
    followed: bool,
    /// Whether it has made a plan before. The first one drops what other programs left half-built: one that still
    /// builds it is fenced, and builds it again; one that is gone would leave it for ever.
    planned: bool,
}

/// Why a plan is no longer followed.
enum End {
    /// It is time to stop.
    Stopped,
    /// The projection has another owner.
    Fenced,
    /// Readers see the rows of another program.
    Aside,
    /// This generation's checkpoint lies on a lost time line.
    Astray(u32),
    /// This generation can't be claimed any more, for this reason.
    Spoilt(u32, Error),
    /// An event can't be taken, for this reason.
    Failed(String),
    /// Something is asked.
    Asked,
    /// The store is in trouble, or somebody else was first.
    Troubled(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Troubled(error)
    }
}

impl Projector<'_> {
    async fn run(&self) -> Result<(), Error> {
        let mut memory = Memory::default();
        while self.stand_by(&mut memory).await? {
            match self.post.hold(self.own(&mut memory)).await {
                // It is somebody else's turn.
                None => {}
                // The store was given a new epoch, or it is somebody else's turn and we hear of it here first.
                Some(Ok(End::Fenced)) => pause(self.stop, backoff(&self.core.env, 0)).await,
                Some(Ok(End::Aside)) => {
                    self.post.leave().await;
                    self.stand_aside(&mut memory).await;
                }
                Some(Ok(_)) => break,
                Some(Err(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Keeps up the rows as long as nothing speaks against it.
    async fn own(&self, memory: &mut Memory) -> Result<End, Error> {
        while !self.stop.is_cancelled() {
            let Err(end) = self.pursue(memory).await else {
                continue;
            };
            match end {
                End::Stopped | End::Fenced | End::Aside => return Ok(end),
                End::Asked => self.heed(memory),
                End::Astray(generation) => {
                    let name = self.projection.name();
                    tracing::warn!(
                        "generation {generation} of projection `{name}` stands on a lost time line and is built anew"
                    );
                    memory.useless.insert(generation);
                }
                End::Spoilt(generation, error) => {
                    tracing::warn!("{error:#}: it is built anew");
                    memory.useless.insert(generation);
                }
                End::Failed(reason) => {
                    self.wait_for_a_person(reason).await;
                    self.heed(memory);
                }
                End::Troubled(error) => self.troubled(error).await?,
            }
        }
        Ok(End::Stopped)
    }

    /// Waits before the next try, unless there is to be none.
    async fn troubled(&self, error: Error) -> Result<(), Error> {
        if error.is_fatal() || error.is_poison() {
            return Err(error);
        }
        self.degraded(format!("{error:#}"));
        let troubles = self.troubles.fetch_add(1, Ordering::Relaxed);
        pause(self.stop, backoff(&self.core.env, troubles)).await;
        Ok(())
    }

    /// Looks at what is stored, makes a plan and pursues it. `Ok` when a new plan is to be made.
    async fn pursue(&self, memory: &mut Memory) -> Result<(), End> {
        let stored = self.stored().await?;
        let wish = Wish {
            fingerprint: self.projection.fingerprint(),
            rebuild: memory.rebuild,
            useless: &memory.useless,
            others: memory.planned && self.core.store.capabilities().shared,
        };
        let plan = plan(&stored, &wish);
        memory.planned = true;
        self.note(&stored, &plan);
        if let Some(seen) = stored.seen()
            && memory.followed
            && !memory.rebuild
            && seen.fingerprint != wish.fingerprint
        {
            return Err(End::Aside);
        }
        for generation in &plan.drop {
            self.retire(*generation).await?;
        }
        let build = match plan.build {
            Some(generation) => {
                // A number may be used again when nothing of it is left.
                memory.useless.remove(&generation);
                Some(self.claim(&stored, generation, Purpose::Build).await?)
            }
            None => None,
        };
        // From here on the generation itself is the note that a rebuild is wanted.
        memory.rebuild = false;
        let Some(generation) = plan.follow else {
            return match build {
                Some(mut build) => self.built(build.run().await),
                None => Ok(()),
            };
        };
        let mut follow = self
            .claim(
                &stored,
                generation,
                Purpose::Follow {
                    heed: build.is_none(),
                },
            )
            .await?;
        // A generation that was dropped before we claimed it is not what readers see any more; one that is dropped
        // later is claimed for that, which fences us.
        if self.views.active(self.projection.name()).await? != Some(generation) {
            return Ok(());
        }
        memory.followed = true;
        match build {
            None => follow.run().await,
            Some(build) => self.follow_and_build(follow, build, memory).await,
        }
    }

    /// Keeps up the old rows while the new ones are built.
    async fn follow_and_build(
        &self,
        mut follow: Follower<'_>,
        mut build: Follower<'_>,
        memory: &mut Memory,
    ) -> Result<(), End> {
        let generation = build.generation();
        let mut following = true;
        let mut follow = pin!(follow.run());
        let mut build = pin!(build.run());
        loop {
            // Whichever ends drops the other where it stands: a commit under way happens or not, and both start
            // again from what is stored.
            tokio::select! {
                biased;
                end = &mut build => match end {
                    Err(End::Failed(reason)) if following => {
                        let name = self.projection.name();
                        let reason = format!("rebuild of projection `{name}` came to nothing: {reason}");
                        self.progress.change(|standing| standing.rebuild_failed = Some(reason));
                        memory.useless.insert(generation);
                        return Ok(());
                    }
                    end => return self.built(end),
                },
                end = &mut follow, if following => match end {
                    // The new rows may well come about without this failure.
                    Err(End::Failed(reason)) => {
                        following = false;
                        self.degraded(reason.clone());
                        self.progress.change(|standing| standing.failed = Some(reason));
                    }
                    Err(End::Astray(generation)) => {
                        following = false;
                        memory.useless.insert(generation);
                        self.progress.change(|standing| standing.followed = false);
                    }
                    end => return end,
                },
            }
        }
    }

    /// What was asked for while rows were built is done with them.
    fn built(&self, end: Result<(), End>) -> Result<(), End> {
        if end.is_ok() {
            self.progress.take_request();
            self.progress.change(|standing| {
                standing.failed = None;
                standing.rebuild_failed = None;
            });
        }
        end
    }

    async fn stored(&self) -> Result<Stored, Error> {
        let name = self.projection.name();
        let mut generations = self.core.store.projections().await?;
        generations.retain(|state| state.projection == *name);
        Ok(Stored {
            generations,
            active: self.views.active(name).await?,
        })
    }

    /// Notes what readers see, before anything is done about it.
    fn note(&self, stored: &Stored, plan: &Plan) {
        let active = stored.active.map(|generation| Seen {
            generation,
            reached: stored.seen().map_or(At::ZERO, |state| state.checkpoint),
        });
        self.progress.change(|standing| {
            standing.active = active;
            standing.followed = plan.follow.is_some();
            if plan.build.is_none() {
                standing.rebuild = None;
            }
        });
    }

    /// Makes sure of a generation's views and becomes its owner.
    async fn claim(
        &self,
        stored: &Stored,
        generation: u32,
        purpose: Purpose,
    ) -> Result<Follower<'_>, End> {
        for definition in self.projection.views() {
            self.views.ensure(definition, generation).await?;
        }
        let (name, fingerprint) = (self.projection.name(), self.projection.fingerprint());
        let claim = self
            .core
            .store
            .claim_projection(name, generation, fingerprint)
            .await;
        let claim = match claim {
            // What was begun in it can't be finished, so nobody knows what is in its rows. One that nobody has had before
            // is as good as the next, and that would go on for ever.
            Err(error) if error.is_poison() && stored.state(generation).is_some() => {
                let what =
                    format!("generation {generation} of projection `{name}` can't be gone on with");
                return Err(End::Spoilt(generation, error.while_(what)));
            }
            claim => claim?,
        };
        if purpose == Purpose::Build {
            tracing::info!("generation {generation} of projection `{name}` is being built");
            let (reached, head) = (
                claim.checkpoint.position,
                self.core.store.head().await?.position,
            );
            let rebuild = Rebuild {
                generation,
                reached,
                head,
            };
            self.progress
                .change(|standing| standing.rebuild = Some(rebuild));
        }
        Ok(Follower::new(self, generation, purpose, &claim))
    }

    /// Drops a generation that nobody sees. Claimed first, as nobody's, so that whoever still keeps it up is fenced before
    /// its rows go, and what a death leaves of it is not taken for half built; forgotten last, so that it is known as
    /// long as there is anything of it.
    async fn retire(&self, generation: u32) -> Result<(), Error> {
        let name = self.projection.name();
        self.core
            .store
            .claim_projection(name, generation, DROPPED)
            .await?;
        self.views.drop_generation(name, generation).await?;
        self.core.store.forget_projection(name, generation).await?;
        tracing::info!("generation {generation} of projection `{name}` is dropped");
        Ok(())
    }

    /// Waits until the projection is this process's; at once if an operator asks something of this one. `false`: it is
    /// time to stop. Meanwhile notes how far the owner has come.
    async fn stand_by(&self, memory: &mut Memory) -> Result<bool, Error> {
        let mut wait = Wait::default();
        while !self.stop.is_cancelled() {
            let look = async {
                if self
                    .post
                    .is_ours(&mut wait, self.progress.is_asked())
                    .await?
                {
                    return Ok(Some(true));
                }
                let stored = self.stored().await?;
                let is_ours =
                    |seen: &ProjectionState| seen.fingerprint == self.projection.fingerprint();
                let seen = stored.seen();
                if memory.followed && !seen.is_some_and(is_ours) {
                    // There is nothing to stand by for.
                    return Ok(Some(false));
                }
                memory.followed |= seen.is_some_and(is_ours);
                self.well();
                let plan = Plan {
                    follow: seen
                        .filter(|seen| is_ours(seen))
                        .map(|seen| seen.generation),
                    ..Plan::default()
                };
                self.note(&stored, &plan);
                Ok(None)
            };
            match look.await {
                Ok(Some(true)) => return Ok(true),
                Ok(Some(false)) => {
                    self.stand_aside(memory).await;
                    wait = Wait::default();
                }
                Ok(None) => self.post.rest(&mut wait, STAND_BY_EVERY).await,
                Err(error) => self.troubled(error).await?,
            }
        }
        Ok(false)
    }

    /// Waits as long as readers see the rows of a program with another fingerprint.
    async fn stand_aside(&self, memory: &mut Memory) {
        let name = self.projection.name();
        self.degraded(format!(
            "another program keeps projection `{name}` now, with rows of another shape: this one should be replaced"
        ));
        while !self.stop.is_cancelled() {
            // What can't be read now is read the next time.
            if let Ok(stored) = self.stored().await {
                if stored
                    .seen()
                    .is_none_or(|state| state.fingerprint == self.projection.fingerprint())
                {
                    return;
                }
                let follow = stored.active;
                self.note(
                    &stored,
                    &Plan {
                        follow,
                        ..Plan::default()
                    },
                );
            }
            tokio::select! {
                biased;
                () = self.progress.asked() => {
                    // The operator wants this program's rows back.
                    self.heed(memory);
                    memory.followed = false;
                    return;
                }
                () = pause(self.stop, STAND_ASIDE_EVERY) => {}
            }
        }
    }

    /// Has stopped, and waits to be told to go on.
    async fn wait_for_a_person(&self, reason: String) {
        self.health.set(
            &self.part,
            Status::Failed(reason.clone()),
            self.core.env.now(),
        );
        self.progress
            .change(|standing| standing.failed = Some(reason));
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = self.progress.asked() => self.progress.change(|standing| standing.failed = None),
        }
    }

    fn heed(&self, memory: &mut Memory) {
        if self.progress.take_request() == Some(Request::Rebuild) {
            memory.rebuild = true;
            self.progress
                .change(|standing| standing.rebuild_failed = None);
        }
    }

    fn degraded(&self, reason: String) {
        self.health
            .set(&self.part, Status::Degraded(reason), self.core.env.now());
    }

    /// It gets on.
    fn well(&self) {
        self.troubles.store(0, Ordering::Relaxed);
        let Standing {
            failed,
            rebuild_failed,
            ..
        } = self.progress.standing();
        let status = failed
            .or(rebuild_failed)
            .map_or(Status::Running, Status::Degraded);
        self.health.set(&self.part, status, self.core.env.now());
    }
}
