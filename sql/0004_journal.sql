-- Up to which change of dc's journal this database has everything: written in the transaction that brings it there, so a replay begins after it.
INSERT INTO counters (name, value) SELECT 'applied_lsn', COALESCE(MAX(sequence), 0) FROM applied_units;
