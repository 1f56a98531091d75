-- The topics of the embedded broker. They belong to no store: all stores of the file publish to them.
-- (`topics` are names that records have.)

CREATE TABLE topicspecs (
    name             TEXT    NOT NULL PRIMARY KEY,
    partitions       INTEGER NOT NULL CHECK (partitions > 0),
    -- How long messages are kept, in microseconds; null: for ever.
    retention_micros INTEGER,
    -- How many bytes are kept in each partition; null: all.
    retention_bytes  INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE partitions (
    -- Part of each message's place. Never used again.
    number       INTEGER NOT NULL PRIMARY KEY,
    topic        TEXT    NOT NULL REFERENCES topicspecs (name),
    partition    INTEGER NOT NULL,
    -- The offsets that are kept, from the first up to, without, the end.
    first_offset INTEGER NOT NULL DEFAULT 0,
    end_offset   INTEGER NOT NULL DEFAULT 0,
    -- The bytes of key, headers and value of what is kept.
    bytes        INTEGER NOT NULL DEFAULT 0,
    -- Appends and reads look partitions up by name.
    UNIQUE (topic, partition)
) STRICT;

-- Messages that were appended together, as one row.
CREATE TABLE chunks (
    -- The place of its first message: the partition's number in the upper bits, 40 bits of offset below.
    place INTEGER NOT NULL PRIMARY KEY,
    -- The messages, in the layout that `chunk.rs` documents.
    data  BLOB    NOT NULL
) STRICT;

-- How far groups have come, as they told: for tools.
CREATE TABLE offsets (
    group_name   TEXT    NOT NULL,
    topic        TEXT    NOT NULL,
    partition    INTEGER NOT NULL,
    next_offset  INTEGER NOT NULL,
    committed_at INTEGER NOT NULL,
    PRIMARY KEY (group_name, topic, partition)
) STRICT, WITHOUT ROWID;
