"""The tables of a ledger, as SQLite is told to make them."""

from __future__ import annotations

APPLICATION = 0x63617074  # "capt": SQLite's mark for whose file it is
VERSION = 2
PENDING, DONE, FAILED, SKIPPED = 0, 1, 2, 3  # the state of an item
SLICE = 4096  # items that are compared with those of the last time at once
ITEM = "source, path, member, root, size, mtime_ns"  # the columns of an item that make an Entry
SCHEMA = f"""
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,   -- digest of the command: the same command goes on with the same job
    command TEXT NOT NULL,      -- JSON, for people
    settings INTEGER NOT NULL,  -- number of those in the table below
    revision INTEGER NOT NULL DEFAULT 1,  -- grows with every change of what the outputs are made of
    published INTEGER NOT NULL DEFAULT 0,  -- the revision that the outputs hold
    total INTEGER NOT NULL DEFAULT 0  -- items
);
CREATE TABLE settings (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE  -- of the model and the options: what captions depend on
);
CREATE TABLE items (
    job INTEGER NOT NULL, source BLOB NOT NULL,  -- the file system's bytes: a name need not be text
    position INTEGER NOT NULL, path BLOB NOT NULL, member BLOB, root BLOB NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,  -- the fingerprint
    digest BLOB,                -- of the content, once it has been read
    state INTEGER NOT NULL DEFAULT 0,
    error TEXT,                 -- JSON {{"type", "detail"}}
    written INTEGER NOT NULL DEFAULT 0,  -- whether its text was put where it belongs
    PRIMARY KEY (job, source)
) WITHOUT ROWID;
CREATE INDEX items_in_order ON items (job, position);
CREATE INDEX items_by_state ON items (job, state, position);
CREATE TABLE slices (           -- of the items, as they arrived: what arrives again need not be compared one by one
    job INTEGER NOT NULL, first INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (job, first)
) WITHOUT ROWID;
CREATE TRIGGER items_changed AFTER UPDATE OF size, mtime_ns ON items
WHEN old.size <> new.size OR old.mtime_ns <> new.mtime_ns BEGIN
    UPDATE slices SET digest = x'' WHERE job = old.job AND first = old.position / {SLICE} * {SLICE}; END;
CREATE TABLE settled (          -- what the first run found out and every later one keeps to
    job INTEGER NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (job, name)
) WITHOUT ROWID;
CREATE TABLE leases (
    job INTEGER NOT NULL, batch INTEGER NOT NULL, holder TEXT NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (job, batch)
) WITHOUT ROWID;
CREATE TABLE contents (         -- what was read: a file with the same fingerprint is not read again
    path BLOB NOT NULL, member BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (path, member)
) WITHOUT ROWID;
CREATE TABLE results (
    id INTEGER PRIMARY KEY,     -- rows lie in the order in which they were made, nearly that of the outputs
    digest BLOB NOT NULL, settings INTEGER NOT NULL, row TEXT NOT NULL,  -- JSON, without the picture's name
    UNIQUE (digest, settings)
);
CREATE TABLE changes (          -- texts that the job wrote, with what stood there before
    job INTEGER NOT NULL, target BLOB NOT NULL, source BLOB NOT NULL, before BLOB, after BLOB NOT NULL,
    PRIMARY KEY (job, target)
) WITHOUT ROWID;
"""
