//! Hearing from other processes, and telling them: notifications, and behind them a look at the head of the log now and then.
//!
//! Notifications are sent by a transaction of their own, since one that writes and notifies would stand in line with all that
//! notify in whatever database of the server. One that is lost costs the time until the next look, never an event.

use std::{sync::Arc, time::Duration};

use factum_core::Env;
use tokio::{sync::watch, time::sleep};
use tracing::{debug, info, warn};

use crate::{
    call::Call,
    error::{Doing, column},
    log,
    shared::{News, Shared},
};

/// The shortest time between two notifications: what happens meanwhile is told in one.
const TELL_PAUSE: Duration = Duration::from_millis(1);

/// The longest pause before a connection that listens is made anew.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Runs beside a store until it is closed.
pub(crate) struct Listener {
    pub(crate) shared: Arc<Shared>,
    pub(crate) env: Env,
    pub(crate) poll: Duration,
    /// Whether notifications can be heard: not through a pooler.
    pub(crate) listens: bool,
    pub(crate) closed: watch::Receiver<bool>,
}

impl Listener {
    /// Listens, looks and tells until the store is closed.
    pub(crate) async fn run(mut self) {
        let mut closed = self.closed.clone();
        tokio::select! {
            biased;
            // An error means that the store was dropped.
            _ = closed.wait_for(|closed| *closed) => {}
            () = self.tell() => {}
            () = self.look() => {}
            () = self.listen() => {}
        }
        self.closed.mark_unchanged();
    }

    /// Tells others what happened here.
    async fn tell(&self) {
        loop {
            let news = self.shared.untold().await;
            let call = Call::new("SELECT pg_notify($1, $2)")
                .with(self.channel())
                .with(encode(news));
            if let Ok(connection) = self.shared.pool.lend().await
                && let Err(error) = connection.rows(&call).await
            {
                debug!("a notification was not sent: {error}");
            }
            sleep(TELL_PAUSE).await;
        }
    }

    /// Looks at the head of the log now and then, and at what else grows.
    async fn look(&self) {
        let mut seen = (0, 0);
        loop {
            sleep(self.poll).await;
            if let Err(error) = self.look_once(&mut seen).await {
                debug!("the head of the log was not seen: {error:#}");
            }
        }
    }

    async fn look_once(&self, seen: &mut (i64, i64)) -> Result<(), factum_core::Error> {
        let found = look(&self.shared).await?;
        self.shared.hear(News {
            head: found.head,
            parking: seen.0 != 0 && seen.0 != found.parking,
            timers: seen.1 != 0 && seen.1 != found.timers,
            roles: false,
        });
        *seen = (found.parking, found.timers);
        Ok(())
    }

    /// Hears what others tell.
    async fn listen(&self) {
        if !self.listens {
            return std::future::pending().await;
        }
        let mut pause = Duration::from_millis(50);
        loop {
            match self
                .shared
                .pool
                .connector
                .listen(&self.shared.schema.channel)
                .await
            {
                Ok((connection, mut notifications)) => {
                    pause = Duration::from_millis(50);
                    // What was told before this connection listened.
                    self.shared.outdate();
                    let mut seen = (0, 0);
                    if let Err(error) = self.look_once(&mut seen).await {
                        debug!("the head of the log was not seen: {error:#}");
                    }
                    while let Some(told) = notifications.recv().await {
                        self.hear(&told);
                    }
                    drop(connection);
                    info!("the connection that listens to PostgreSQL was lost; it is made anew");
                }
                Err(error) => {
                    warn!("listening to PostgreSQL failed, and is tried again: {error:#}");
                }
            }
            sleep(pause.mul_f64(0.5 + self.env.fraction())).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    fn hear(&self, told: &str) {
        let news = decode(told);
        if news.roles {
            self.shared.outdate();
        }
        self.shared.hear(news);
    }

    /// The channel's plain name: quotes belong to statements.
    fn channel(&self) -> String {
        format!("fc_{}", self.shared.schema.name)
    }
}

/// What a look has found.
pub(crate) struct Found {
    pub(crate) head: u64,
    /// Grows with whatever changes of inboxes; 0 when there is none.
    pub(crate) parking: i64,
    /// Grows with each setting of a timer; 0 when none was ever set.
    pub(crate) timers: i64,
}

/// Looks at what grows.
pub(crate) async fn look(shared: &Shared) -> Result<Found, factum_core::Error> {
    const WHAT: &str = "look at the head of the log";
    let connection = shared.pool.lend().await?;
    let head = log::head(&connection, &shared.schema).await?;
    let call = shared.schema.call(
        "SELECT (SELECT coalesce(sum(revision), 0)::bigint FROM factum.inboxes), \
         (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM factum.timer_generations)",
    );
    let row = connection.row(&call).await.doing(WHAT)?;
    let (parking, timers) = match row {
        Some(row) => (column(&row, 0)?, column(&row, 1)?),
        None => (0, 0),
    };
    Ok(Found {
        head: head.position.0,
        parking,
        timers,
    })
}

/// News as others read them: the head's position, and a letter for each thing else.
fn encode(news: News) -> String {
    let letter = |is: bool, letter| if is { letter } else { "" };
    format!(
        "{} {}{}{}",
        news.head,
        letter(news.parking, "p"),
        letter(news.timers, "t"),
        letter(news.roles, "r")
    )
}

/// The news that [`encode`] wrote; what is no news says nothing.
fn decode(told: &str) -> News {
    let (head, letters) = told.split_once(' ').unwrap_or((told, ""));
    News {
        head: head.parse().unwrap_or(0),
        parking: letters.contains('p'),
        timers: letters.contains('t'),
        roles: letters.contains('r'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_read_back_as_they_were_told() {
        for news in [
            News::default(),
            News {
                head: u64::MAX,
                parking: true,
                timers: true,
                roles: true,
            },
            News {
                head: 7,
                timers: true,
                ..News::default()
            },
        ] {
            assert_eq!(decode(&encode(news)), news);
        }
        assert_eq!(decode("nonsense"), News::default());
    }
}
