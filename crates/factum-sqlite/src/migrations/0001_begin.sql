-- The first schema. `docs/internals/storage.md` draws it and says why each index exists.
--
-- Everything of one store lies in ranges that its number begins: the number of a record, a stream, a type, a
-- topic, an inbox, a view and an audit entry is `store << 40 | n`. So a store can be copied, dropped and
-- restored by ranges, and no table needs a second index for that.

-- One row for each service.
CREATE TABLE stores (
  number             INTEGER PRIMARY KEY,           -- 1, 2, 3, …, below 2^22
  id                 BLOB    NOT NULL,              -- a UUID, drawn when the store was created
  service            TEXT    NOT NULL UNIQUE,       -- serves: opening a service's store
  indexed            INTEGER NOT NULL DEFAULT 0,    -- up to this position the log is in its indexes
  timers_fence_epoch INTEGER NOT NULL DEFAULT 0,
  timers_fence_owner INTEGER NOT NULL DEFAULT 0,
  timers_generation  INTEGER NOT NULL DEFAULT 0     -- the last generation given to any timer
) STRICT;

-- The time lines of each store. The present one is the last.
CREATE TABLE epochs (
  store   INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,                         -- 1, 2, 3, …
  epoch   INTEGER NOT NULL,
  first   INTEGER NOT NULL,                         -- position of the first record that is or would be written in it
  opened  INTEGER NOT NULL,                         -- microseconds since 1970
  reason  TEXT    NOT NULL,
  PRIMARY KEY (store, ordinal)                      -- serves: opening; checking cursors
) STRICT, WITHOUT ROWID;

-- The log. Nothing but its key is indexed when a record is written; see `stream_events` and `correlated`.
CREATE TABLE records (
  key            INTEGER PRIMARY KEY,               -- store << 40 | position; serves: reading the log in order
  epoch          INTEGER NOT NULL,
  kind           INTEGER NOT NULL,                  -- 1 event, 2 message, 3 import
  stream         INTEGER,                           -- streams.number; NULL for messages
  version        INTEGER NOT NULL,                  -- within the stream; 0 without one
  event_id       ANY     NOT NULL,                  -- 16 bytes when it is a UUID, else text
  type           INTEGER NOT NULL,                  -- types.number
  topic          INTEGER,                           -- topics.number; NULL for what is not sent
  partition      INTEGER,
  partition_key  BLOB,
  timestamp      INTEGER NOT NULL,                  -- microseconds since 1970
  correlation_id ANY     NOT NULL,                  -- as event_id
  causation_id   ANY,                               -- as event_id
  metadata       TEXT,                              -- a JSON object; NULL when it is empty
  tags           TEXT,                              -- a JSON array of texts; NULL when it is empty
  codec          INTEGER NOT NULL,                  -- 1 JSON
  protection     TEXT,
  checksum       INTEGER NOT NULL,                  -- CRC-32 over all that never changes
  state          INTEGER NOT NULL,                  -- 1 live, 2 archived, 3 erased
  data           BLOB    NOT NULL
) STRICT;

-- Streams, interned: the log and its index hold a small number that grows with time, whatever ids look like.
CREATE TABLE streams (
  number        INTEGER PRIMARY KEY,                -- store << 40 | n; serves: naming the stream of a record
  store         INTEGER NOT NULL,
  category      TEXT    NOT NULL,
  id            TEXT    NOT NULL,
  keyed         INTEGER NOT NULL,                   -- 0: no event of it went to a topic yet; 1: they have no key; 2: they have one
  partition_key BLOB,
  UNIQUE (store, category, id)                      -- serves: finding a stream by its name; listing streams in order
) STRICT;

-- Stored types, interned.
CREATE TABLE types (
  number  INTEGER PRIMARY KEY,                      -- store << 40 | n; serves: naming the type of a record
  store   INTEGER NOT NULL,
  name    TEXT    NOT NULL,
  version INTEGER NOT NULL,
  UNIQUE (store, name, version)                     -- serves: the number of a type, when it is written
) STRICT;

-- Topics with their pinned partition counts.
CREATE TABLE topics (
  number     INTEGER PRIMARY KEY,                   -- store << 40 | n; serves: naming the topic of a record
  store      INTEGER NOT NULL,
  topic      TEXT    NOT NULL,
  partitions INTEGER NOT NULL,
  UNIQUE (store, topic)                             -- serves: pinning; listing pinned topics
) STRICT;

-- Which record is which version of a stream. Trails the log up to stores.indexed.
CREATE TABLE stream_events (
  stream  INTEGER NOT NULL,                         -- streams.number
  version INTEGER NOT NULL,
  record  INTEGER NOT NULL,                         -- records.key
  PRIMARY KEY (stream, version)                     -- serves: reading a stream; its last version
) STRICT, WITHOUT ROWID;

-- Which records belong to one story. Trails the log up to stores.indexed.
CREATE TABLE correlated (
  store          INTEGER NOT NULL,
  correlation_id ANY     NOT NULL,
  record         INTEGER NOT NULL,                  -- records.key
  PRIMARY KEY (store, correlation_id, record)       -- serves: all of one correlation id, in order
) STRICT, WITHOUT ROWID;

-- States of aggregates, so that a load need not read all events. One for each stream.
CREATE TABLE snapshots (
  stream      INTEGER PRIMARY KEY,                  -- streams.number; serves: loading an aggregate
  fingerprint TEXT    NOT NULL,
  version     INTEGER NOT NULL,
  state       BLOB    NOT NULL
) STRICT;

-- Which messages of a partition a group has finished.
CREATE TABLE inboxes (
  number        INTEGER PRIMARY KEY,                -- store << 40 | n; serves: writing the row
  store         INTEGER NOT NULL,
  group_name    TEXT    NOT NULL,
  topic         TEXT    NOT NULL,
  partition     INTEGER NOT NULL,
  fence_epoch   INTEGER NOT NULL,
  fence_owner   INTEGER NOT NULL,
  start         INTEGER NOT NULL,                   -- 1 beginning, 2 anchor
  low           INTEGER NOT NULL,
  done          TEXT    NOT NULL,                   -- JSON: the bitmap above low, 64 bits a number
  lasts         TEXT    NOT NULL,                   -- JSON: the last place of each source as of low
  clean         INTEGER NOT NULL,
  trying_offset INTEGER,
  trying_tries  INTEGER,
  UNIQUE (store, group_name, topic, partition)      -- serves: one inbox; listing inboxes and parked messages in order
) STRICT;

-- Messages that can't be finished soon.
CREATE TABLE parked (
  inbox          INTEGER NOT NULL,                  -- inboxes.number
  message_offset INTEGER NOT NULL,
  lane_key       BLOB,                              -- NULL: a message without a key, which is a lane of its own
  state          INTEGER NOT NULL,                  -- 1 retrying, 2 dead, 3 waiting, 4 discarded
  revision       INTEGER NOT NULL,
  timestamp      INTEGER NOT NULL,
  headers        BLOB    NOT NULL,                  -- name and value, each behind its length in 4 bytes, one after another
  value          BLOB,
  edited         BLOB,
  event_id       ANY,
  type_name      TEXT,
  type_version   INTEGER,
  correlation_id ANY,
  tries          INTEGER NOT NULL,
  due            INTEGER,                           -- while retrying
  failure_class  TEXT,
  failure        TEXT,
  cause          TEXT,
  handler        TEXT,
  failed_at      INTEGER,
  parked_at      INTEGER NOT NULL,
  redrives       INTEGER NOT NULL,
  UNIQUE (inbox, message_offset)                    -- serves: one parked message; listing them in order
) STRICT;
-- Serves: whether a lane is parked, its head and its next, how many are in it; all but discarded ones.
CREATE INDEX parked_lane ON parked (inbox, lane_key, message_offset) WHERE state < 4;
-- Serves: due retries of an inbox, and when the first one is due.
CREATE INDEX parked_due ON parked (inbox, due) WHERE state = 1;
-- Serves: operators' lists and counts by state and cause.
CREATE INDEX parked_cause ON parked (inbox, state, cause);

-- Ids of foreign messages that a group has handled or parked.
CREATE TABLE message_ids (
  store         INTEGER NOT NULL,
  group_name    TEXT    NOT NULL,
  event_id      ANY     NOT NULL,
  until         INTEGER NOT NULL,
  parked_inbox  INTEGER,                            -- the parked message that took it keeps it as long as it is there
  parked_offset INTEGER,
  PRIMARY KEY (store, group_name, event_id)         -- serves: whether an id is taken
) STRICT, WITHOUT ROWID;
-- Serves: dropping what has expired.
CREATE INDEX message_ids_until ON message_ids (store, until);

-- Answers to commands with idempotency keys.
CREATE TABLE answers (
  store         INTEGER NOT NULL,
  scope         TEXT    NOT NULL,
  key           TEXT    NOT NULL,
  request       INTEGER NOT NULL,                   -- a hash, as a signed number
  answer        BLOB    NOT NULL,
  head_epoch    INTEGER NOT NULL,
  head_position INTEGER NOT NULL,
  first         INTEGER,
  expires       INTEGER NOT NULL,
  PRIMARY KEY (store, scope, key)                   -- serves: whether a command was answered
) STRICT;
-- Serves: dropping what has expired.
CREATE INDEX answers_expires ON answers (store, expires);

-- The last commits that nothing but their id keeps from being applied twice: a ring.
CREATE TABLE applied (
  slot          INTEGER PRIMARY KEY,                -- store << 40 | ordinal modulo the ring's size; serves: opening
  ordinal       INTEGER NOT NULL,                   -- 1, 2, 3, …
  commit_id     BLOB    NOT NULL,
  head_epoch    INTEGER NOT NULL,
  head_position INTEGER NOT NULL,
  first         INTEGER,
  versions      TEXT    NOT NULL                    -- JSON: for each append, the version of its last event
) STRICT;

-- Timers that are set.
CREATE TABLE timers (
  store      INTEGER NOT NULL,
  id         TEXT    NOT NULL,
  generation INTEGER NOT NULL,
  due        INTEGER NOT NULL,
  payload    BLOB    NOT NULL,
  PRIMARY KEY (store, id)                           -- serves: setting, cancelling and firing one
) STRICT, WITHOUT ROWID;
-- Serves: the timers that come due first.
CREATE INDEX timers_due ON timers (store, due, id);

-- The relay's row, and the last record published to each partition as of its checkpoint.
CREATE TABLE relays (
  store               INTEGER PRIMARY KEY,
  fence_epoch         INTEGER NOT NULL,
  fence_owner         INTEGER NOT NULL,
  checkpoint_epoch    INTEGER NOT NULL,
  checkpoint_position INTEGER NOT NULL
) STRICT;
CREATE TABLE relay_lasts (
  store     INTEGER NOT NULL,
  topic     TEXT    NOT NULL,
  partition INTEGER NOT NULL,
  epoch     INTEGER NOT NULL,
  position  INTEGER NOT NULL,
  PRIMARY KEY (store, topic, partition)             -- serves: the relay's start
) STRICT, WITHOUT ROWID;

-- Generations of projections. A forgotten one keeps its fence, so that no owner of it gets it back.
CREATE TABLE projections (
  store               INTEGER NOT NULL,
  projection          TEXT    NOT NULL,
  generation          INTEGER NOT NULL,
  fence_epoch         INTEGER NOT NULL,
  fence_owner         INTEGER NOT NULL,
  checkpoint_epoch    INTEGER NOT NULL,
  checkpoint_position INTEGER NOT NULL,
  fingerprint         TEXT,                         -- NULL: forgotten
  PRIMARY KEY (store, projection, generation)       -- serves: claims and checkpoints
) STRICT, WITHOUT ROWID;

-- The generation of each projection's views that readers see.
CREATE TABLE active_generations (
  store      INTEGER NOT NULL,
  projection TEXT    NOT NULL,
  generation INTEGER NOT NULL,
  PRIMARY KEY (store, projection)                   -- serves: opening; switching over
) STRICT, WITHOUT ROWID;

-- Generations of views. The rows of number `store << 40 | n` are in the table `view_<store>_<n>`.
CREATE TABLE views (
  number     INTEGER PRIMARY KEY,                   -- store << 40 | n
  store      INTEGER NOT NULL,
  view       TEXT    NOT NULL,
  generation INTEGER NOT NULL,
  definition TEXT    NOT NULL,                      -- JSON
  UNIQUE (store, view, generation)                  -- serves: opening; that a generation exists once
) STRICT;

-- Who did what, when and why.
CREATE TABLE audit (
  number  INTEGER PRIMARY KEY,                      -- store << 40 | n; serves: the newest first
  at      INTEGER NOT NULL,
  actor   TEXT    NOT NULL,
  action  TEXT    NOT NULL,
  subject TEXT    NOT NULL,
  reason  TEXT    NOT NULL
) STRICT;

-- For people with a SQL prompt: the log in words.
CREATE VIEW events (store, seq, aggregate_id, type, data, timestamp) AS
SELECT
  stores.service,
  records.key & 1099511627775,
  streams.id,
  types.name,
  CAST(records.data AS TEXT),
  strftime('%Y-%m-%dT%H:%M:%S', (records.timestamp - (records.timestamp % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
    || printf('.%06dZ', (records.timestamp % 1000000 + 1000000) % 1000000)
FROM records
JOIN stores ON stores.number = records.key >> 40
JOIN types ON types.number = records.type
LEFT JOIN streams ON streams.number = records.stream;
