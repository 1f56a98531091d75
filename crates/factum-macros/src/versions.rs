//! Which stored versions there are, and whether each leads to a present one.
//!
//! What depends on several families, and circles through splits, are found at start-up, when the catalog is made.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use syn::Result;

use crate::{
    attributes::Stored,
    family::{Family, Step, Upcast},
    faults::Faults,
};

/// Refuses a family in which a stored version can't be read, or leads to what doesn't exist.
pub(crate) fn check(family: &Family) -> Result<()> {
    let mut faults = Faults::default();
    let present = present(family, &mut faults);
    let (older, steps) = older(family, &present, &mut faults);
    every_version_is_read(family, &older, &mut faults);
    for target in steps.into_iter().flat_map(|upcast| targets(&upcast.step)) {
        leads_somewhere(target, &present, &older, family, &mut faults);
    }
    faults.or(())
}

/// The present version of each stored name.
type Present = BTreeMap<String, u32>;

/// The names and versions that are upcast.
type Older = BTreeSet<(String, u32)>;

fn present(family: &Family, faults: &mut Faults) -> Present {
    let mut present = Present::new();
    for stored in &family.types {
        match present.entry(stored.name.value()) {
            Entry::Vacant(entry) => {
                entry.insert(stored.version.number);
            }
            Entry::Occupied(entry) => faults.add(
                stored.name.span(),
                format!(
                    "`{}` is the stored name of another event of this family",
                    entry.key()
                ),
            ),
        }
    }
    present
}

/// What is upcast, and the steps that make sense so far.
fn older<'a>(
    family: &'a Family,
    present: &Present,
    faults: &mut Faults,
) -> (Older, Vec<&'a Upcast>) {
    let mut older = Older::new();
    let mut steps = Vec::new();
    for upcast in &family.upcasts {
        let (name, version) = (upcast.from.name.value(), upcast.from.version);
        let present = present
            .get(&name)
            .filter(|present| **present <= version.number);
        if let Some(present) = present {
            faults.add(
                version.span,
                format!(
                    "`{name}` is in version {present} at present; only an older one can be upcast"
                ),
            );
        } else if older.insert((name.clone(), version.number)) {
            steps.push(upcast);
        } else {
            faults.add(
                version.span,
                format!("version {} of `{name}` is upcast twice", version.number),
            );
        }
    }
    (older, steps)
}

fn every_version_is_read(family: &Family, older: &Older, faults: &mut Faults) {
    for stored in &family.types {
        let name = stored.name.value();
        let is_unread = |version: &u32| !older.contains(&(name.clone(), *version));
        // A few are enough to understand, however many there are.
        let unread = (1..stored.version.number).filter(is_unread).take(9);
        let steps: Vec<String> = unread.map(|version| format!("{version} => ..")).collect();
        if !steps.is_empty() {
            faults.add(
                stored.version.span,
                format!(
                    "`{name}` was stored in older versions, which must stay readable: add `upcast({})`, each a \
                     function from that version's data to the next one's",
                    steps.join(", ")
                ),
            );
        }
    }
}

fn targets(step: &Step) -> &[Stored] {
    match step {
        Step::One { into, .. } => std::slice::from_ref(into),
        Step::Many { into, .. } => into,
        Step::Drop => &[],
    }
}

fn leads_somewhere(
    target: &Stored,
    present: &Present,
    older: &Older,
    family: &Family,
    faults: &mut Faults,
) {
    let (name, version) = (target.name.value(), target.version.number);
    if older.contains(&(name.clone(), version)) {
        return;
    }
    match present.get(&name) {
        Some(present) if *present == version => {}
        Some(present) => faults.add(
            target.version.span,
            format!("`{name}` has no version {version}: it is in version {present} at present"),
        ),
        // Another family may have it.
        None if !family.families.is_empty() => {}
        None => faults.add(
            target.name.span(),
            format!("this family has no event `{name}`"),
        ),
    }
}
