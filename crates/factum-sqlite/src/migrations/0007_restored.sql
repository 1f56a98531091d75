-- When a restore last brought back messages of a partition. They keep the times at which they were published, and
-- retention counts from here, so that it does not take them before anybody has read them.
ALTER TABLE partitions ADD COLUMN restored INTEGER; -- microseconds since 1970; NULL: never
