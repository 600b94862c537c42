-- A job may have values bound to its parameters, be a part of its client's trace, and give types that its client reads.

ALTER TABLE jobs ADD COLUMN bound_values BYTEA;              -- an Arrow IPC stream
ALTER TABLE jobs ADD COLUMN traceparent TEXT;
ALTER TABLE jobs ADD COLUMN signed_integers BOOLEAN NOT NULL DEFAULT FALSE;
