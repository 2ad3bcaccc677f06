//! The tables of the embedded store, version by version.
//!
//! An approval outlives its session, to be looked at: it names it and does not hang on it. What is long of one (the request
//! as it is shown, the answer until it is delivered) lies in tables of its own, so that a step rewrites a short row.

/// `TGAT`: tells the file from other programs' databases.
pub(super) const APPLICATION_ID: i64 = 0x5447_4154;

/// Each brings the file one version further; never edited once released.
pub(super) const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE sessions (
    id TEXT NOT NULL UNIQUE,
    token BLOB NOT NULL UNIQUE CHECK (length(token) = 32),
    project TEXT NOT NULL,
    agent TEXT NOT NULL,
    attributes TEXT NOT NULL,
    narrowing TEXT,
    parent TEXT REFERENCES sessions (id) ON DELETE CASCADE,
    run TEXT,
    intent TEXT,
    minted_by TEXT NOT NULL,
    minted_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    quarantined_at INTEGER,
    quarantine_reason TEXT
) STRICT;
CREATE INDEX sessions_by_parent ON sessions (parent) WHERE parent IS NOT NULL;
CREATE TABLE grants (
    id TEXT NOT NULL UNIQUE,
    session TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    scope TEXT NOT NULL,
    resource TEXT,
    uses INTEGER NOT NULL,
    uses_left INTEGER NOT NULL CHECK (uses_left >= 0),
    expires_at INTEGER NOT NULL,
    why TEXT NOT NULL
) STRICT;
CREATE INDEX grants_by_session ON grants (session);
CREATE TABLE given (
    session TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    scope TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (session, scope)
) STRICT, WITHOUT ROWID;
CREATE TABLE costs (
    project TEXT NOT NULL,
    limit_id TEXT NOT NULL,
    holder TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    micros INTEGER NOT NULL,
    PRIMARY KEY (project, limit_id, holder, bucket)
) STRICT, WITHOUT ROWID;
CREATE INDEX costs_by_holder ON costs (holder);
CREATE TRIGGER costs_end_with_their_session AFTER DELETE ON sessions BEGIN
    DELETE FROM costs WHERE holder = OLD.id;
END;
",
    "
ALTER TABLE sessions ADD COLUMN certificate TEXT;
",
    "
CREATE TABLE approvals (
    id TEXT NOT NULL UNIQUE,
    session TEXT NOT NULL,
    project TEXT NOT NULL,
    policy TEXT NOT NULL,
    chain TEXT NOT NULL,
    quorum INTEGER NOT NULL,
    agent TEXT NOT NULL,
    run TEXT,
    minted_by TEXT NOT NULL,
    intent TEXT,
    client TEXT NOT NULL,
    request TEXT NOT NULL,
    scope TEXT NOT NULL,
    resource TEXT,
    digest TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    denied_for INTEGER NOT NULL,
    goes_on TEXT,
    uses INTEGER,
    ttl INTEGER,
    why TEXT,
    stage TEXT NOT NULL,
    since INTEGER NOT NULL,
    decided_at INTEGER,
    decided_by TEXT,
    note TEXT,
    status INTEGER,
    given TEXT,
    delivered INTEGER NOT NULL DEFAULT 0,
    CHECK ((goes_on IS NULL) = (why IS NOT NULL))
) STRICT;
CREATE TABLE requests (
    approval TEXT NOT NULL UNIQUE REFERENCES approvals (id) ON DELETE CASCADE,
    tool TEXT NOT NULL,
    route TEXT NOT NULL,
    upstream BLOB NOT NULL CHECK (length(upstream) = 32),
    method TEXT NOT NULL,
    authority TEXT NOT NULL,
    target TEXT NOT NULL,
    fields BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE TABLE votes (
    approval TEXT NOT NULL REFERENCES approvals (id) ON DELETE CASCADE,
    principal TEXT NOT NULL,
    word TEXT NOT NULL,
    note TEXT,
    at INTEGER NOT NULL,
    UNIQUE (approval, principal)
) STRICT;
CREATE TABLE answers (
    approval TEXT NOT NULL UNIQUE REFERENCES approvals (id) ON DELETE CASCADE,
    fields BLOB NOT NULL,
    body BLOB
) STRICT;
CREATE TABLE notices (
    id TEXT NOT NULL UNIQUE,
    at INTEGER NOT NULL,
    project TEXT NOT NULL,
    chain TEXT,
    kind TEXT NOT NULL,
    data TEXT NOT NULL
) STRICT;
CREATE TABLE deliveries (
    message TEXT NOT NULL,
    project TEXT NOT NULL,
    target TEXT NOT NULL,
    payload TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due INTEGER NOT NULL,
    dead_since INTEGER,
    why TEXT,
    PRIMARY KEY (message, project, target)
) STRICT, WITHOUT ROWID;
",
    "
CREATE TABLE pins (
    project TEXT NOT NULL,
    tool TEXT NOT NULL,
    name TEXT NOT NULL,
    accepted BLOB NOT NULL CHECK (length(accepted) = 32),
    definition TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    accepted_by TEXT,
    latest BLOB CHECK (length(latest) = 32),
    latest_definition TEXT,
    latest_at INTEGER,
    turns INTEGER NOT NULL,
    UNIQUE (project, tool, name),
    CHECK ((latest IS NULL) = (latest_at IS NULL))
) STRICT;
",
];
