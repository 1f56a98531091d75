-- On which server the store was last written: its identifier, and its own time line, which is another one when a
-- standby was promoted or the server was restored to an earlier point. NULL until the first look.
ALTER TABLE factum.store ADD COLUMN server bigint, ADD COLUMN server_line bigint;

CREATE FUNCTION factum.server_line() RETURNS bigint LANGUAGE sql AS $$
  SELECT ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint
$$;

-- Whatever the server's default is, what was acknowledged is on its disk; and the disk is the one that it was on before.
-- What only reads can't write anyway, and says so itself.
CREATE OR REPLACE FUNCTION factum.be_durable() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  IF NOT pg_is_in_recovery() AND (SELECT s.server_line FROM factum.store s) <> factum.server_line() THEN
    RAISE EXCEPTION USING ERRCODE = 'FC410', MESSAGE = 'the server was promoted or restored';
  END IF;
END
$$;

-- Opens a new time line of the store when the server is not what it was. Says why, or NULL.
CREATE FUNCTION factum.recognise(an_epoch bigint, opened_at bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  now_on bigint;
  now_line bigint;
  known_on bigint;
  known_line bigint;
  present bigint;
  reason text;
BEGIN
  IF pg_is_in_recovery() THEN
    RAISE EXCEPTION USING ERRCODE = '25006', MESSAGE = 'the server is a standby';
  END IF;
  SELECT c.system_identifier INTO now_on FROM pg_control_system() c;
  now_line := factum.server_line();
  SELECT s.server, s.server_line INTO known_on, known_line FROM factum.store s;
  IF known_on = now_on AND known_line = now_line THEN
    RETURN NULL;
  END IF;
  PERFORM pg_advisory_xact_lock(@section@);
  PERFORM pg_advisory_xact_lock(@time_line@);
  SELECT s.server, s.server_line INTO known_on, known_line FROM factum.store s;
  IF known_on = now_on AND known_line = now_line THEN
    RETURN NULL;
  END IF;
  UPDATE factum.store SET server = now_on, server_line = now_line;
  IF known_on IS NULL THEN
    RETURN NULL;
  END IF;
  reason := CASE WHEN known_on <> now_on THEN 'the database is on another server than before'
    ELSE format('the server went from its time line %s to %s: it was promoted, or restored to an earlier point', known_line, now_line) END;
  present := (SELECT e.epoch FROM factum.epochs e ORDER BY e.ordinal DESC LIMIT 1);
  PERFORM factum.open_epoch(greatest(an_epoch, present + 1), opened_at, reason);
  RETURN reason;
END
$$;
