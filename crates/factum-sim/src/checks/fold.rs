//! What a consumer may take of a partition, told again from the text of the protocol.

use std::collections::BTreeMap;

use factum_core::{At, Message};

/// What is to become of the message at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It is taken. Whether it came from this platform, and its place there.
    Taken(Option<At>),
    /// It came before, or before its time, and comes again.
    Void,
}

/// The source of a message, its place there, and the place before it in this partition.
pub(super) fn link(message: &Message) -> Option<(&str, At, At)> {
    let text = |name| message.headers.text(name);
    let at = |name| text(name)?.parse::<At>().ok();
    Some((
        text("factum-source")?,
        at("factum-at")?,
        at("factum-previous")?,
    ))
}

/// The class of each message of a partition that is read from its beginning.
pub(super) fn fold(messages: &[Message]) -> Vec<Class> {
    let mut last: BTreeMap<&str, At> = BTreeMap::new();
    let classes = messages.iter().map(|message| {
        let Some((source, at, previous)) = link(message) else {
            return Class::Taken(None);
        };
        let last = last.entry(source).or_insert(At::ZERO);
        if at <= *last || previous > *last {
            return Class::Void;
        }
        *last = at;
        Class::Taken(Some(at))
    });
    classes.collect()
}
