//! Names, ids, places, tokens, times and keys, as texts and bytes from anywhere.
//!
//! What is taken comes out as it can be taken again; what is refused is refused in few words.

use std::fmt::Display;

use factum::{
    At, Category, CommitId, Group, HandlerName, Key, MessageId, ParkedId, ProjectionName,
    ServiceName, StoreId, StreamId, Timestamp, Token, Topic, ViewName,
};

/// The longest refusal: a hundred characters of four bytes, and words around them.
const REFUSAL_BYTES_MAX: usize = 700;

/// Takes `bytes` as each of them.
pub(crate) fn names(bytes: &[u8]) {
    key(bytes);
    let text = &*String::from_utf8_lossy(bytes);
    taken::<Category>(text);
    taken::<Topic>(text);
    taken::<Group>(text);
    taken::<HandlerName>(text);
    taken::<ProjectionName>(text);
    taken::<ViewName>(text);
    taken::<ServiceName>(text);
    taken::<StreamId>(text);
    taken::<At>(text);
    taken::<ParkedId>(text);
    taken::<Token>(text);
    taken::<Timestamp>(text);
    taken::<StoreId>(text);
    taken::<CommitId>(text);
    assert_eq!(MessageId::from(text).to_string(), text);
    match StreamId::new(Category::of("order"), text) {
        Ok(stream) => assert_eq!(stream.id(), text),
        Err(refusal) => short(&refusal),
    }
}

fn taken<T>(text: &str)
where
    T: std::str::FromStr<Err: Display> + Display + PartialEq,
{
    match text.parse::<T>() {
        Ok(taken) => {
            let shown = taken.to_string();
            let again = shown.parse::<T>();
            assert!(again.is_ok_and(|again| again == taken), "{shown:.200}");
        }
        Err(refusal) => short(&refusal),
    }
}

fn short(refusal: &dyn Display) {
    let words = refusal.to_string();
    assert!(words.len() <= REFUSAL_BYTES_MAX, "{words:.200}");
}

fn key(bytes: &[u8]) {
    let key = Key::from(bytes.to_vec());
    assert_eq!(key.as_bytes(), bytes);
    for partitions in [0, 1, 8, u32::MAX] {
        assert!(key.partition(partitions) < partitions.max(1));
    }
    // Each byte that is no text is shown as four.
    assert!(key.to_string().len() <= bytes.len() * 4);
    assert_eq!(
        key.as_text().map(str::as_bytes),
        str::from_utf8(bytes).ok().map(str::as_bytes)
    );
}
