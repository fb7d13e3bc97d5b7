-- The feed itself: one row per item, read through the caches by its id.
CREATE TABLE feeds (
    id         text PRIMARY KEY,
    author_id  text,
    content    text NOT NULL,
    status     text NOT NULL DEFAULT 'published',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX feeds_author_created_idx ON feeds (author_id, created_at DESC);
