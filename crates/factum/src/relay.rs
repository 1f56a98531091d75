//! The relay: publishes a store's log to the topics, in order, resumably, and never leaves anything out.
//!
//! The rules of a run are [`RelayRun`]'s. This is its shell: it reads the log, sends, hears what became of it, and
//! writes the checkpoint behind. Any failure, known or suspected, ends the run; the next one publishes again from
//! the checkpoint, which consumers tell apart.
//!
//! Where several processes share a store, one of them publishes and the others stand by.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use factum_core::{
    At, Broker, Commit, CommitError, Env, Error, Input, LogFilter, LogPage, Offer, Position,
    RelayClaim, RelayInput, RelayRun, Role, Signal, StoreId, TopicPartition, chain::Link,
    may_publish,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{Health, Status, dead_letter, post::Post, stretch::read_stretch, work::Core};

/// How many records are read and sent at a time.
const BATCH_RECORDS_MAX: usize = 500;

/// How many records that go nowhere may lie behind the stored checkpoint: what is looked through again after a crash.
const VOIDS_MAX: u64 = 5_000;

/// How long nothing may happen before the checkpoint is stored behind records that go nowhere.
const QUIET: Duration = Duration::from_millis(250);

/// How many records may be on the way: at 1 KB each, 8 MB.
const IN_FLIGHT_MAX: usize = 8_000;

/// How long the relay sleeps at most before it looks at the log again: a lost wake-up costs this much.
const POLL_MAX: Duration = Duration::from_secs(1);

/// How many messages of a partition are read at a time for what it knows of this store.
const LOOK_MESSAGES: u64 = 500;

/// How far back is looked in a partition that this service publishes to, whatever others publish there.
const LOOK_BACK_MAX: u64 = 100_000;

/// The first and the longest pause after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Who has worked for so long has not failed at once: its next pause is a short one again.
pub(crate) const LONG_ENOUGH: Duration = Duration::from_mins(1);

/// A random part of `base`, doubled with each of `failures`, so that many who failed together don't try together.
pub(crate) fn backoff(env: &Env, failures: u32) -> Duration {
    let (base, cap) = BACKOFF;
    let wait = base
        .saturating_mul(2_u32.saturating_pow(failures.min(10)))
        .min(cap);
    wait.mul_f64(0.5 + env.fraction() / 2.0)
}

/// Sleeps, unless it is time to stop.
pub(crate) async fn pause(stop: &CancellationToken, wait: Duration) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = tokio::time::sleep(wait) => {}
    }
}

/// Runs until `stop`, or until something fatal.
pub(crate) async fn run(
    core: Arc<Core>,
    broker: Arc<dyn Broker>,
    health: Health,
    stop: CancellationToken,
) -> Result<(), Error> {
    let part = format!("{}/relay", core.service);
    let post = Post::new(&core, Role::Relay, &stop);
    let ended = take_turns(&post, &core, &*broker, &health, &part, &stop).await;
    post.leave().await;
    ended
}

/// Publishes whenever it is this process's turn.
async fn take_turns(
    post: &Post<'_>,
    core: &Core,
    broker: &dyn Broker,
    health: &Health,
    part: &str,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let began = core.env.now();
        let turn = async {
            let well = || health.set(part, Status::Running, core.env.now());
            if !post.stand_by(well).await? {
                return Ok(true);
            }
            let ended = post.hold(own(core, broker, health, part, stop)).await;
            ended.map_or(Ok(false), |ended| ended.map(|()| true))
        };
        let ended = turn.await;
        if core.env.now().since(began) > LONG_ENOUGH {
            failures = 0;
        }
        let error = match ended {
            Ok(true) => break,
            Ok(false) => continue,
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => error,
        };
        health.set(part, Status::Degraded(format!("{error:#}")), core.env.now());
        pause(stop, backoff(&core.env, failures)).await;
        failures += 1;
    }
    Ok(())
}

/// Claims the relay and publishes until `stop` or an error.
async fn own(
    core: &Core,
    broker: &dyn Broker,
    health: &Health,
    part: &str,
    stop: &CancellationToken,
) -> Result<(), Error> {
    refuse_a_lost_time_line(core, broker).await?;
    let claim = core.store.claim_relay().await?;
    tracing::debug!(owner.fence = %claim.fence, relay.checkpoint = %claim.checkpoint, "relay of `{}` claimed", core.service);
    let mut failures = 0;
    let mut run = RelayRun::new(core.store.identity().id, &claim);
    loop {
        let began = run.base();
        let result = publish(core, broker, &mut run, &claim, stop, || {
            health.set(part, Status::Running, core.env.now());
        })
        .await;
        let error = match result {
            Ok(()) => return Ok(()),
            // A conflict: a restore has taken this run's place off the time line. The row says where the new one begins.
            Err(error) if error.is_fatal() || error.is_fenced() || error.is_conflict() => {
                return Err(error);
            }
            Err(error) => error,
        };
        let went_on = run.base() > began;
        failures = if went_on { 0 } else { failures + 1 };
        health.set(part, Status::Degraded(format!("{error:#}")), core.env.now());
        run.rewind();
        pause(stop, backoff(&core.env, failures)).await;
        if stop.is_cancelled() {
            return Ok(());
        }
    }
}

/// Topics that know more of this store than its log holds mean a restore without a new epoch.
async fn refuse_a_lost_time_line(core: &Core, broker: &dyn Broker) -> Result<(), Error> {
    let identity = core.store.identity();
    let published = core.store.relay().await?.lasts;
    let own: BTreeSet<&str> = core
        .kinds
        .values()
        .filter_map(|kind| kind.topic())
        .collect();
    let mut all_seen = Vec::new();
    for (topic, partitions) in &core.topics {
        let ours = own.contains(topic.as_str()) || published.iter().any(|(to, ..)| to == topic);
        // Where it never published, there is nothing of it, however far back.
        let depth = if ours { LOOK_BACK_MAX } else { LOOK_MESSAGES };
        for partition in 0..*partitions {
            let partition = TopicPartition::new(topic.clone(), partition);
            all_seen.extend(last_seen(identity.id, broker, &partition, depth).await?);
        }
    }
    // Only now: while the topics were looked at, another owner may have published what was written meanwhile.
    let head = core.store.head().await?;
    for seen in all_seen {
        may_publish(identity.epoch, head, seen)
            .map_err(|why| Error::fatal(format!("store of service `{}`: {why}", core.service)))?;
    }
    Ok(())
}

/// The place of the last message of `source` among the last `depth` of a partition.
async fn last_seen(
    source: StoreId,
    broker: &dyn Broker,
    partition: &TopicPartition,
    depth: u64,
) -> Result<Option<At>, Error> {
    let marks = broker.watermarks(partition).await?;
    let first = marks.end.saturating_sub(depth).max(marks.first);
    let mut end = marks.end;
    while end > first {
        let from = end.saturating_sub(LOOK_MESSAGES).max(first);
        let mut known = None;
        read_stretch(broker, partition, from, end, |message| {
            let link = Link::from_headers(|name| message.headers.get(name));
            let of_source = link.ok().flatten().filter(|link| link.source == source);
            known = known.max(of_source.map(|link| link.at));
        })
        .await?;
        if known.is_some() {
            return Ok(known);
        }
        end = from;
    }
    Ok(None)
}

/// One run: publishes from the claim's checkpoint on until `stop` or the first failure.
async fn publish(
    core: &Core,
    broker: &dyn Broker,
    run: &mut RelayRun,
    claim: &RelayClaim,
    stop: &CancellationToken,
    well: impl Fn(),
) -> Result<(), Error> {
    let mut producer = broker.producer().await?;
    let format = factum_core::wire::WireFormat::Envelope;
    let mut published = claim.checkpoint;
    let mut quiet = false;
    let sent = LogFilter {
        sent: true,
        ..LogFilter::default()
    };
    // Where no topic was ever pinned, no record can go to one, and nobody but this process could pin one.
    let is_silent =
        !core.store.capabilities().shared && core.store.pinned_topics().await?.is_empty();
    loop {
        let page = if is_silent {
            let head = core.store.head().await?;
            LogPage {
                records: Vec::new(),
                next: head,
                head,
            }
        } else {
            let log = core.store.read_log(run.cursor(), &sent, BATCH_RECORDS_MAX);
            log.await?
        };
        let mut batch = Vec::new();
        let mut held = false;
        // Once it is to stop, nothing more is sent: what is on the way is heard, and the checkpoint written.
        let records = if stop.is_cancelled() {
            &[][..]
        } else {
            &page.records
        };
        for record in records {
            match run.offer(record) {
                Offer::Pass => {}
                Offer::Hold => {
                    held = true;
                    break;
                }
                Offer::Send(link) => {
                    let mut outgoing = match dead_letter::outgoing(record, link)? {
                        Some(copy) => copy,
                        None => {
                            factum_core::wire::write(record, link, format, core.service.as_str())?
                        }
                    };
                    // Retention counts from now: a topic keeps what a relay publishes late as long as anything else.
                    outgoing.timestamp = core.env.now();
                    core.metrics.published(&outgoing.topic);
                    batch.push((record.at.position.0, outgoing));
                }
            }
        }
        if !held && !stop.is_cancelled() {
            run.pass(page.next);
        }
        let idle = batch.is_empty();
        if !idle {
            producer.send(batch).await?;
        }
        // As long as there is more to send, it is sent: what became of it is heard when the log is at its end, a
        // partition's first record is awaited, or too much is on the way.
        if run.in_flight() > 0 && (idle || held || run.in_flight() >= IN_FLIGHT_MAX) {
            acknowledge(run, producer.reports().await?)?;
        }
        if quiet || stop.is_cancelled() || checkpoint_is_due(run, published) {
            published = run.base();
            checkpoint(core, run, claim).await?;
            well();
        }
        if stop.is_cancelled() && run.in_flight() == 0 {
            return Ok(());
        }
        quiet = false;
        if idle && !held && run.in_flight() == 0 && page.next.position >= page.head.position {
            well();
            let wait = core.store.wait(
                Signal::Head,
                page.head.position.0.max(run.cursor().position.0),
            );
            let behind = run.base() > published;
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                // A timeout is no error: wake-ups from other processes may be lost.
                woken = timeout(if behind { QUIET } else { POLL_MAX }, wait) => match woken {
                    Ok(woken) => { woken?; }
                    // Writing the checkpoint finds a rewind out, too.
                    Err(_) if behind => quiet = true,
                    Err(_) => heed_a_rewind(core, claim, published).await?,
                },
            }
        }
    }
}

/// Whether the checkpoint should be stored now: at once behind records that were sent, later behind such as go nowhere,
/// which cost a look and nothing else.
fn checkpoint_is_due(run: &RelayRun, published: At) -> bool {
    run.checkpoint().is_some_and(|(base, lasts)| {
        !lasts.is_empty() || base.position.0 - published.position.0 >= VOIDS_MAX
    })
}

fn acknowledge(run: &mut RelayRun, reports: Vec<factum_core::Report>) -> Result<(), Error> {
    for report in reports {
        let offset = report.result.map_err(|error| error.while_("publishing"))?;
        run.acknowledge(Position(report.sequence), offset)
            .map_err(|overtaken| {
                Error::transient("a publication lost its order").caused_by(overtaken)
            })?;
    }
    Ok(())
}

/// Who has nothing to publish writes no checkpoint either, and would not find out that an operator set it back.
async fn heed_a_rewind(core: &Core, claim: &RelayClaim, published: At) -> Result<(), Error> {
    let stored = core.store.relay().await?;
    if stored.fence != claim.fence && stored.checkpoint < published {
        return Err(Error::fenced(format!(
            "the relay was set back from {published} to {}",
            stored.checkpoint
        )));
    }
    Ok(())
}

async fn checkpoint(core: &Core, run: &mut RelayRun, claim: &RelayClaim) -> Result<(), Error> {
    let Some((checkpoint, lasts)) = run.checkpoint() else {
        return Ok(());
    };
    let mut commit = Commit::new(core.env.commit_id(), core.env.now());
    commit.input = Input::Relay(RelayInput {
        fence: claim.fence,
        checkpoint,
        lasts,
        rewind: false,
    });
    match core.write(commit).await {
        Ok(_) => {
            run.saved(checkpoint);
            Ok(())
        }
        Err(CommitError::Fenced { role, stored }) => Err(Error::fenced(format!(
            "{role} has another owner (fence {stored})"
        ))),
        Err(CommitError::Failed(error)) => Err(error.while_("writing the relay's checkpoint")),
        Err(error) => Err(Error::fatal(format!(
            "the relay's checkpoint {checkpoint} was refused: {error}"
        ))),
    }
}
