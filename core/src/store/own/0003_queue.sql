-- Delayed writes: which ones have had their effect.
-- Runs once, in a transaction, as the migration "zmsg:0003_queue.sql". At run time DML rights suffice.

-- One row per operation of the queue, written by the transaction that has its effect: whoever is given the operation
-- again finds it and leaves it alone. Kept for done_retention; an operation that is older than that is not run.
CREATE TABLE zmsg_done (
    op_id   text PRIMARY KEY,
    -- It had none and never will, unless its dead letter is run again.
    dead    bool NOT NULL DEFAULT false,
    done_on date NOT NULL DEFAULT current_date
);
-- Rows come in the order of their days, so that a few pages of this find the old ones.
CREATE INDEX zmsg_done_on ON zmsg_done USING brin (done_on);
