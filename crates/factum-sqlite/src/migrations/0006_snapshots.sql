-- A snapshot names the event that it stands on: one of a lost time line is told from the present stream, whose version
-- may be the same. What was there before names none: it is made again from events.
DROP TABLE snapshots;
CREATE TABLE snapshots (
  stream      INTEGER PRIMARY KEY,                  -- streams.number; serves: loading an aggregate
  fingerprint TEXT    NOT NULL,
  version     INTEGER NOT NULL,
  event_id    TEXT    NOT NULL,                     -- of the event of that version
  checksum    INTEGER NOT NULL,                     -- CRC-32 over stream, version, event id, fingerprint and state
  state       BLOB    NOT NULL
) STRICT;
