/**
 * The tables of the index. Owns their shape and its version: a file of another one is thrown away, for all of it can be
 * read again from the store.
 *
 * `runs.id` is the second of the end, then a part of a hash of the name, then one bit for items of groups: so each index,
 * the words' too, is in the order of time and needs one small column, and a count reads nothing but it.
 */

/** Says that a file is ours, in its head (https://sqlite.org/fileformat2.html#application_id). */
export const APPLICATION_ID = 0x4d4a4c48;
/** Of the tables: raise it with each change of them, or of what is kept in them. */
export const SCHEMA_VERSION = 2;

export const SCHEMA = `
CREATE TABLE about(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE words(id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE runs(
  id INTEGER PRIMARY KEY,
  run_name TEXT NOT NULL UNIQUE,
  job INTEGER NOT NULL,
  status INTEGER NOT NULL,
  reason INTEGER NOT NULL,
  owner INTEGER,
  parent TEXT,
  root TEXT,
  grp TEXT,
  finished_ms INTEGER NOT NULL,
  took_ms INTEGER,
  retried INTEGER NOT NULL,
  requested INTEGER NOT NULL,
  rest TEXT NOT NULL
);
CREATE INDEX by_job ON runs(job);
CREATE INDEX by_status ON runs(status);
CREATE INDEX by_job_status ON runs(job, status);
CREATE INDEX by_reason ON runs(reason);
CREATE INDEX by_owner ON runs(owner) WHERE owner IS NOT NULL;
CREATE INDEX by_parent ON runs(parent) WHERE parent IS NOT NULL;
CREATE INDEX by_root ON runs(root);
CREATE INDEX by_group ON runs(grp) WHERE grp IS NOT NULL;
CREATE VIRTUAL TABLE texts USING fts5(
  text, content='', contentless_delete=1, detail=none, tokenize="unicode61 remove_diacritics 0 categories 'L* N* M* Co'"
);
INSERT INTO texts(texts, rank) VALUES ('hashsize', 262144);
CREATE TABLE days(
  job INTEGER NOT NULL,
  day INTEGER NOT NULL,
  succeeded INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  cancelled INTEGER NOT NULL,
  core_ms REAL NOT NULL,
  gib_ms REAL NOT NULL,
  gpu_ms REAL NOT NULL,
  median_ms INTEGER,
  p95_ms INTEGER,
  stale INTEGER NOT NULL,
  PRIMARY KEY (job, day)
) WITHOUT ROWID;
CREATE TABLE segments(name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE unstored(run_name TEXT PRIMARY KEY, line TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE missing(run_name TEXT PRIMARY KEY, modified_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX by_modified ON missing(modified_ms);
CREATE TABLE known(name INTEGER PRIMARY KEY);
`;
