-- Users, devices, blocks, conversations and what is projected from their logs. Times are milliseconds since the Unix
-- epoch. Text compares by bytes, as in SQLite. Never edit an applied migration: its checksum is stored.

-- Tokens issued up to tokens_revoked_ms are worth nothing. It stays when a deactivated user is brought back.
CREATE TABLE users (
    user_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    display_name TEXT COLLATE "C" NOT NULL,
    deactivated BOOLEAN NOT NULL,
    created_ms BIGINT NOT NULL,
    tokens_revoked_ms BIGINT
);

-- A row outlives the device: removed_ms must still refuse tokens issued before the removal.
CREATE TABLE devices (
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (user_id),
    device_id TEXT COLLATE "C" NOT NULL,
    present BOOLEAN NOT NULL,
    created_ms BIGINT NOT NULL,
    last_seen_ms BIGINT NOT NULL,
    removed_ms BIGINT,
    PRIMARY KEY (user_id, device_id)
);

CREATE TABLE blocks (
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (user_id),
    target_id TEXT COLLATE "C" NOT NULL REFERENCES users (user_id),
    PRIMARY KEY (user_id, target_id)
);
CREATE INDEX blocks_by_target ON blocks (target_id, user_id);

-- kind: 1 direct, 2 group. first_* is what was asked for at creation and never changes; name is projected.
CREATE TABLE conversations (
    conversation_id BYTEA NOT NULL PRIMARY KEY CHECK (octet_length(conversation_id) = 16),
    kind SMALLINT NOT NULL CHECK (kind IN (1, 2)),
    direct_low TEXT COLLATE "C",
    direct_high TEXT COLLATE "C",
    first_name TEXT COLLATE "C" NOT NULL,
    first_members TEXT COLLATE "C" NOT NULL,
    creator_user TEXT COLLATE "C" NOT NULL,
    creator_device TEXT COLLATE "C" NOT NULL,
    client_msg_id TEXT COLLATE "C" NOT NULL,
    correlation_id TEXT COLLATE "C" NOT NULL,
    created_ms BIGINT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    applied_seq BIGINT NOT NULL,
    UNIQUE (direct_low, direct_high),
    UNIQUE (creator_user, creator_device, client_msg_id),
    CHECK ((kind = 1 AND direct_low < direct_high) OR (kind = 2 AND direct_low IS NULL AND direct_high IS NULL))
);

-- Which conversation a request id stands for, for ever: also when the request found the pair's 1:1 instead of making it.
-- An absent creator or device is the empty text, so that it takes part in uniqueness.
CREATE TABLE conversation_requests (
    creator_user TEXT COLLATE "C" NOT NULL,
    creator_device TEXT COLLATE "C" NOT NULL,
    client_msg_id TEXT COLLATE "C" NOT NULL,
    conversation_id BYTEA NOT NULL REFERENCES conversations (conversation_id),
    PRIMARY KEY (creator_user, creator_device, client_msg_id)
);

-- One row per stay; role (1 member, 2 admin, 3 owner) is the standing's and the same in all rows of a user. No reference
-- to users: the log is the truth, and its projection must not refuse it.
CREATE TABLE standings (
    conversation_id BYTEA NOT NULL REFERENCES conversations (conversation_id),
    user_id TEXT COLLATE "C" NOT NULL,
    joined_seq BIGINT NOT NULL,
    left_seq BIGINT,
    role SMALLINT NOT NULL CHECK (role IN (1, 2, 3)),
    PRIMARY KEY (conversation_id, user_id, joined_seq)
);
CREATE INDEX standings_now ON standings (user_id, conversation_id) WHERE left_seq IS NULL;

CREATE TABLE pins (
    conversation_id BYTEA NOT NULL REFERENCES conversations (conversation_id),
    target_seq BIGINT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (conversation_id, target_seq)
);

CREATE TABLE settings (
    user_id TEXT COLLATE "C" NOT NULL,
    conversation_id BYTEA NOT NULL REFERENCES conversations (conversation_id),
    muted_until_ms BIGINT,
    archived BOOLEAN NOT NULL,
    unread_from_seq BIGINT,
    PRIMARY KEY (user_id, conversation_id)
);

-- What was revoked lately is asked for every few seconds.
CREATE INDEX users_revoked ON users (tokens_revoked_ms) WHERE tokens_revoked_ms IS NOT NULL;
CREATE INDEX devices_removed ON devices (removed_ms) WHERE removed_ms IS NOT NULL;
