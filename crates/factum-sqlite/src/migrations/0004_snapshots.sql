-- A snapshot is decided upon like the events that it stands for, and so it has a checksum like them. What was there
-- before has none: it is made again from events.
DROP TABLE snapshots;
CREATE TABLE snapshots (
  stream      INTEGER PRIMARY KEY,                  -- streams.number; serves: loading an aggregate
  fingerprint TEXT    NOT NULL,
  version     INTEGER NOT NULL,
  checksum    INTEGER NOT NULL,                     -- CRC-32 over stream, version, fingerprint and state
  state       BLOB    NOT NULL
) STRICT;
