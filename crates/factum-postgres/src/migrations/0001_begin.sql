-- The first schema of a store. `docs/internals/postgres.md` draws it and says why each index exists.
--
-- `factum.` stands for the store's own schema, and @section@ and @time_line@ for the numbers of its two locks: they
-- are put in when the migration is run. Free texts are escaped (`text.rs`), since PostgreSQL takes no NUL.

-- Who the store is.
CREATE TABLE factum.store (
  one                boolean PRIMARY KEY DEFAULT true CHECK (one),
  id                 uuid    NOT NULL,                    -- drawn when the store was created
  service            text    NOT NULL,
  timers_fence_epoch bigint  NOT NULL DEFAULT 0,
  timers_fence_owner bigint  NOT NULL DEFAULT 0
);

-- The time lines. The present one is the last.
CREATE TABLE factum.epochs (
  ordinal bigint PRIMARY KEY,                             -- 1, 2, 3, …
  epoch   bigint NOT NULL,
  first   bigint NOT NULL,                                -- position of the first record that is or would be written in it
  opened  bigint NOT NULL,                                -- microseconds since 1970
  reason  text   NOT NULL
);

-- The log.
CREATE TABLE factum.records (
  position       bigint   PRIMARY KEY,                    -- serves: the log in order; its head
  epoch          bigint   NOT NULL,
  kind           smallint NOT NULL,                       -- 1 event, 2 message, 3 import
  category       text     COLLATE "C",                    -- NULL for messages
  stream         text     COLLATE "C",
  version        bigint   NOT NULL,                       -- within the stream; 0 without one
  event_id       bytea    NOT NULL,                       -- \x01 and 16 bytes when it is a UUID, else \x02 and the text
  type_name      text     NOT NULL,
  type_version   integer  NOT NULL,
  topic          text,                                    -- NULL for what is not sent
  partition      integer,
  keyed          smallint NOT NULL,                       -- the stream's key as of this record. 0: none of it went to a topic yet;
  partition_key  bytea,                                   -- 1: they have no key; 2: they have this one
  timestamp      bigint   NOT NULL,                       -- microseconds since 1970
  correlation_id bytea    NOT NULL,                       -- as event_id
  causation_id   bytea,                                   -- as event_id
  metadata       text,                                    -- a JSON object; NULL when it is empty
  tags           text,                                    -- a JSON array of texts; NULL when it is empty
  codec          smallint NOT NULL,                       -- 1 JSON
  protection     text,
  checksum       integer  NOT NULL,                       -- CRC-32 over all that its writer made
  state          smallint NOT NULL DEFAULT 1,             -- 1 live, 2 archived, 3 erased
  data           bytea    NOT NULL
);
-- Serves: reading a stream; its last version and key; that a version is written once; listing streams in order.
CREATE UNIQUE INDEX records_stream ON factum.records (category, stream, version) WHERE stream IS NOT NULL;
-- Serves: the story of one correlation id.
CREATE INDEX records_correlated ON factum.records (correlation_id, position);

-- The batches of writers, so that a writer whose connection died finds out what became of its last one.
CREATE TABLE factum.batches (
  writer        uuid        NOT NULL,
  number        bigint      NOT NULL,
  stored        boolean     NOT NULL,                     -- false: given up, so that it can't be stored any more
  head_epoch    bigint      NOT NULL,                     -- the head of the log before it
  head_position bigint      NOT NULL,
  at            timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (writer, number)                            -- serves: that one of storing and giving up wins
);

-- States of aggregates, so that a load need not read all events. One for each stream.
CREATE TABLE factum.snapshots (
  category    text   COLLATE "C" NOT NULL,
  stream      text   COLLATE "C" NOT NULL,
  fingerprint text   NOT NULL,
  version     bigint NOT NULL,
  event_id    bytea  NOT NULL,                            -- the event of that version
  state       bytea  NOT NULL,
  PRIMARY KEY (category, stream)                          -- serves: loading an aggregate
);

-- Topics with their pinned partition counts.
CREATE TABLE factum.topics (
  topic      text    COLLATE "C" PRIMARY KEY,             -- serves: pinning; listing in order
  partitions integer NOT NULL
);

-- Which messages of a partition a group has finished.
CREATE TABLE factum.inboxes (
  number        bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- serves: writing the row
  group_name    text    COLLATE "C" NOT NULL,
  topic         text    COLLATE "C" NOT NULL,
  partition     integer NOT NULL,
  revision      bigint  NOT NULL,                         -- grows with each change of the row or of what is parked
  parked        bigint  NOT NULL,                         -- how many are parked, discarded ones aside
  fence_epoch   bigint  NOT NULL,
  fence_owner   bigint  NOT NULL,
  start         smallint NOT NULL,                        -- 1 beginning, 2 anchor
  low           bigint  NOT NULL,
  done          text    NOT NULL,                         -- JSON: the bitmap above low, 64 bits a number
  lasts         text    NOT NULL,                         -- JSON: the last place of each source as of low
  clean         boolean NOT NULL,
  trying_offset bigint,
  trying_tries  integer,
  UNIQUE (group_name, topic, partition)                   -- serves: one inbox; listing inboxes and parked messages in order
) WITH (fillfactor = 50);

-- Messages that can't be finished soon.
CREATE TABLE factum.parked (
  inbox          bigint   NOT NULL,                       -- inboxes.number
  message_offset bigint   NOT NULL,
  lane_key       bytea,                                   -- NULL: a message without a key, which is a lane of its own
  state          smallint NOT NULL,                       -- 1 retrying, 2 dead, 3 waiting, 4 discarded
  revision       bigint   NOT NULL,
  timestamp      bigint   NOT NULL,
  header_names   text[]   NOT NULL,
  header_values  bytea[]  NOT NULL,
  value          bytea,
  edited         bytea,
  event_id       bytea,
  type_name      text,
  type_version   integer,
  correlation_id bytea,
  tries          bigint   NOT NULL,
  due            bigint,                                  -- while retrying
  failure_class  text,
  failure        text,
  cause          text     COLLATE "C",
  handler        text,
  failed_at      bigint,
  parked_at      bigint   NOT NULL,
  redrives       bigint   NOT NULL,
  discarded_at   bigint,
  PRIMARY KEY (inbox, message_offset)                     -- serves: one parked message; listing them in order
);
-- Serves: whether a lane is parked, its head and its next, how many are in it; all but discarded ones.
CREATE INDEX parked_lane ON factum.parked (inbox, lane_key, message_offset) WHERE state < 4;
-- Serves: due retries of an inbox, and when the first one is due.
CREATE INDEX parked_due ON factum.parked (inbox, due) WHERE state = 1;
-- Serves: operators' lists and counts by state and cause.
CREATE INDEX parked_cause ON factum.parked (inbox, state, cause);

-- Ids of foreign messages that a group has handled or parked.
CREATE TABLE factum.message_ids (
  group_name    text   COLLATE "C" NOT NULL,
  event_id      bytea  NOT NULL,
  until         bigint NOT NULL,
  parked_inbox  bigint,                                   -- the parked message that took it keeps it as long as it is there
  parked_offset bigint,
  PRIMARY KEY (group_name, event_id)                      -- serves: whether an id is taken
);
-- Serves: dropping what has expired.
CREATE INDEX message_ids_until ON factum.message_ids (until);

-- Answers to commands with idempotency keys.
CREATE TABLE factum.answers (
  scope         text   COLLATE "C" NOT NULL,
  key           text   COLLATE "C" NOT NULL,
  request       bigint NOT NULL,                          -- a hash, as a signed number
  answer        bytea  NOT NULL,
  head_epoch    bigint NOT NULL,
  head_position bigint NOT NULL,
  first         bigint,
  expires       bigint NOT NULL,
  PRIMARY KEY (scope, key)                                -- serves: whether a command was answered
);
-- Serves: dropping what has expired.
CREATE INDEX answers_expires ON factum.answers (expires);

-- The last commits that nothing but their id keeps from being applied twice.
CREATE TABLE factum.applied (
  commit_id     uuid   PRIMARY KEY,                       -- serves: whether a commit was applied
  ordinal       bigint GENERATED ALWAYS AS IDENTITY,
  head_epoch    bigint NOT NULL,
  head_position bigint NOT NULL,
  first         bigint,
  versions      bigint[] NOT NULL                         -- for each append, the version of its last event
);
-- Serves: dropping the oldest.
CREATE INDEX applied_ordinal ON factum.applied (ordinal);

-- Timers that are set. The sequence counts settings of all timers together: one that is cancelled and set again must not
-- get the generation that it had before, or a firing decided on the old one would take the new one.
CREATE SEQUENCE factum.timer_generations;
CREATE TABLE factum.timers (
  id         text   COLLATE "C" PRIMARY KEY,              -- serves: setting, cancelling and firing one
  generation bigint NOT NULL,
  due        bigint NOT NULL,
  payload    bytea  NOT NULL
);
-- Serves: the timers that come due first.
CREATE INDEX timers_due ON factum.timers (due, id);

-- The relay's row, and the last record published to each partition as of its checkpoint.
CREATE TABLE factum.relay (
  one                 boolean PRIMARY KEY DEFAULT true CHECK (one),
  fence_epoch         bigint  NOT NULL,
  fence_owner         bigint  NOT NULL,
  checkpoint_epoch    bigint  NOT NULL,
  checkpoint_position bigint  NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE factum.relay_lasts (
  topic     text    COLLATE "C" NOT NULL,
  partition integer NOT NULL,
  epoch     bigint  NOT NULL,
  position  bigint  NOT NULL,
  PRIMARY KEY (topic, partition)                          -- serves: the relay's start
) WITH (fillfactor = 50);

-- Which process does what only one may do. No condition of any commit: fences are.
CREATE TABLE factum.leases (
  role   text   COLLATE "C" PRIMARY KEY,                  -- serves: one lease
  holder uuid,                                            -- NULL: it was given back
  beat   bigint NOT NULL                                  -- grows with each sign of life and each change of hands
) WITH (fillfactor = 50);

-- Generations of projections. A forgotten one keeps its fence, so that no owner of it gets it back.
CREATE TABLE factum.projections (
  projection          text    COLLATE "C" NOT NULL,
  generation          bigint  NOT NULL,
  fence_epoch         bigint  NOT NULL,
  fence_owner         bigint  NOT NULL,
  checkpoint_epoch    bigint  NOT NULL,
  checkpoint_position bigint  NOT NULL,
  fingerprint         text,                               -- NULL: forgotten
  PRIMARY KEY (projection, generation)                    -- serves: claims and checkpoints
) WITH (fillfactor = 50);

-- The generation of each projection's views that readers see.
CREATE TABLE factum.active_generations (
  projection text   COLLATE "C" PRIMARY KEY,              -- serves: reads; switching over
  generation bigint NOT NULL
);

-- Generations of views. The rows of number n are in the table `view_n`.
CREATE TABLE factum.views (
  number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  view       text   COLLATE "C" NOT NULL,
  generation bigint NOT NULL,
  definition text   NOT NULL,                             -- JSON
  UNIQUE (view, generation)                               -- serves: that a generation exists once
);

-- Who did what, when and why.
CREATE TABLE factum.audit (
  number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- serves: the newest first
  at      bigint NOT NULL,
  actor   text   NOT NULL,
  action  text   NOT NULL,
  subject text   NOT NULL,
  reason  text   NOT NULL
);

INSERT INTO factum.relay VALUES (true, 0, 0, 0, 0);

-- For people with a SQL prompt: the log in words.
CREATE VIEW factum.events (seq, category, aggregate_id, type, data, timestamp) AS
SELECT position, category, stream, type_name, convert_from(data, 'UTF8'),
  to_char(to_timestamp(timestamp / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS')
    || to_char((timestamp % 1000000 + 1000000) % 1000000, '".FM"000000"Z"')
FROM factum.records;

-- Ends the transaction when something does not hold that was taken for granted: the writer looks again then.
CREATE FUNCTION factum.must(holds boolean, what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF holds IS NOT TRUE THEN
    RAISE EXCEPTION USING ERRCODE = 'FC409', MESSAGE = what;
  END IF;
END
$$;

-- Whatever the server's default is, what was acknowledged is on its disk.
CREATE FUNCTION factum.be_durable() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
END
$$;

-- The section: whoever has passed here is the only one who appends, until the transaction ends.
CREATE FUNCTION factum.lock_section() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(@section@);
END
$$;

-- Begins a batch without records, and says where the log ends.
CREATE FUNCTION factum.enter(a_writer uuid, a_number bigint, an_epoch bigint)
RETURNS TABLE (head_epoch bigint, head_position bigint) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM factum.be_durable();
  PERFORM pg_advisory_xact_lock_shared(@time_line@);
  PERFORM factum.must((SELECT e.epoch FROM factum.epochs e ORDER BY e.ordinal DESC LIMIT 1) = an_epoch, 'epoch');
  SELECT r.epoch, r.position INTO head_epoch, head_position FROM factum.records r ORDER BY r.position DESC LIMIT 1;
  head_epoch := coalesce(head_epoch, 0);
  head_position := coalesce(head_position, 0);
  INSERT INTO factum.batches VALUES (a_writer, a_number, true, head_epoch, head_position);
  RETURN NEXT;
END
$$;

-- Appends records behind the head of the log, and says where that was. Each statement in here has a snapshot of its own,
-- younger than the lock: nobody has written between the look at the head and the end of the transaction. That a version
-- was free is for the unique index to find out.
CREATE FUNCTION factum.append(
  a_writer uuid, a_number bigint, an_epoch bigint,
  kinds smallint[], categories text[], streams text[], versions bigint[], event_ids bytea[], type_names text[],
  type_versions integer[], topics text[], partitions integer[], keyeds smallint[], partition_keys bytea[],
  timestamps bigint[], correlation_ids bytea[], causation_ids bytea[], metadatas text[], tagses text[],
  codecs smallint[], protections text[], checksums integer[], datas bytea[]
) RETURNS TABLE (head_epoch bigint, head_position bigint) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM factum.be_durable();
  PERFORM pg_advisory_xact_lock(@section@);
  PERFORM factum.must((SELECT e.epoch FROM factum.epochs e ORDER BY e.ordinal DESC LIMIT 1) = an_epoch, 'epoch');
  SELECT r.epoch, r.position INTO head_epoch, head_position FROM factum.records r ORDER BY r.position DESC LIMIT 1;
  head_epoch := coalesce(head_epoch, 0);
  head_position := coalesce(head_position, 0);
  INSERT INTO factum.batches VALUES (a_writer, a_number, true, head_epoch, head_position);
  INSERT INTO factum.records (
    position, epoch, kind, category, stream, version, event_id, type_name, type_version, topic, partition, keyed,
    partition_key, timestamp, correlation_id, causation_id, metadata, tags, codec, protection, checksum, data
  )
  SELECT head_position + ordinal, an_epoch, kind, category, stream, version, event_id, type_name, type_version, topic,
    part, keyed, partition_key, time, correlation_id, causation_id, metadata, tags, codec, protection, checksum, data
  FROM unnest(
    kinds, categories, streams, versions, event_ids, type_names, type_versions, topics, partitions, keyeds,
    partition_keys, timestamps, correlation_ids, causation_ids, metadatas, tagses, codecs, protections, checksums, datas
  ) WITH ORDINALITY AS given (
    kind, category, stream, version, event_id, type_name, type_version, topic, part, keyed,
    partition_key, time, correlation_id, causation_id, metadata, tags, codec, protection, checksum, data, ordinal
  );
  RETURN NEXT;
END
$$;

-- What became of a batch whose outcome is unknown. If it was not stored, it can't be any more: the key of `batches` lets
-- one of the two win, and whoever comes second waits for the other's end.
CREATE FUNCTION factum.settle(a_writer uuid, a_number bigint)
RETURNS TABLE (stored boolean, head_epoch bigint, head_position bigint) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM factum.be_durable();
  INSERT INTO factum.batches VALUES (a_writer, a_number, false, 0, 0) ON CONFLICT DO NOTHING;
  RETURN QUERY SELECT b.stored, b.head_epoch, b.head_position FROM factum.batches b
    WHERE b.writer = a_writer AND b.number = a_number;
END
$$;

-- Claims an inbox, which is made if it does not exist. The answer's `clean` is as the owner before left it.
CREATE FUNCTION factum.claim_inbox(a_group text, a_topic text, a_partition integer, a_start smallint, a_low bigint,
  a_lasts text)
RETURNS SETOF factum.inboxes LANGUAGE plpgsql AS $$
DECLARE
  claimed factum.inboxes;
BEGIN
  PERFORM factum.be_durable();
  PERFORM pg_advisory_xact_lock_shared(@time_line@);
  INSERT INTO factum.inboxes (group_name, topic, partition, revision, parked, fence_epoch, fence_owner, start, low, done,
    lasts, clean)
  VALUES (a_group, a_topic, a_partition, 0, 0, 0, 0, a_start, a_low, '[]', a_lasts, true) ON CONFLICT DO NOTHING;
  SELECT * INTO STRICT claimed FROM factum.inboxes i
    WHERE i.group_name = a_group AND i.topic = a_topic AND i.partition = a_partition FOR UPDATE;
  claimed.revision := claimed.revision + 1;
  claimed.fence_epoch := (SELECT e.epoch FROM factum.epochs e ORDER BY e.ordinal DESC LIMIT 1);
  claimed.fence_owner := claimed.fence_owner + 1;
  UPDATE factum.inboxes i SET revision = claimed.revision, fence_epoch = claimed.fence_epoch,
    fence_owner = claimed.fence_owner, clean = false WHERE i.number = claimed.number;
  RETURN NEXT claimed;
END
$$;

CREATE FUNCTION factum.claim_relay() RETURNS SETOF factum.relay LANGUAGE plpgsql AS $$
BEGIN
  PERFORM factum.be_durable();
  PERFORM pg_advisory_xact_lock_shared(@time_line@);
  RETURN QUERY UPDATE factum.relay r SET fence_owner = r.fence_owner + 1,
    fence_epoch = (SELECT e.epoch FROM factum.epochs e ORDER BY e.ordinal DESC LIMIT 1) RETURNING r.*;
END
$$;

CREATE FUNCTION factum.claim_timers() RETURNS TABLE (fence_epoch bigint, fence_owner bigint) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM factum.be_durable();
  PERFORM pg_advisory_xact_lock_shared(@time_line@);
  RETURN QUERY UPDATE factum.store s SET timers_fence_owner = s.timers_fence_owner + 1,
    timers_fence_epoch = (SELECT e.epoch FROM factum.epochs e ORDER BY e.ordinal DESC LIMIT 1)
    RETURNING s.timers_fence_epoch, s.timers_fence_owner;
END
$$;

CREATE FUNCTION factum.claim_projection(a_projection text, a_generation bigint, a_fingerprint text)
RETURNS SETOF factum.projections LANGUAGE plpgsql AS $$
DECLARE
  present bigint;
BEGIN
  PERFORM factum.be_durable();
  PERFORM pg_advisory_xact_lock_shared(@time_line@);
  present := (SELECT e.epoch FROM factum.epochs e ORDER BY e.ordinal DESC LIMIT 1);
  RETURN QUERY INSERT INTO factum.projections AS p VALUES (a_projection, a_generation, present, 1, 0, 0, a_fingerprint)
    ON CONFLICT (projection, generation) DO UPDATE SET fence_epoch = present, fence_owner = p.fence_owner + 1,
      checkpoint_epoch = CASE WHEN p.fingerprint IS DISTINCT FROM a_fingerprint THEN 0 ELSE p.checkpoint_epoch END,
      checkpoint_position = CASE WHEN p.fingerprint IS DISTINCT FROM a_fingerprint THEN 0 ELSE p.checkpoint_position END,
      fingerprint = a_fingerprint
    RETURNING p.*;
END
$$;

-- Opens a new time line, and moves back what lies beyond the head. False: the epoch is not greater than the present one.
CREATE FUNCTION factum.open_epoch(an_epoch bigint, opened_at bigint, a_reason text)
RETURNS TABLE (done boolean, present bigint) LANGUAGE plpgsql AS $$
DECLARE
  head factum.records;
BEGIN
  PERFORM factum.be_durable();
  PERFORM pg_advisory_xact_lock(@section@);
  PERFORM pg_advisory_xact_lock(@time_line@);
  present := (SELECT e.epoch FROM factum.epochs e ORDER BY e.ordinal DESC LIMIT 1);
  done := an_epoch > present;
  IF done THEN
    SELECT * INTO head FROM factum.records r ORDER BY r.position DESC LIMIT 1;
    INSERT INTO factum.epochs
      SELECT max(e.ordinal) + 1, an_epoch, coalesce(head.position, 0) + 1, opened_at, a_reason FROM factum.epochs e;
    IF EXISTS (SELECT 1 FROM factum.relay r WHERE r.checkpoint_position > coalesce(head.position, 0)) THEN
      DELETE FROM factum.relay_lasts;
      INSERT INTO factum.relay_lasts SELECT DISTINCT ON (r.topic, r.partition) r.topic, r.partition, r.epoch, r.position
        FROM factum.records r WHERE r.topic IS NOT NULL ORDER BY r.topic, r.partition, r.position DESC;
      UPDATE factum.relay SET checkpoint_epoch = coalesce(head.epoch, 0), checkpoint_position = coalesce(head.position, 0);
    END IF;
    UPDATE factum.projections SET checkpoint_epoch = coalesce(head.epoch, 0),
      checkpoint_position = coalesce(head.position, 0) WHERE checkpoint_position > coalesce(head.position, 0);
  END IF;
  RETURN NEXT;
END
$$;
