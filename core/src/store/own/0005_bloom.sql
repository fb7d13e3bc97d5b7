-- Bloom filters: which families of keys have one, which generation of it counts, and whether it may be believed.
-- Runs once, in a transaction, as the migration "zmsg:0005_bloom.sql". At run time DML rights suffice.

-- One row per family. The bits are in Redis; what they may be used for is decided here, where the rows are committed.
CREATE TABLE zmsg_bloom (
    namespace     text   NOT NULL,
    pattern       text   NOT NULL,
    -- The highest number that was given to a generation.
    generation    bigint NOT NULL DEFAULT 0,
    -- Markers (core/src/cache/bloom/shape.rs) of the generation that answers, of the one that is being built, and of the one
    -- whose strings are still to be removed from Redis.
    serving       bytea,
    building      bytea,
    retired       bytea,
    -- Writers that could not reach the bits have opened the family so often; up to this number that is dealt with; and so
    -- often it had been opened when the build began. While opened > closed nobody says "no".
    opened        bigint NOT NULL DEFAULT 0,
    closed        bigint NOT NULL DEFAULT 0,
    opened_before bigint NOT NULL DEFAULT 0,
    -- Who builds, and until when nobody else does.
    builder       text,
    lease_until   timestamptz,
    PRIMARY KEY (namespace, pattern)
);
