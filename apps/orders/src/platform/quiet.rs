//! Quiet: whether anything is on its way within or between the services. Only then does what is in their books count.

use std::{collections::BTreeMap, fmt};

use super::Standing;

/// How quiet the platform is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// Nothing is on its way.
    Quiet,
    /// Nothing is on its way, but so many messages are dead, and others may wait behind them.
    Held(u64),
    /// Something is on its way: what that is, in words.
    Busy(String),
}

impl fmt::Display for Quiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quiet => f.write_str("all is quiet"),
            Self::Held(dead) => {
                write!(f, "all is quiet, and dead letters hold things back: {dead}")
            }
            Self::Busy(what) => f.write_str(what),
        }
    }
}

/// How deep is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// How far the logs have come, and how far they are published.
    Heads,
    /// What is on its way behind that, too.
    Whole,
}

/// How quiet the services are that `look` sees. It looks at one after another: what moved on meanwhile shows as a longer
/// log.
pub(crate) async fn quiet<E, F: Future<Output = Result<Vec<Standing>, E>>>(
    look: impl Fn(Depth) -> F,
) -> Result<Quiet, E> {
    // First all that is published, and then who reads it: what a relay publishes behind our back leaves no trace in
    // its own log, and none yet in that of the service that it is for.
    let before = look(Depth::Heads).await?;
    if let Some(one) = before.iter().find(|one| one.published != one.head) {
        return Ok(Quiet::Busy(format!(
            "service `{}` has published up to {} of {}",
            one.service, one.published, one.head
        )));
    }
    let mut dead = 0;
    for one in look(Depth::Whole).await? {
        if let Some(busy) = one.busy {
            return Ok(Quiet::Busy(busy));
        }
        dead += one.dead;
    }
    if heads(&look(Depth::Heads).await?) != heads(&before) {
        return Ok(Quiet::Busy("logs are growing".into()));
    }
    Ok(if dead == 0 {
        Quiet::Quiet
    } else {
        Quiet::Held(dead)
    })
}

/// How far each log has come.
pub(crate) fn heads(standings: &[Standing]) -> BTreeMap<String, u64> {
    let heads = standings.iter().map(|one| (one.service.clone(), one.head));
    heads.collect()
}

#[cfg(test)]
mod tests {
    use std::{
        future::ready,
        sync::atomic::{AtomicU64, Ordering},
    };

    use super::*;

    fn standing(head: u64, published: u64) -> Standing {
        let service = "stock".into();
        Standing {
            service,
            head,
            published,
            busy: None,
            dead: 0,
        }
    }

    async fn seen(look: impl Fn(Depth) -> Standing) -> Quiet {
        let look = |depth| ready(Ok::<_, ()>(vec![look(depth)]));
        quiet(look).await.unwrap()
    }

    #[tokio::test]
    async fn nothing_is_quiet_that_is_not_published_or_not_finished_or_still_grows() {
        assert_eq!(seen(|_| standing(3, 3)).await, Quiet::Quiet);
        let unpublished = seen(|_| standing(3, 2)).await;
        assert!(
            matches!(unpublished, Quiet::Busy(what) if what.contains("published up to 2 of 3"))
        );
        let busy = |depth| Standing {
            busy: (depth == Depth::Whole).then(|| "something".into()),
            ..standing(3, 3)
        };
        assert_eq!(seen(busy).await, Quiet::Busy("something".into()));
        let dead = |_| Standing {
            dead: 2,
            ..standing(3, 3)
        };
        assert_eq!(seen(dead).await, Quiet::Held(2));
        let looks = AtomicU64::new(3);
        let grows = |_| {
            let head = looks.fetch_add(1, Ordering::Relaxed);
            standing(head, head)
        };
        assert_eq!(seen(grows).await, Quiet::Busy("logs are growing".into()));
    }
}
