-- Aggregated writes: how far each journal was applied, and what the database refused.
-- Runs once, in a transaction, as the migration "zmsg:0002_batch.sql". At run time DML rights suffice.

-- One row per journal: what lies at or below its watermark is applied, what lies above is not. The transaction that
-- applies a batch moves the watermark first, and only if it is where the batch begins; so a batch that is sent twice
-- is applied once.
CREATE TABLE zmsg_journals (
    stream     uuid        PRIMARY KEY,
    watermark  bigint      NOT NULL CHECK (watermark >= 0),
    owner      text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    moved_at   timestamptz NOT NULL DEFAULT now()
);

-- Operations that the database refused for good. The row is written by the transaction that moved past the operation,
-- so each accepted operation is applied or here.
CREATE TABLE zmsg_dead (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    path      text        NOT NULL CHECK (path IN ('batch', 'queue')),
    op_id     text        NOT NULL UNIQUE,
    key       text,
    tasks     bytea       NOT NULL,
    statement text        NOT NULL,
    sqlstate  text,
    message   text        NOT NULL,
    dead_at   timestamptz NOT NULL DEFAULT now()
);
