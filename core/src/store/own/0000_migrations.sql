-- Which migrations this database has had. Made under the migration lock, before anything else; only if it is missing,
-- because a role that may only read and write rows is refused even an IF NOT EXISTS that has nothing to do.
CREATE TABLE IF NOT EXISTS zmsg_migrations (
    name        text        PRIMARY KEY,
    checksum    text        NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now(),
    duration_ms bigint      NOT NULL
);
