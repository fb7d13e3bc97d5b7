-- What changes far more often than the feed: counters, tags and extras, in a row of its own so that a like does not
-- rewrite the content. No foreign key: counting must not lock the feed's row.
CREATE TABLE feed_meta (
    id          text PRIMARY KEY,
    view_count  bigint NOT NULL DEFAULT 0,
    like_count  bigint NOT NULL DEFAULT 0,
    score       numeric(20, 4) NOT NULL DEFAULT 0,
    tags        jsonb NOT NULL DEFAULT '[]',
    extra       jsonb NOT NULL DEFAULT '{}'
) WITH (fillfactor = 70);

CREATE TABLE feed_reply_meta (
    id          text PRIMARY KEY,
    like_count  bigint NOT NULL DEFAULT 0,
    reply_count bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
