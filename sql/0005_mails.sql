-- Mail: coins and items that are out of the sender's record and not yet in the taker's.

-- `body` is the whole mail (format 1: paifang.record.Mail as protobuf). `taken_ms` 0: it waits for its player, and its items are in `items`
-- with player 0, which no player is. A mail that was taken is kept for support.
CREATE TABLE mails (
    mail BINARY(16) NOT NULL PRIMARY KEY,
    player BIGINT NOT NULL,
    sender BIGINT NOT NULL,
    coins BIGINT NOT NULL,
    sent_ms BIGINT NOT NULL,
    taken_ms BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body LONGBLOB NOT NULL
);
CREATE INDEX mails_player ON mails (player, taken_ms, sent_ms);
CREATE INDEX mails_sender ON mails (sender);
