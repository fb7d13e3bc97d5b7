-- The engine's own tables: identity of the database, order of commits, grants of node ids.
-- Runs once, in a transaction, as the migration "zmsg:0001_base.sql". At run time DML rights suffice.

-- Numbers drawn by transactions while they hold their locks: of two transactions that wrote the same row, the later
-- one has the higher number. CACHE 1, or sessions would draw from blocks of their own and the order would be lost.
CREATE SEQUENCE zmsg_ver AS bigint MINVALUE 1 CACHE 1 NO CYCLE;

-- One row that names this database, so that a journal or a cache of another one is recognised.
CREATE TABLE zmsg_identity (
    only_row    boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    database_id uuid        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
-- gen_random_uuid() needs PostgreSQL 13; this needs nothing, and nobody has to guess it.
INSERT INTO zmsg_identity (database_id)
VALUES (md5(random()::text || clock_timestamp()::text || txid_current()::text)::uuid);

-- One row per node id. A grant is an interval of milliseconds [floor, ceiling_ms); the floor of a new owner is never
-- below the ceiling of an earlier one, so that no two owners share a moment.
CREATE TABLE zmsg_nodes (
    node_id    integer PRIMARY KEY CHECK (node_id BETWEEN 0 AND 1023),
    owner      text,
    epoch      bigint  NOT NULL DEFAULT 0,
    ceiling_ms bigint  NOT NULL DEFAULT 0
);
INSERT INTO zmsg_nodes (node_id) SELECT generate_series(0, 1023);
