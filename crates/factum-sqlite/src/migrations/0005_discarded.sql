-- When an operator discarded a message, from when on it is kept for a while. Of those that were discarded before this
-- was known, the time of parking has to do.
ALTER TABLE parked ADD COLUMN discarded_at INTEGER;
UPDATE parked SET discarded_at = parked_at WHERE state = 4;
