-- Tokens of the user that were issued up to then are worth nothing. Stays when the user is brought back.
ALTER TABLE users ADD COLUMN tokens_revoked_ms BIGINT;

-- What was revoked lately is asked for every few seconds.
CREATE INDEX users_revoked ON users (tokens_revoked_ms) WHERE tokens_revoked_ms IS NOT NULL;
CREATE INDEX devices_removed ON devices (removed_ms) WHERE removed_ms IS NOT NULL;
