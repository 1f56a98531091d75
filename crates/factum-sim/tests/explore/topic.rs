//! The topic: what lies in each partition, and what the fold says of it.

use std::hash::{Hash, Hasher};

use factum_core::{At, Class, Lasts, Link, Start, StoreId};

/// A message in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entry {
    /// Which record it is.
    pub(crate) fact: u8,
    /// Its link, as it stands in its headers.
    pub(crate) link: Option<Link>,
}

/// One partition of the topic, with what the real fold makes of it.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    /// By offset; none where the broker has no message.
    pub(crate) entries: Vec<Option<Entry>>,
    /// The first offset that is kept.
    pub(crate) first: u64,
    /// Where the group starts to read; none as long as there is no group.
    pub(crate) begins: Option<u64>,
    start: Start,
    /// Whether what lies before the group's start is folded.
    looks: bool,
    folded: Lasts,
    /// What the fold said of each entry, and the source's last place behind it.
    pub(crate) classes: Vec<(Option<Class>, At)>,
    /// The facts that the fold delivered.
    pub(crate) delivered: u32,
    /// Losses that were accepted: from which offset on the source's last place is taken for which.
    accepted: Vec<(u64, At)>,
}

// What the fold says follows from the rest.
impl Hash for Shelf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.entries, self.first, self.begins, &self.accepted).hash(state);
    }
}

impl Shelf {
    /// An empty partition. A group that starts with its beginning is there at once.
    pub(crate) fn new(start: Start) -> Self {
        Self {
            entries: Vec::new(),
            first: 0,
            begins: (start == Start::Beginning).then_some(0),
            start,
            looks: false,
            folded: Lasts::default(),
            classes: Vec::new(),
            delivered: 0,
            accepted: Vec::new(),
        }
    }

    /// The offset behind the last message.
    pub(crate) fn end(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The first message at or behind `offset` that is kept.
    pub(crate) fn next(&self, offset: u64) -> Option<(u64, Entry)> {
        let from = offset.max(self.first);
        let mut entries = (0..).zip(&self.entries).skip(index(from));
        entries.find_map(|(offset, entry)| Some((offset, (*entry)?)))
    }

    /// Appends a message, and says what the fold makes of it; `read` is the link as consumers read it.
    pub(crate) fn append(
        &mut self,
        entry: Option<Entry>,
        read: Option<Link>,
        source: StoreId,
    ) -> Option<Class> {
        self.entries.push(entry);
        self.fold(entry, read, source)
    }

    fn fold(&mut self, entry: Option<Entry>, read: Option<Link>, source: StoreId) -> Option<Class> {
        let offset = self.classes.len() as u64;
        self.go_on(offset, source);
        let class = match (entry, self.begins) {
            (Some(_), Some(begins)) if offset >= begins || self.looks => {
                let class = self.folded.fold(self.start, read.as_ref());
                (offset >= begins).then_some(class)
            }
            _ => None,
        };
        if let (Some(entry), Some(Class::Deliver)) = (entry, class) {
            self.delivered |= 1 << entry.fact;
        }
        self.classes.push((class, self.folded.get(source)));
        class
    }

    fn fold_again(&mut self, source: StoreId) {
        self.folded = Lasts::default();
        self.delivered = 0;
        self.classes.clear();
        for entry in self.entries.clone() {
            self.fold(entry, entry.and_then(|entry| entry.link), source);
        }
        self.go_on(self.end(), source);
    }

    /// Sets the source's last place to what was accepted at `offset`.
    fn go_on(&mut self, offset: u64, source: StoreId) {
        for (_, at) in self.accepted.iter().filter(|(from, _)| *from == offset) {
            self.folded.set(source, *at);
        }
    }

    /// The group starts behind what is there; where the chain stands, if it `looks`.
    pub(crate) fn begin(&mut self, source: StoreId, looks: bool) {
        (self.begins, self.looks) = (Some(self.end()), looks);
        self.fold_again(source);
    }

    /// The broker forgets what stands at `offset`.
    pub(crate) fn forget(&mut self, offset: u64, source: StoreId) {
        self.entries[index(offset)] = None;
        self.fold_again(source);
    }

    /// Whether a loss was accepted here.
    pub(crate) fn has_accepted(&self) -> bool {
        !self.accepted.is_empty()
    }

    /// From `low` on, the chain of the source goes on behind `at`.
    pub(crate) fn accept(&mut self, low: u64, at: At, source: StoreId) {
        self.accepted.push((low, at));
        self.fold_again(source);
    }

    /// What an owner that has read up to `poll` finds missing: the source's last place, and the place that the first
    /// message which was left out comes behind.
    pub(crate) fn missing(&self, poll: u64) -> Option<(At, At)> {
        let last = self.last_at(poll);
        let read = self.entries.iter().zip(&self.classes).take(index(poll));
        let mut left_out = read.filter(|(_, (class, _))| *class == Some(Class::Premature));
        left_out.find_map(|(entry, _)| {
            let link = (*entry)?.link.filter(|link| link.at > last)?;
            Some((last, link.previous))
        })
    }

    /// The source's last place as of `offset`.
    pub(crate) fn last_at(&self, offset: u64) -> At {
        let accepted = self.accepted.iter().rev();
        let mut accepted = accepted.filter(|(from, _)| *from == offset);
        match (accepted.next(), index(offset)) {
            (Some((_, at)), _) => *at,
            (None, 0) => At::ZERO,
            (None, next) => self.classes[next - 1].1,
        }
    }
}

/// An offset as an index.
pub(crate) fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("an offset of a small world fits")
}
