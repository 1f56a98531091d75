-- The last finished message of an inbox, by which its partition is known again. NULL until one is finished from now on.
ALTER TABLE inboxes ADD COLUMN mark_offset INTEGER;
ALTER TABLE inboxes ADD COLUMN mark_time INTEGER; -- microseconds since 1970
