-- The outbox: keys that committed transactions have changed while Redis could not be told.
-- Runs once, in a transaction, as the migration "zmsg:0006_outbox.sql". At run time DML rights suffice.

-- The row is written by the transaction that changed the keys. Any process of the namespace that reaches Redis drops them
-- there, and then the row.
CREATE TABLE zmsg_outbox (
    id        bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace text    NOT NULL,
    keys      bytea[] NOT NULL,
    -- Changed by writes that commit later than they are accepted: the value of the last accepted one may stay.
    accepted  bool    NOT NULL
);
