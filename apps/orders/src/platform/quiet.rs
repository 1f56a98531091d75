//! When the platform is quiet: nothing is on its way, so that nothing more happens until somebody does something.

use std::{collections::BTreeMap, fmt};

use factum::{Broker, Error, Lag, ParkedState, Position, Running, RunningService, ServiceName};

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

/// How quiet `running` is. It looks at one place after another: what moved on meanwhile shows as a longer log.
pub(super) async fn quiet(running: &Running) -> Result<Quiet, Error> {
    let before = heads(running).await?;
    // First all that is published, and then who reads it: what a relay publishes behind our back leaves no trace in
    // its own log, and none yet in that of the service that it is for.
    for service in running.services() {
        let (name, head) = (service.name(), before[service.name()]);
        let published = service.store().relay().await?.checkpoint.position;
        if published != head {
            return Ok(Quiet::Busy(format!(
                "service `{name}` has published up to {published} of {head}"
            )));
        }
    }
    let mut dead = 0;
    for service in running.services() {
        match quiet_service(service, &**running.broker(), before[service.name()]).await? {
            Quiet::Quiet => {}
            Quiet::Held(more) => dead += more,
            busy @ Quiet::Busy(_) => return Ok(busy),
        }
    }
    if heads(running).await? != before {
        return Ok(Quiet::Busy("logs are growing".into()));
    }
    Ok(if dead == 0 {
        Quiet::Quiet
    } else {
        Quiet::Held(dead)
    })
}

async fn heads(running: &Running) -> Result<BTreeMap<ServiceName, Position>, Error> {
    let mut heads = BTreeMap::new();
    for service in running.services() {
        heads.insert(
            service.name().clone(),
            service.store().head().await?.position,
        );
    }
    Ok(heads)
}

async fn quiet_service(
    service: &RunningService,
    broker: &dyn Broker,
    head: Position,
) -> Result<Quiet, Error> {
    let (name, store) = (service.name(), service.store());
    for projection in service.operator().projections().await? {
        if projection.reached < head {
            let (projection, reached) = (projection.projection, projection.reached);
            return Ok(Quiet::Busy(format!(
                "projection `{projection}` shows up to {reached} of {head}"
            )));
        }
    }
    let lags = service.lags(broker).await?;
    if let Some(lag) = lags.iter().find(|lag| lag.messages() > 0) {
        let Lag {
            group,
            place,
            low,
            end,
        } = lag;
        return Ok(Quiet::Busy(format!(
            "group `{group}` has read {place} up to {low} of {end}"
        )));
    }
    let (mut dead, mut waiting) = (0, 0);
    for parked in store.parked_counts().await? {
        match parked.state {
            ParkedState::Retrying => {
                return Ok(Quiet::Busy(format!(
                    "group `{}` tries {} again",
                    parked.group, parked.count
                )));
            }
            ParkedState::Dead => dead += parked.count,
            ParkedState::Waiting => waiting += parked.count,
            ParkedState::Discarded => {}
        }
    }
    if dead > 0 {
        return Ok(Quiet::Held(dead));
    }
    if waiting > 0 {
        // What waits behind nothing is about to be tried.
        return Ok(Quiet::Busy(format!(
            "service `{name}` has {waiting} more to try"
        )));
    }
    Ok(Quiet::Quiet)
}
