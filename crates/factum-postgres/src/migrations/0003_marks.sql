-- The last finished message of an inbox, by which its partition is known again. NULL until one is finished from now on.
ALTER TABLE factum.inboxes ADD COLUMN mark_offset bigint, ADD COLUMN mark_time bigint; -- microseconds since 1970
