-- The first records. Types and statements are those SQLite and PostgreSQL share: BIGINT (booleans are 0 and 1),
-- TEXT and BYTEA.
--
-- A snapshot is not copied: whatever belongs to snapshots carries the snapshot that brought it (since_snapshot) and
-- the one that took it away (until_snapshot, null while it is current). Snapshots of a database follow one another
-- and their ids grow, so what belongs to snapshot S is: since_snapshot <= S < until_snapshot. A commit therefore
-- writes only what is new, however large the database is.

CREATE TABLE last_ids (
    noun TEXT PRIMARY KEY,
    last_id BIGINT NOT NULL
);
INSERT INTO last_ids (noun, last_id) VALUES ('database', 0), ('table', 0), ('snapshot', 0), ('transaction', 0);

CREATE TABLE databases (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,                  -- the name in lower case
    description TEXT,
    scheme TEXT,                             -- JSON
    current_snapshot BIGINT,
    created_unix_ms BIGINT NOT NULL,
    dropped_unix_ms BIGINT                   -- the records stay: queries may still read its snapshots
);
CREATE UNIQUE INDEX databases_by_name ON databases (name_key) WHERE dropped_unix_ms IS NULL;

CREATE TABLE transactions (
    id BIGINT PRIMARY KEY,
    database_id BIGINT NOT NULL REFERENCES databases (id),
    base_snapshot BIGINT,
    state TEXT NOT NULL CHECK (state IN ('open', 'abandoned', 'committed', 'aborted')),
    owner_host TEXT NOT NULL,
    owner_pid BIGINT NOT NULL,
    owner_program TEXT NOT NULL,
    opened_unix_ms BIGINT NOT NULL,
    heartbeat_unix_ms BIGINT NOT NULL,
    closed_unix_ms BIGINT
);
CREATE INDEX transactions_unfinished ON transactions (database_id) WHERE state IN ('open', 'abandoned');

CREATE TABLE snapshots (
    id BIGINT PRIMARY KEY,
    database_id BIGINT NOT NULL REFERENCES databases (id),
    parent_snapshot BIGINT,
    transaction_id BIGINT REFERENCES transactions (id),  -- null when a table was dropped
    created_unix_ms BIGINT NOT NULL
);
CREATE INDEX snapshots_by_database ON snapshots (database_id);

CREATE TABLE tables (
    id BIGINT PRIMARY KEY,
    database_id BIGINT NOT NULL REFERENCES databases (id),
    name_key TEXT NOT NULL,
    since_snapshot BIGINT NOT NULL REFERENCES snapshots (id),
    until_snapshot BIGINT REFERENCES snapshots (id)
);
CREATE UNIQUE INDEX tables_by_name ON tables (database_id, name_key) WHERE until_snapshot IS NULL;
CREATE INDEX tables_by_database ON tables (database_id);

-- A table replaced by one of another shape keeps its id and gets a new definition.
CREATE TABLE table_definitions (
    table_id BIGINT NOT NULL REFERENCES tables (id),
    since_snapshot BIGINT NOT NULL REFERENCES snapshots (id),
    until_snapshot BIGINT REFERENCES snapshots (id),
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    id_column TEXT,
    ra_column TEXT,
    dec_column TEXT,
    director TEXT,
    director_key TEXT,
    description TEXT,
    PRIMARY KEY (table_id, since_snapshot)
);

CREATE TABLE table_columns (
    table_id BIGINT NOT NULL,
    since_snapshot BIGINT NOT NULL,
    position BIGINT NOT NULL,
    name TEXT NOT NULL,
    data_type TEXT NOT NULL,                 -- an Arrow type as Arrow displays it
    nullable BIGINT NOT NULL,
    unit TEXT,
    ucd TEXT,
    description TEXT,
    PRIMARY KEY (table_id, since_snapshot, position),
    FOREIGN KEY (table_id, since_snapshot) REFERENCES table_definitions (table_id, since_snapshot)
);

CREATE TABLE table_facts (
    table_id BIGINT NOT NULL REFERENCES tables (id),
    since_snapshot BIGINT NOT NULL REFERENCES snapshots (id),
    until_snapshot BIGINT REFERENCES snapshots (id),
    row_count BIGINT NOT NULL,
    orphans BIGINT NOT NULL,
    ids_span_chunks BIGINT NOT NULL,
    PRIMARY KEY (table_id, since_snapshot)
);

CREATE TABLE files (
    id BIGINT PRIMARY KEY,
    table_id BIGINT NOT NULL REFERENCES tables (id),
    since_snapshot BIGINT NOT NULL REFERENCES snapshots (id),
    until_snapshot BIGINT REFERENCES snapshots (id),
    chunk BIGINT NOT NULL,                   -- the 64 bits of an unsigned number
    kind TEXT NOT NULL,
    row_count BIGINT NOT NULL,
    byte_count BIGINT NOT NULL,
    sha256 BYTEA NOT NULL,
    statistics TEXT NOT NULL                 -- as COPY writes them; only ever read together with their file
);
CREATE INDEX files_by_table ON files (table_id);

CREATE TABLE replicas (
    file_id BIGINT NOT NULL REFERENCES files (id),
    position BIGINT NOT NULL,
    worker_id TEXT NOT NULL,                 -- need not have registered yet
    PRIMARY KEY (file_id, position)
);
CREATE INDEX replicas_by_worker ON replicas (worker_id);

CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    address TEXT NOT NULL,
    last_seen_unix_ms BIGINT NOT NULL,
    started_unix_ms BIGINT NOT NULL,
    cores BIGINT NOT NULL,
    file_count BIGINT NOT NULL,
    byte_count BIGINT NOT NULL
);

CREATE TABLE queries (
    id TEXT PRIMARY KEY,
    user_name TEXT NOT NULL,
    sql_text TEXT NOT NULL,
    state TEXT NOT NULL,
    error TEXT,
    started_unix_ms BIGINT NOT NULL,
    finished_unix_ms BIGINT,
    row_count BIGINT NOT NULL,
    byte_count BIGINT NOT NULL,
    chunk_count BIGINT NOT NULL
);
CREATE INDEX queries_by_start ON queries (started_unix_ms);
