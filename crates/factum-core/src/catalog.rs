//! The catalog of a family of events: which stored types it reads, and by which upcasters.
//!
//! Built once at start-up, where every mistake in the chain of upcasters is found: a version that nothing
//! reads, a step into nowhere, a circle.

mod malformed;

use std::{
    collections::{BTreeMap, BTreeSet},
    marker::PhantomData,
};

use serde_json::Value;

use self::malformed::malformed;
use crate::{Error, Event, EventType, Part, TypeName, Upcast, UpcastStep};

/// The most steps that one stored event may take: far beyond any real chain, to end hostile ones.
const STEPS_MAX: usize = 64;

/// The most events that one stored event may become.
const PARTS_MAX: usize = 1_000;

/// Reads the stored types of family `E`.
#[derive(Debug)]
pub struct Catalog<E> {
    types: BTreeMap<&'static str, EventType>,
    /// The types whose data is an object. What reads them would take a list of the fields as well.
    objects: BTreeSet<&'static str>,
    upcasts: BTreeMap<(&'static str, u32), Upcast>,
    family: PhantomData<fn() -> E>,
}

/// What stored data is to a family.
#[derive(Debug, PartialEq)]
pub enum Read<E> {
    /// These events, in order: usually one; several or none when an upcaster made them of it.
    Events(Vec<(E, Part)>),
    /// A type that this family doesn't know at all.
    Foreign,
    /// A type that it knows, in a version that it doesn't.
    UnknownVersion,
}

impl<E: Event> Catalog<E> {
    /// The catalog of `E`.
    ///
    /// # Errors
    ///
    /// Class fatal, naming the type, when two types share a name, a version can't be reached, or upcasters
    /// lead nowhere or in a circle.
    pub fn new() -> Result<Self, Error> {
        let mut types = BTreeMap::new();
        for event_type in E::types() {
            let name = event_type.name;
            if event_type.version == 0 {
                return Err(Error::fatal(format!(
                    "event `{name}`: versions count from 1"
                )));
            }
            if types.insert(name, event_type).is_some() {
                return Err(Error::fatal(format!("event `{name}` is declared twice")));
            }
        }
        let mut upcasts = BTreeMap::new();
        for upcast in E::upcasts() {
            let from = (upcast.name, upcast.version);
            if types
                .get(from.0)
                .is_some_and(|present| present.version <= from.1)
            {
                return Err(Error::fatal(format!(
                    "event `{}`: version {} is not older than the present one and can't be upcast",
                    from.0, from.1
                )));
            }
            if upcasts.insert(from, upcast).is_some() {
                return Err(Error::fatal(format!(
                    "event `{}`: version {} is upcast twice",
                    from.0, from.1
                )));
            }
        }
        let is_object = |known: &&EventType| {
            let shape = (known.shape)();
            shape.get("type").and_then(Value::as_str) == Some("object")
        };
        let objects = types.values().filter(is_object).map(|known| known.name);
        let catalog = Self {
            objects: objects.collect(),
            types,
            upcasts,
            family: PhantomData,
        };
        catalog.check()?;
        Ok(catalog)
    }

    fn check(&self) -> Result<(), Error> {
        for (name, event_type) in &self.types {
            for version in 1..event_type.version {
                if !self.upcasts.contains_key(&(name, version)) {
                    return Err(Error::fatal(format!(
                        "event `{name}`: stored version {version} can't be read; add `upcast({version} => ..)` \
                         to reach version {}",
                        event_type.version
                    )));
                }
            }
        }
        for from in self.upcasts.keys() {
            self.reaches(*from, STEPS_MAX)?;
        }
        Ok(())
    }

    fn reaches(&self, from: (&'static str, u32), steps: usize) -> Result<(), Error> {
        if self
            .types
            .get(from.0)
            .is_some_and(|present| present.version == from.1)
        {
            return Ok(());
        }
        let (name, version) = from;
        if steps == 0 {
            return Err(Error::fatal(format!(
                "event `{name}`: upcasting version {version} doesn't end"
            )));
        }
        match self.upcasts.get(&from).map(|upcast| &upcast.step) {
            Some(UpcastStep::One { name, version, .. }) => {
                self.reaches((name, *version), steps - 1)
            }
            Some(UpcastStep::Many { into, .. }) => into
                .iter()
                .try_for_each(|target| self.reaches(*target, steps - 1)),
            Some(UpcastStep::Drop) => Ok(()),
            None => Err(Error::fatal(format!(
                "event `{name}`: an upcaster makes version {version}, which is neither the present version \
                 nor upcast further"
            ))),
        }
    }

    /// The stored names that the family reads, those of older types included.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        let older = self
            .upcasts
            .keys()
            .map(|(name, _)| *name)
            .filter(|name| !self.types.contains_key(name));
        self.types.keys().copied().chain(older)
    }

    /// The present types.
    pub fn types(&self) -> impl Iterator<Item = &EventType> {
        self.types.values()
    }

    /// Reads data that is stored as `stored`.
    ///
    /// # Errors
    ///
    /// Class poison when the data doesn't have the type's shape or an upcaster refuses it.
    pub fn read(&self, stored: &TypeName, data: &[u8]) -> Result<Read<E>, Error> {
        let unread = |data: &[u8], error: &serde_json::Error| {
            let why = malformed(data, error);
            Error::poison(format!("the data of `{stored}` can't be read: {why}"))
        };
        if let Some(present) = self.types.get(&*stored.name)
            && present.version == stored.version
        {
            self.check_object(stored, data.trim_ascii_start().first() == Some(&b'['))?;
            return match E::decode(&stored.name, data) {
                Some(event) => {
                    let event = event.map_err(|error| unread(data, &error))?;
                    Ok(Read::Events(vec![(event, Part::WHOLE)]))
                }
                None => Ok(Read::Foreign),
            };
        }
        // A map can't be asked for a borrowed pair; chains are short, and old data is the exception.
        let is_it = |(name, version): &&(&'static str, u32)| {
            **name == *stored.name && *version == stored.version
        };
        let Some(from) = self.upcasts.keys().find(is_it) else {
            let known = self.names().any(|name| *name == *stored.name);
            return Ok(if known {
                Read::UnknownVersion
            } else {
                Read::Foreign
            });
        };
        let mut finished = Vec::new();
        let data: Value = serde_json::from_slice(data).map_err(|error| unread(data, &error))?;
        self.check_object(stored, data.is_array())?;
        let mut pending = vec![(*from, data)];
        while let Some(((name, version), value)) = pending.pop() {
            if finished.len() + pending.len() > PARTS_MAX {
                return Err(Error::poison(format!(
                    "`{stored}` is split into more than {PARTS_MAX} events"
                )));
            }
            if self
                .types
                .get(name)
                .is_some_and(|present| present.version == version)
            {
                let data = serde_json::to_vec(&value).map_err(|error| unread(&[], &error))?;
                let event =
                    E::decode(name, &data).expect("every type of the family is decoded by it");
                finished.push(event.map_err(|error| unread(&data, &error))?);
            } else {
                // Last in, first out: the parts are pushed in reverse to come out in order.
                pending.extend(self.step(stored, (name, version), value)?.into_iter().rev());
            }
        }
        let of = u32::try_from(finished.len()).unwrap_or(u32::MAX);
        let parts = (1..).map(|index| Part { index, of });
        Ok(Read::Events(finished.into_iter().zip(parts).collect()))
    }

    fn check_object(&self, stored: &TypeName, is_list: bool) -> Result<(), Error> {
        if is_list && self.objects.contains(&*stored.name) {
            return Err(Error::poison(format!(
                "the data of `{stored}` is a list, and has to be an object with named members"
            )));
        }
        Ok(())
    }

    #[expect(clippy::type_complexity, reason = "a list of typed values, used once")]
    fn step(
        &self,
        stored: &TypeName,
        from: (&'static str, u32),
        value: Value,
    ) -> Result<Vec<((&'static str, u32), Value)>, Error> {
        let refused = |error: String| {
            let (name, version) = from;
            Error::poison(format!(
                "`{stored}` can't be upcast from {name} v{version}: {error}"
            ))
        };
        match &self.upcasts[&from].step {
            UpcastStep::One {
                name,
                version,
                with,
            } => Ok(vec![((*name, *version), with(value).map_err(refused)?)]),
            UpcastStep::Many { into, with } => with(value)
                .map_err(refused)?
                .into_iter()
                .map(|(name, value)| {
                    let target = into.iter().find(|(target, _)| *target == name);
                    let target = target.ok_or_else(|| {
                        refused(format!(
                            "the upcaster made `{name}`, which it doesn't declare"
                        ))
                    })?;
                    Ok((*target, value))
                })
                .collect(),
            UpcastStep::Drop => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests;
