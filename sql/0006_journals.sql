-- Which journal belongs to this database, and which facts it does not take.

-- The row with the highest number is the journal that dc has to have beside this database; `zone dc adopt` adds one.
CREATE TABLE journals (
    number BIGINT NOT NULL PRIMARY KEY,
    journal BINARY(16) NOT NULL,
    since_ms BIGINT NOT NULL
);

-- Relations, sanctions and lines of the audit log that their tables refused: as dc's journal has them, and why.
CREATE TABLE facts_set_aside (
    sequence BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    reason VARCHAR(500) NOT NULL,
    body LONGBLOB NOT NULL
);
