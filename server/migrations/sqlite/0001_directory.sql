-- Users, devices, blocks, conversations and what is projected from their logs. Times are milliseconds since the Unix
-- epoch. Text compares by bytes. Never edit an applied migration: its checksum is stored.

CREATE TABLE users (
    user_id TEXT NOT NULL PRIMARY KEY,
    display_name TEXT NOT NULL,
    deactivated BOOLEAN NOT NULL,
    created_ms BIGINT NOT NULL
) WITHOUT ROWID;

-- A row outlives the device: removed_ms must still refuse tokens issued before the removal.
CREATE TABLE devices (
    user_id TEXT NOT NULL REFERENCES users (user_id),
    device_id TEXT NOT NULL,
    present BOOLEAN NOT NULL,
    created_ms BIGINT NOT NULL,
    last_seen_ms BIGINT NOT NULL,
    removed_ms BIGINT,
    PRIMARY KEY (user_id, device_id)
) WITHOUT ROWID;

CREATE TABLE blocks (
    user_id TEXT NOT NULL REFERENCES users (user_id),
    target_id TEXT NOT NULL REFERENCES users (user_id),
    PRIMARY KEY (user_id, target_id)
) WITHOUT ROWID;
CREATE INDEX blocks_by_target ON blocks (target_id, user_id);

-- kind: 1 direct, 2 group. first_* is what was asked for at creation and never changes; name is projected.
CREATE TABLE conversations (
    conversation_id BLOB NOT NULL PRIMARY KEY CHECK (length(conversation_id) = 16),
    kind SMALLINT NOT NULL CHECK (kind IN (1, 2)),
    direct_low TEXT,
    direct_high TEXT,
    first_name TEXT NOT NULL,
    first_members TEXT NOT NULL,
    creator_user TEXT NOT NULL,
    creator_device TEXT NOT NULL,
    client_msg_id TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    name TEXT NOT NULL,
    applied_seq BIGINT NOT NULL,
    UNIQUE (direct_low, direct_high),
    UNIQUE (creator_user, creator_device, client_msg_id),
    CHECK ((kind = 1 AND direct_low < direct_high) OR (kind = 2 AND direct_low IS NULL AND direct_high IS NULL))
) WITHOUT ROWID;

-- Which conversation a request id stands for, for ever: also when the request found the pair's 1:1 instead of making it.
-- An absent creator or device is the empty text, so that it takes part in uniqueness.
CREATE TABLE conversation_requests (
    creator_user TEXT NOT NULL,
    creator_device TEXT NOT NULL,
    client_msg_id TEXT NOT NULL,
    conversation_id BLOB NOT NULL REFERENCES conversations (conversation_id),
    PRIMARY KEY (creator_user, creator_device, client_msg_id)
) WITHOUT ROWID;

-- One row per stay; role (1 member, 2 admin, 3 owner) is the standing's and the same in all rows of a user. No reference
-- to users: the log is the truth, and its projection must not refuse it.
CREATE TABLE standings (
    conversation_id BLOB NOT NULL REFERENCES conversations (conversation_id),
    user_id TEXT NOT NULL,
    joined_seq BIGINT NOT NULL,
    left_seq BIGINT,
    role SMALLINT NOT NULL CHECK (role IN (1, 2, 3)),
    PRIMARY KEY (conversation_id, user_id, joined_seq)
) WITHOUT ROWID;
CREATE INDEX standings_now ON standings (user_id, conversation_id) WHERE left_seq IS NULL;

CREATE TABLE pins (
    conversation_id BLOB NOT NULL REFERENCES conversations (conversation_id),
    target_seq BIGINT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (conversation_id, target_seq)
) WITHOUT ROWID;

CREATE TABLE settings (
    user_id TEXT NOT NULL,
    conversation_id BLOB NOT NULL REFERENCES conversations (conversation_id),
    muted_until_ms BIGINT,
    archived BOOLEAN NOT NULL,
    unread_from_seq BIGINT,
    PRIMARY KEY (user_id, conversation_id)
) WITHOUT ROWID;
