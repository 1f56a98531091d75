//! The dictionary of log lines: what their fields mean, and what their levels ask of a reader.
//!
//! Lines are written with `tracing`, under the module that writes them (`RUST_LOG=factum=debug,factum_sqlite=info`).
//! Each reads well alone; its fields are there to search by. A failure is told once, where it is handled. Payloads,
//! keys and secrets are never told: a failure's own text is, so a handler that puts a secret into its error shows it.
//!
//! | level | what it means |
//! |---|---|
//! | `error` | a person should act: something has stopped, or a message is a dead letter |
//! | `warn` | something went wrong, and is being coped with |
//! | `info` | a milestone: a part starts or stops, rows are built, an operator did something |
//! | `debug` | of each message or batch |
//!
//! A field that is not in [`FIELDS`] fails `cargo test -p xtask`, as does a name in it that no line uses.

/// Every field of our log lines, with what it means.
pub const FIELDS: &[(&str, &str)] = &[
    ("attempt", "which try of a message this was, counted from 1"),
    (
        "failure.class",
        "what kind of failure it was: transient, poison, rejected, panic or crash",
    ),
    ("group.name", "the consumer group"),
    ("http.status", "the status of an answer"),
    (
        "inbox.low",
        "the first offset of a partition that is not finished",
    ),
    ("message.offset", "the offset of a message in its partition"),
    (
        "owner.fence",
        "store epoch and owner epoch of who works on an inbox or as a relay",
    ),
    ("problem.id", "the id of a failure that its sender was told"),
    ("relay.checkpoint", "up to where the log is published"),
    ("schema.from", "the version that a file's tables had"),
    ("schema.to", "the version that they get"),
    (
        "start.checked",
        "how many of a store's last records a start has looked at",
    ),
    (
        "start.indexed",
        "how many records a start has put into a store's indexes",
    ),
    ("stream.id", "category and id of an aggregate's stream"),
    (
        "wal.cut",
        "pages of the write-ahead log that were of no whole commit",
    ),
    (
        "wal.moved",
        "pages of the write-ahead log that are in the file by now",
    ),
    ("wal.pages", "pages of the write-ahead log"),
];

#[cfg(test)]
mod tests {
    use super::FIELDS;

    #[test]
    fn the_dictionary_is_in_order_and_says_everything_once() {
        assert!(FIELDS.is_sorted_by(|(one, _), (next, _)| one < next));
        assert!(FIELDS.iter().all(|(_, meaning)| !meaning.is_empty()));
    }
}
