//! Drops what nobody knows any more: rows of earlier epochs, and those of generations whose state was lost.
//!
//! It runs when a projection's state is made, beside all else: the keys of the whole server are looked through, a slice at
//! a time. A sweep that fails or is cut short leaves garbage to the next one, and nothing else.

use std::sync::Arc;

use factum_core::Error;
use redis::pipe;

use crate::{error::Doing, link::Link, scripts, table::Home};

/// How many keys the server looks at before it lets others have their turn.
const SLICE: usize = 1_000;

/// Sweeps in the background.
pub(crate) fn begin(link: Arc<Link>, home: Home) {
    tokio::spawn(async move {
        match sweep(&link, &home).await {
            Ok(0) => {}
            Ok(dropped) => tracing::info!(
                "dropped {dropped} keys of projection `{}` that nobody knew any more",
                home.projection
            ),
            Err(error) => tracing::warn!(
                "left over keys of projection `{}` were not all dropped: {error:#}",
                home.projection
            ),
        }
    });
}

/// Looks through all keys once, and says how many were dropped.
async fn sweep(link: &Link, home: &Home) -> Result<u64, Error> {
    const WHAT: &str = "look for left over keys";
    // Nothing in names and ids means anything in a pattern.
    let pattern = format!("{}*", home.tag);
    let (mut cursor, mut dropped) = (String::from("0"), 0);
    loop {
        let connected = link.connected().await?;
        let mut scan = pipe();
        scan.cmd("SCAN").arg(&cursor);
        scan.arg("MATCH").arg(&pattern).arg("COUNT").arg(SLICE);
        let ((next, keys),): ((String, Vec<String>),) = link
            .commands(&connected, Doing::Reading(WHAT), &scan)
            .await?;
        for key in keys {
            let Some((epoch, generation, stamp)) = home.parse(&key) else {
                continue;
            };
            // A process that hasn't heard of the epoch yet may still write there: it sees nothing of it in vain.
            let state = home.state();
            if epoch > home.epoch || key == state {
                continue;
            }
            let mut script = scripts::SWEEP.prepare_invoke();
            script.key(state).key(&key);
            // No generation of this epoch has no number.
            let (generation, stamp) = if epoch == home.epoch {
                (generation, stamp)
            } else {
                ("", "-")
            };
            script.arg(generation).arg(stamp);
            dropped += link
                .script::<u64>(&connected, Doing::Preparing(WHAT), &script)
                .await?;
        }
        if next == "0" {
            return Ok(dropped);
        }
        cursor = next;
    }
}
