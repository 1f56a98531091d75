//! A projection takes the log from its beginning, stretch by stretch, without a gap and none twice.

use std::collections::BTreeMap;

use factum_core::{At, Fence};

use super::Broken;
use crate::{Book, What};

/// What is wrong with how the projections of a service went through its log. Generations that are dropped may be made
/// anew, from the beginning again.
pub fn projections(book: &Book) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut reached: BTreeMap<_, (At, Fence)> = BTreeMap::new();
    for step in &book.steps {
        let What::Projection {
            projection,
            generation,
            fence,
            from,
            to,
        } = &step.what
        else {
            continue;
        };
        let name = format!("{}: projection {projection}@{generation}", book.service);
        let entry = reached
            .entry((projection, generation))
            .or_insert((At::ZERO, *fence));
        if *from == At::ZERO && entry.1 != *fence {
            entry.0 = At::ZERO;
        }
        if *from != entry.0 || to < from {
            broken.push(Broken::new(
                "projections whole",
                format!("{name} goes from {from} to {to}, and stood at {}", entry.0),
            ));
        }
        if *fence < entry.1 {
            broken.push(Broken::new(
                "one owner",
                format!(
                    "{name} was written by owner {fence} after owner {}",
                    entry.1
                ),
            ));
        }
        *entry = (*to, *fence);
    }
    broken
}
