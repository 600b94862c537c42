-- Files that a snapshot took away are looked for to be removed from workers. And a partial index that no statement
-- could use, because states come as parameters, gives way to one that those who look for jobs by state do use.

CREATE INDEX files_ended ON files (until_snapshot) WHERE until_snapshot IS NOT NULL;

DROP INDEX jobs_to_do;
CREATE INDEX jobs_by_state ON jobs (state, expires_unix_ms);
