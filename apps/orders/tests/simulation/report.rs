//! What a person gets to read of a story that fails: the shortest one found that fails alike, line by line.

use std::time::{Duration, Instant};

use factum_sim::shrink;

use crate::{
    campaign::now,
    script::{End, Script},
    story::{Failure, tell},
};

/// How many stories a failing one is compared with while it is made short.
const TRIES: u32 = 600;

/// And how long that may take: some stories last for seconds.
const SHORTENED_WITHIN: Duration = Duration::from_mins(1);

/// What failed, and the shortest story that fails alike, line by line.
pub(crate) fn report(script: &Script, failure: Failure) -> String {
    let (short, failure, tried) = shorten(script, failure);
    let size = |script: &Script| {
        let happenings: usize = script.lives.iter().map(|life| life.happenings.len()).sum();
        format!(
            "{} deeds, {} lives, {happenings} happenings",
            script.deeds.len(),
            script.lives.len()
        )
    };
    let seed = script.seed;
    let mut text = format!("seed {seed} breaks the law `{}`\n", failure.law);
    let mut line = |what: &str| {
        text.push_str(what);
        text.push('\n');
    };
    line(&format!(
        "its story, made short from {} to {} by telling {tried} others:",
        size(script),
        size(&short)
    ));
    failure.journal.iter().for_each(|what| line(what));
    line("what was found:");
    failure
        .found
        .iter()
        .for_each(|what| line(&format!("  {what}")));
    let plant = script
        .plant
        .map_or(String::new(), |plant| format!(" --plant {plant:?}"));
    line(&format!(
        "tell it again: cargo xtask simulate --seeds 1 --from {seed}{plant}"
    ));
    text
}

/// Leaves out of a story what its failure doesn't need: lives, deeds, what happens in each life, its violent end.
fn shorten(script: &Script, failure: Failure) -> (Script, Failure, u32) {
    let (mut short, mut found, mut tries) = (script.clone(), failure, TRIES);
    let began: Instant = now();
    let mut told = 0;
    let mut fails = |candidate: &Script| {
        // What is left of the tries is over at once.
        if now().duration_since(began) > SHORTENED_WITHIN {
            return false;
        }
        told += 1;
        match tell(candidate) {
            Err(other) if other.law == found.law => {
                found = *other;
                true
            }
            _ => false,
        }
    };
    let mut before = (0, 0, 0);
    loop {
        let happenings = short.lives.iter().map(|life| life.happenings.len()).sum();
        let size = (short.deeds.len(), short.lives.len(), happenings);
        if size == before || tries == 0 {
            return (short, found, told);
        }
        before = size;
        let last = short.lives.pop();
        let earlier = std::mem::take(&mut short.lives);
        let with = |short: &Script, lives: &[_]| Script {
            lives: lives.iter().cloned().chain(last.clone()).collect(),
            ..short.clone()
        };
        let earlier = shrink(earlier, &mut tries, |lives| fails(&with(&short, lives)));
        short = with(&short, &earlier);
        let deeds = std::mem::take(&mut short.deeds);
        short.deeds = shrink(deeds, &mut tries, |deeds| {
            fails(&Script {
                deeds: deeds.to_vec(),
                ..short.clone()
            })
        });
        for index in 0..short.lives.len() {
            let happenings = std::mem::take(&mut short.lives[index].happenings);
            short.lives[index].happenings = shrink(happenings, &mut tries, |happenings| {
                let mut candidate = short.clone();
                candidate.lives[index].happenings = happenings.to_vec();
                fails(&candidate)
            });
            let mut candidate = short.clone();
            candidate.lives[index].end = End::Stopped;
            if tries > 0 && index + 1 < short.lives.len() {
                tries -= 1;
                if fails(&candidate) {
                    short = candidate;
                }
            }
        }
    }
}
