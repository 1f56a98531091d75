-- What the witness beside the file is compared with. See `witness.rs`.
CREATE TABLE witnessed (
  number   INTEGER PRIMARY KEY CHECK (number = 1),
  state    INTEGER NOT NULL,                        -- 1: the file has a witness; 2: it is a backup, and must be restored
  sequence INTEGER NOT NULL                         -- grows with each group of commits that moves the head of no log
) STRICT;
