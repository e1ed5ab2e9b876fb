-- Sanctions, the accounts of game masters, and what they did.

-- `kind` is paifang.link.SanctionKind: 1 ban, 2 mute. Against an account (not 0) or an address (not empty). `until_ms` 0: without end;
-- `lifted_ms` 0: not lifted.
CREATE TABLE sanctions (
    sanction BIGINT NOT NULL PRIMARY KEY,
    kind BIGINT NOT NULL,
    account BIGINT NOT NULL,
    address VARCHAR(64) NOT NULL,
    reason VARCHAR(500) NOT NULL,
    made_by VARCHAR(64) NOT NULL,
    from_ms BIGINT NOT NULL,
    until_ms BIGINT NOT NULL,
    lifted_by VARCHAR(64) NOT NULL,
    lifted_ms BIGINT NOT NULL
);
CREATE INDEX sanctions_account ON sanctions (account);
CREATE INDEX sanctions_address ON sanctions (address);
INSERT INTO counters (name, value) VALUES ('sanction', 0), ('audit', 0);

CREATE TABLE gm_accounts (
    name VARCHAR(64) NOT NULL PRIMARY KEY,
    password_hash VARCHAR(255) NOT NULL,
    role VARCHAR(32) NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE TABLE audit (
    audit BIGINT NOT NULL PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    made_by VARCHAR(64) NOT NULL,
    role VARCHAR(32) NOT NULL,
    address VARCHAR(64) NOT NULL,
    command VARCHAR(64) NOT NULL,
    arguments TEXT NOT NULL,
    reason VARCHAR(500) NOT NULL,
    outcome TEXT NOT NULL
);
CREATE INDEX audit_made_by ON audit (made_by);
CREATE INDEX audit_command ON audit (command);
