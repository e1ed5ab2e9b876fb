-- Friends and blocks. `relation` is paifang.link.Relation: 1 friend, 2 block.

CREATE TABLE relations (
    player BIGINT NOT NULL,
    other BIGINT NOT NULL,
    relation BIGINT NOT NULL,
    since_ms BIGINT NOT NULL,
    PRIMARY KEY (player, other)
);
CREATE INDEX relations_other ON relations (other);
