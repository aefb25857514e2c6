-- Facts about the database as a whole, such as its incarnation (in hex, as in positions).
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What is live in each scope. A scope that was cleared keeps its fence, with nulls for the rest.
CREATE TABLE routes (
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    target TEXT,
    deployment TEXT,
    reference TEXT,
    url TEXT,
    fence INTEGER NOT NULL,
    PRIMARY KEY (app, environment)
) STRICT, WITHOUT ROWID;

CREATE TABLE apps (
    app TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    owner TEXT,
    state TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    -- As JSON; null for the platform's.
    strategy TEXT
) STRICT, WITHOUT ROWID;

-- Sources. How far each scope's stream of changes has come.
CREATE TABLE file_scopes (
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (app, environment)
) STRICT, WITHOUT ROWID;

-- Each contents once, however many apps began as the same template.
CREATE TABLE file_contents (
    digest TEXT PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE files (
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    path TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES file_contents,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (app, environment, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX files_digest ON files (digest);

-- The newest changes of each scope; no digest where a file was deleted.
CREATE TABLE file_changes (
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    seq INTEGER NOT NULL,
    path TEXT NOT NULL,
    digest TEXT REFERENCES file_contents,
    PRIMARY KEY (app, environment, seq, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX file_changes_digest ON file_changes (digest) WHERE digest IS NOT NULL;

-- Contents go with the last row that names them, whoever deletes it.
CREATE TRIGGER files_updated AFTER UPDATE OF digest ON files WHEN OLD.digest <> NEW.digest BEGIN
    DELETE FROM file_contents WHERE digest = OLD.digest
        AND NOT EXISTS (SELECT 1 FROM file_changes WHERE digest = OLD.digest)
        AND NOT EXISTS (SELECT 1 FROM files WHERE digest = OLD.digest);
END;
CREATE TRIGGER files_deleted AFTER DELETE ON files BEGIN
    DELETE FROM file_contents WHERE digest = OLD.digest
        AND NOT EXISTS (SELECT 1 FROM file_changes WHERE digest = OLD.digest)
        AND NOT EXISTS (SELECT 1 FROM files WHERE digest = OLD.digest);
END;
CREATE TRIGGER file_changes_deleted AFTER DELETE ON file_changes WHEN OLD.digest IS NOT NULL BEGIN
    DELETE FROM file_contents WHERE digest = OLD.digest
        AND NOT EXISTS (SELECT 1 FROM files WHERE digest = OLD.digest)
        AND NOT EXISTS (SELECT 1 FROM file_changes WHERE digest = OLD.digest);
END;

-- Artifacts. `since_ms`: when one was last put or released.
CREATE TABLE artifacts (
    digest TEXT PRIMARY KEY,
    manifest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    since_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX artifacts_since ON artifacts (since_ms, digest);

CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE artifact_blobs (
    artifact TEXT NOT NULL REFERENCES artifacts,
    blob TEXT NOT NULL REFERENCES blobs,
    PRIMARY KEY (artifact, blob)
) STRICT, WITHOUT ROWID;
CREATE INDEX artifact_blobs_blob ON artifact_blobs (blob);

-- Which deployment needs which artifact, and where.
CREATE TABLE artifact_holds (
    deployment TEXT NOT NULL,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    artifact TEXT NOT NULL REFERENCES artifacts,
    PRIMARY KEY (deployment, app, environment, artifact)
) STRICT, WITHOUT ROWID;
CREATE INDEX artifact_holds_artifact ON artifact_holds (artifact, app, environment);

-- Environment variables. How many revisions each scope has.
CREATE TABLE env_scopes (
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (app, environment)
) STRICT, WITHOUT ROWID;

-- What each revision set: a plain value, a sealed one with the id of its key, or neither where the variable was removed.
-- `life`: the incarnation that the revision is of, in hex.
CREATE TABLE env_values (
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    key TEXT NOT NULL,
    seq INTEGER NOT NULL,
    life TEXT NOT NULL,
    plain TEXT,
    sealed BLOB,
    key_id TEXT,
    PRIMARY KEY (app, environment, key, seq),
    CHECK (plain IS NULL OR sealed IS NULL),
    CHECK ((sealed IS NULL) = (key_id IS NULL))
) STRICT, WITHOUT ROWID;

-- What nobody can take back: each record names the digest of the one before.
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    position TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    actor_kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    app TEXT,
    environment TEXT,
    detail TEXT NOT NULL,
    previous TEXT NOT NULL,
    digest TEXT NOT NULL
) STRICT;
CREATE INDEX audit_scope ON audit (app, environment, seq) WHERE app IS NOT NULL;

-- The last record, so that a log whose end was cut off is noticed.
CREATE TABLE audit_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL,
    digest TEXT NOT NULL
) STRICT;
-- Before the first record: the digest of nothing. The row is there from the start, for it is what writers wait for.
INSERT INTO audit_head (id, seq, digest)
    VALUES (1, 0, 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
