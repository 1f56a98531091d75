//! When what a token stands for has arrived in this service's own log.

use factum_core::{
    At, Error, Group, InboxId, Key, Lane, Link, Parked, ParkedFilter, ParkedId, ParkedState,
    Position, Signal, StoreId, Token, TopicWrite,
};
use tokio::time::timeout;

use super::{LOOK_EVERY, Queries, QueryError, Stale};

/// How many parked messages are looked through at a time: as many as one lane may hold by default.
const PARKED_PAGE: usize = 1_000;

/// A record of another store on its way into one of our inboxes.
struct Awaited<'a> {
    inbox: InboxId,
    source: StoreId,
    at: At,
    key: Option<&'a Key>,
}

/// Where a record is that is awaited.
enum Place {
    /// On its way.
    Coming,
    /// Parked, or about to be, behind this dead letter.
    HeldBack(ParkedId),
    /// Its effect is in the own log.
    Taken,
}

impl Queries {
    /// Waits until what the token stands for is in this service's log, and says at which place a view shows it.
    pub(super) async fn arrive(&self, token: &Token) -> Result<At, QueryError> {
        let store = &self.core.store;
        if token.store() == store.identity().id {
            let at = At {
                epoch: token.epoch(),
                position: token.position(),
            };
            return if self.is_lost(at).await? {
                Err(Stale::Lost.into())
            } else {
                Ok(at)
            };
        }
        for write in token.writes() {
            for group in self
                .service
                .groups
                .iter()
                .filter(|group| group.topics().contains(&write.topic))
            {
                self.taken(&Awaited::new(&group.name, write, token)).await?;
            }
        }
        if !token.is_whole() {
            return Err(Stale::Pending.into());
        }
        Ok(store.head().await?)
    }

    /// Whether a place of the own log was lost in a restore.
    async fn is_lost(&self, at: At) -> Result<bool, Error> {
        let store = &self.core.store;
        if at.epoch == store.identity().epoch || at.position == Position::ZERO {
            return Ok(false);
        }
        let epochs = store.epochs().await?;
        let index = epochs.iter().position(|span| span.epoch == at.epoch);
        // An epoch that was never opened here is one of a time line that is gone.
        let Some(index) = index else { return Ok(true) };
        Ok(epochs
            .get(index + 1)
            .is_some_and(|next| at.position >= next.first))
    }

    /// Waits until the inbox has taken what is awaited, and it is not parked.
    async fn taken(&self, awaited: &Awaited<'_>) -> Result<(), QueryError> {
        let store = &self.core.store;
        let mut head = store.head().await?.position.0;
        loop {
            match self.place(awaited).await? {
                Place::Taken => return Ok(()),
                Place::HeldBack(id) => return Err(Stale::Failed(id.to_string()).into()),
                Place::Coming => {}
            }
            // An import makes the log grow; a message that leads to nothing doesn't.
            if let Ok(grown) = timeout(LOOK_EVERY, store.wait(Signal::Head, head)).await {
                head = grown?;
            }
        }
    }

    async fn place(&self, awaited: &Awaited<'_>) -> Result<Place, Error> {
        let row = self.core.store.inbox(&awaited.inbox).await?;
        if row.is_none_or(|row| row.lasts.get(awaited.source) < awaited.at) {
            // It is going to wait behind a dead letter of its key.
            let dead = match awaited.lane() {
                Some(lane) => self.dead_head(&awaited.inbox, lane).await?,
                None => None,
            };
            return Ok(dead.map_or(Place::Coming, Place::HeldBack));
        }
        // Finished for the inbox: handled, unless it is parked. All states at once, or it could slip through while
        // it goes from one to another.
        let mut filter = ParkedFilter {
            inbox: Some(awaited.inbox.clone()),
            lane: awaited.lane(),
            ..ParkedFilter::default()
        };
        loop {
            let page = self.core.store.parked(&filter, PARKED_PAGE).await?;
            if let Some(parked) = page.iter().find(|parked| awaited.is_missing_with(parked)) {
                let held_back = match parked.state {
                    ParkedState::Dead | ParkedState::Discarded => Some(parked.id.clone()),
                    ParkedState::Waiting => {
                        self.dead_head(&awaited.inbox, parked.lane.clone()).await?
                    }
                    ParkedState::Retrying => None,
                };
                return Ok(held_back.map_or(Place::Coming, Place::HeldBack));
            }
            match filter.behind(&page, PARKED_PAGE) {
                Some(next) => filter = next,
                None => return Ok(Place::Taken),
            }
        }
    }

    /// The dead letter that the lane waits behind, if it does.
    async fn dead_head(&self, inbox: &InboxId, lane: Lane) -> Result<Option<ParkedId>, Error> {
        let filter = ParkedFilter {
            inbox: Some(inbox.clone()),
            lane: Some(lane),
            state: Some(ParkedState::Dead),
            ..ParkedFilter::default()
        };
        let dead = self.core.store.parked(&filter, 1).await?;
        Ok(dead.into_iter().next().map(|dead| dead.id))
    }
}

impl<'a> Awaited<'a> {
    fn new(group: &Group, write: &'a TopicWrite, token: &Token) -> Self {
        let (group, topic, partition) = (group.clone(), write.topic.clone(), write.partition);
        Self {
            inbox: InboxId {
                group,
                topic,
                partition,
            },
            source: token.store(),
            at: At {
                epoch: token.epoch(),
                position: write.position,
            },
            key: write.key.as_ref(),
        }
    }

    /// The lane that it comes by, when it is known.
    fn lane(&self) -> Option<Lane> {
        self.key.cloned().map(Lane::Key)
    }

    /// Whether the view lacks something that is asked for as long as `parked` is what it is: the record itself, or
    /// one of its source before it, which a token may stand for too. What was discarded made way for those behind.
    fn is_missing_with(&self, parked: &Parked) -> bool {
        let headers = &parked.message.headers;
        let link = Link::from_headers(|name| headers.get(name)).ok().flatten();
        link.is_some_and(|link| {
            let earlier = link.at < self.at && parked.state != ParkedState::Discarded;
            link.source == self.source && (link.at == self.at || earlier)
        })
    }
}
