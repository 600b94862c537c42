-- Who may log in. The name is unique whatever its case, because a user's own database is found in any case.

CREATE TABLE users (
    name_key TEXT PRIMARY KEY,               -- the name in lower case
    name TEXT NOT NULL,
    password_hash TEXT NOT NULL,             -- in the PHC string format
    created_unix_ms BIGINT NOT NULL,
    password_unix_ms BIGINT NOT NULL         -- when the password was set; tokens of an earlier one are void
);
