-- Dead letters: nothing but their own number is unique.
-- Runs once, in a transaction, as the migration "zmsg:0004_letters.sql". At run time DML rights suffice.

-- A caller may name a delayed write as another letter is named: one of an aggregated write, or one of a delayed write that is
-- older than zmsg_done remembers. Both are kept. That an operation has no two letters is seen to by the row that is written
-- with each: the watermark of its journal, or its row in zmsg_done.
ALTER TABLE zmsg_dead DROP CONSTRAINT zmsg_dead_op_id_key;
CREATE INDEX zmsg_dead_op_id ON zmsg_dead (op_id);
