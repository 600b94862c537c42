-- Jobs: queries that outlive their client and the coordinator. Whatever is needed to run one again stands in its row.
-- And what was known of a query before it ran.

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,                     -- the id of its query
    user_name TEXT NOT NULL,
    sql_text TEXT NOT NULL,
    default_database TEXT,
    shuffle TEXT,                            -- as the session asked
    snapshots TEXT NOT NULL,                 -- JSON: the snapshots it runs on, which are kept until it ends
    result_schema BYTEA NOT NULL,            -- an IPC schema message
    warnings TEXT NOT NULL,                  -- JSON
    estimated_chunks BIGINT NOT NULL,
    estimated_rows BIGINT NOT NULL,
    estimated_bytes BIGINT NOT NULL,
    estimated_ms BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'finished', 'failed', 'cancelled', 'expired')),
    submitted_unix_ms BIGINT NOT NULL,       -- also what now() means in it
    started_unix_ms BIGINT,
    ended_unix_ms BIGINT,
    expires_unix_ms BIGINT,                  -- of the result
    starts BIGINT NOT NULL,
    chunk_count BIGINT NOT NULL,             -- chunk runs that counted, over all starts
    error_code BIGINT,                       -- of gRPC
    error TEXT,
    result_rows BIGINT,
    result_bytes BIGINT,
    result_batches BIGINT,
    result_sha256 BYTEA
);
CREATE INDEX jobs_by_user ON jobs (user_name, submitted_unix_ms);
CREATE INDEX jobs_to_do ON jobs (submitted_unix_ms) WHERE state IN ('queued', 'running', 'finished');

ALTER TABLE queries ADD COLUMN planned_chunk_count BIGINT NOT NULL DEFAULT 0;
ALTER TABLE queries ADD COLUMN estimated_rows BIGINT NOT NULL DEFAULT 0;
ALTER TABLE queries ADD COLUMN estimated_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE queries ADD COLUMN estimated_ms BIGINT NOT NULL DEFAULT 0;
CREATE INDEX queries_by_user ON queries (user_name, started_unix_ms);
CREATE INDEX queries_running ON queries (id) WHERE state = 'running';
