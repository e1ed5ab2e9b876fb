-- Accounts, players, their items, and what makes a save safe to repeat.
--
-- The files of this folder run in the order of their numbers, each once, on SQLite and on MySQL: portable types only, texts compared by
-- their bytes (MySQL: a database with the collation utf8mb4_bin), times in Unix milliseconds, numbers for `id`s from `counters`.
-- A file that a database has run is never edited: dc compares hashes.

CREATE TABLE counters (
    name VARCHAR(32) NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('account', 0), ('player', 0);

CREATE TABLE accounts (
    account BIGINT NOT NULL PRIMARY KEY,
    name VARCHAR(64) NOT NULL UNIQUE,
    password_hash VARCHAR(255) NOT NULL,
    created_ms BIGINT NOT NULL
);

-- `body` is the whole record, in the encoding that `format` names (1: paifang.record.PlayerRecord as protobuf); level, map and coins are
-- copies for queries. `revision` rises with every change of the row, changes of owner included: a write with one that is not higher is none.
CREATE TABLE players (
    player BIGINT NOT NULL PRIMARY KEY,
    account BIGINT NOT NULL,
    name VARCHAR(64) NOT NULL,
    name_key VARCHAR(64) NOT NULL UNIQUE,
    level BIGINT NOT NULL,
    map VARCHAR(64) NOT NULL,
    coins BIGINT NOT NULL,
    owner VARCHAR(128) NOT NULL,
    epoch BIGINT NOT NULL,
    version BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body LONGBLOB NOT NULL,
    saved_ms BIGINT NOT NULL
);
CREATE INDEX players_account ON players (account);
CREATE INDEX players_level ON players (level);
CREATE INDEX players_map ON players (map);
CREATE INDEX players_coins ON players (coins);

-- An item is at one player, or nowhere.
CREATE TABLE items (
    item BINARY(16) NOT NULL PRIMARY KEY,
    player BIGINT NOT NULL,
    kind VARCHAR(128) NOT NULL,
    amount BIGINT NOT NULL
);
CREATE INDEX items_player ON items (player);

-- The units that were applied last, so that doing one twice is doing it once.
CREATE TABLE applied_units (
    unit BINARY(16) NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL
);
CREATE INDEX applied_units_sequence ON applied_units (sequence);

-- Roles that their account deleted, for support to restore.
CREATE TABLE deleted_players (
    player BIGINT NOT NULL PRIMARY KEY,
    account BIGINT NOT NULL,
    name VARCHAR(64) NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body LONGBLOB NOT NULL,
    deleted_ms BIGINT NOT NULL
);
CREATE INDEX deleted_players_account ON deleted_players (account);

-- Records that `players` refused: the newest that dc had of them, and why.
CREATE TABLE set_aside (
    player BIGINT NOT NULL,
    version BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    reason VARCHAR(500) NOT NULL,
    format BIGINT NOT NULL,
    body LONGBLOB NOT NULL
);
CREATE INDEX set_aside_player ON set_aside (player);
