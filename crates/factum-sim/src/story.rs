//! Stories: lives on the same disks, one after another.

use std::{fmt::Debug, future::Future};

use crate::{Points, SimClock};

/// How a life ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended<T> {
    /// At a point, as a crash would.
    Crashed,
    /// By itself, with this.
    Done(T),
}

/// The story of one seed.
#[derive(Debug)]
pub struct Story {
    seed: u64,
    clock: SimClock,
    points: Points,
    /// Draws the story's own choices; what the application draws does not disturb them.
    choices: fastrand::Rng,
}

impl Story {
    /// The story of `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            clock: SimClock::new(seed),
            points: Points::default(),
            choices: fastrand::Rng::with_seed(seed ^ 0x5eed_0f57_0e1e_5011),
        }
    }

    /// Its seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Its time and chance.
    pub fn clock(&self) -> &SimClock {
        &self.clock
    }

    /// Its points.
    pub fn points(&self) -> &Points {
        &self.points
    }

    /// The story's own choices.
    pub fn choices(&mut self) -> &mut fastrand::Rng {
        &mut self.choices
    }

    /// A life that ends at its `crash_at`-th point if it comes so far. What still runs when `life` is done ends
    /// with it.
    ///
    /// # Panics
    ///
    /// When the executor can't be made, or `life` panics.
    pub fn live<T: Debug, F: Future<Output = T>>(
        &self,
        crash_at: Option<u64>,
        life: impl FnOnce() -> F,
    ) -> Ended<T> {
        let crash = self.points.begin(crash_at);
        let mut executor = tokio::runtime::Builder::new_current_thread();
        let executor = executor
            .enable_time()
            .start_paused(true)
            .build()
            .expect("an executor without I/O is made");
        let (ended, lived) = executor.block_on(async {
            self.clock.begin();
            let ended = tokio::select! {
                biased;
                () = crash.cancelled() => Ended::Crashed,
                done = life() => Ended::Done(done),
            };
            (ended, self.clock.lived())
        });
        drop(executor);
        self.clock.end(lived);
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use factum_core::Source as _;

    use super::*;

    async fn work(points: Points, clock: SimClock) -> u64 {
        for step in 0..5 {
            points.pass("step", &step.to_string()).await;
            tokio::time::sleep(Duration::from_secs(clock.random() % 10)).await;
        }
        clock.random()
    }

    fn tell(seed: u64) -> (Vec<Ended<u64>>, (u64, u32), factum_core::Timestamp) {
        let mut story = Story::new(seed);
        let crash_at = story.choices().u64(0..5);
        let life = || work(story.points().clone(), story.clock().clone());
        let ends = vec![story.live(Some(crash_at), life), story.live(None, life)];
        (ends, story.points().trace(), story.clock().now())
    }

    #[test]
    fn the_same_seed_tells_the_same_story_and_others_tell_others() {
        assert_eq!(tell(7), tell(7));
        assert_ne!(tell(7).1, tell(8).1);
    }

    #[test]
    fn a_life_ends_at_its_point_and_what_it_started_ends_with_it() {
        let story = Story::new(1);
        let points = story.points().clone();
        let ended = story.live(Some(1), || async {
            let background = points.clone();
            tokio::spawn(async move {
                for _ in 0..100 {
                    background.pass("background", "").await;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
            tokio::time::sleep(Duration::from_secs(1_000)).await;
        });
        assert_eq!(ended, Ended::Crashed);
        assert_eq!(
            points.kinds()["background"],
            Kind {
                passed: 2,
                crashed: 1
            }
        );
    }

    use crate::Kind;
}
