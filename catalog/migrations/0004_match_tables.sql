-- A match table belongs to two directors. Tables that are there belong to one or none.

ALTER TABLE table_definitions ADD COLUMN second_director TEXT;
ALTER TABLE table_definitions ADD COLUMN second_director_key TEXT;

ALTER TABLE table_facts ADD COLUMN second_orphans BIGINT NOT NULL DEFAULT 0;
ALTER TABLE table_facts ADD COLUMN second_ids_span_chunks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE table_facts ADD COLUMN out_of_reach BIGINT NOT NULL DEFAULT 0;  -- pairs of two chunks that the overlap may miss
