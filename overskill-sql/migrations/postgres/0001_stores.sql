-- Names that are listed in order are collated by their bytes, as everywhere else.

-- Facts about the schema as a whole, such as its incarnation (in hex, as in positions).
CREATE TABLE meta (
    name TEXT COLLATE "C" PRIMARY KEY,
    value TEXT NOT NULL
);

-- What is live in each scope. A scope that was cleared keeps its fence, with nulls for the rest.
CREATE TABLE routes (
    app TEXT COLLATE "C" NOT NULL,
    environment TEXT NOT NULL,
    target TEXT,
    deployment TEXT,
    reference TEXT,
    url TEXT,
    fence BIGINT NOT NULL,
    PRIMARY KEY (app, environment)
);

CREATE TABLE apps (
    app TEXT COLLATE "C" PRIMARY KEY,
    name TEXT NOT NULL,
    owner TEXT,
    state TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    -- As JSON; null for the platform's.
    strategy TEXT
);

-- Sources. How far each scope's stream of changes has come.
CREATE TABLE file_scopes (
    app TEXT COLLATE "C" NOT NULL,
    environment TEXT NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (app, environment)
);

-- Each contents once, however many apps began as the same template.
CREATE TABLE file_contents (
    digest TEXT PRIMARY KEY,
    bytes BYTEA NOT NULL
);

CREATE TABLE files (
    app TEXT COLLATE "C" NOT NULL,
    environment TEXT NOT NULL,
    path TEXT COLLATE "C" NOT NULL,
    digest TEXT NOT NULL REFERENCES file_contents,
    size_bytes BIGINT NOT NULL,
    PRIMARY KEY (app, environment, path)
);
CREATE INDEX files_digest ON files (digest);

-- The newest changes of each scope; no digest where a file was deleted.
CREATE TABLE file_changes (
    app TEXT COLLATE "C" NOT NULL,
    environment TEXT NOT NULL,
    seq BIGINT NOT NULL,
    path TEXT COLLATE "C" NOT NULL,
    digest TEXT REFERENCES file_contents,
    PRIMARY KEY (app, environment, seq, path)
);
CREATE INDEX file_changes_digest ON file_changes (digest) WHERE digest IS NOT NULL;

-- Contents go with the last row that names them, whoever deletes it.
--
-- Of two that let the same contents go at the same time, each would see the other's row, and both would leave them: so the
-- second waits for the first, and then looks. Nobody waits for contents with more rows than can go at once, as those of
-- a template have.
CREATE FUNCTION drop_unused_file_contents() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM gone WHERE digest IS NOT NULL) THEN
        RETURN NULL;
    END IF;
    PERFORM 1 FROM file_contents c WHERE c.digest IN (SELECT digest FROM gone)
        AND (SELECT count(*) FROM (SELECT 1 FROM files f WHERE f.digest = c.digest LIMIT 32) AS few) < 32
        AND (SELECT count(*) FROM (SELECT 1 FROM file_changes h WHERE h.digest = c.digest LIMIT 32) AS few) < 32
        ORDER BY c.digest FOR NO KEY UPDATE;
    DELETE FROM file_contents c USING (SELECT DISTINCT digest FROM gone) g WHERE c.digest = g.digest
        AND NOT EXISTS (SELECT 1 FROM files f WHERE f.digest = c.digest)
        AND NOT EXISTS (SELECT 1 FROM file_changes h WHERE h.digest = c.digest);
    RETURN NULL;
END $$;
CREATE TRIGGER files_updated AFTER UPDATE ON files
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION drop_unused_file_contents();
CREATE TRIGGER files_deleted AFTER DELETE ON files
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION drop_unused_file_contents();
CREATE TRIGGER file_changes_deleted AFTER DELETE ON file_changes
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION drop_unused_file_contents();

-- Artifacts. `since_ms`: when one was last put or released.
CREATE TABLE artifacts (
    digest TEXT PRIMARY KEY,
    manifest TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    since_ms BIGINT NOT NULL
);
CREATE INDEX artifacts_since ON artifacts (since_ms, digest);

CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,
    bytes BYTEA NOT NULL
);

CREATE TABLE artifact_blobs (
    artifact TEXT NOT NULL REFERENCES artifacts,
    blob TEXT NOT NULL REFERENCES blobs,
    PRIMARY KEY (artifact, blob)
);
CREATE INDEX artifact_blobs_blob ON artifact_blobs (blob);

-- Which deployment needs which artifact, and where.
CREATE TABLE artifact_holds (
    deployment TEXT NOT NULL,
    app TEXT COLLATE "C" NOT NULL,
    environment TEXT NOT NULL,
    artifact TEXT NOT NULL REFERENCES artifacts,
    PRIMARY KEY (deployment, app, environment, artifact)
);
CREATE INDEX artifact_holds_artifact ON artifact_holds (artifact, app, environment);

-- Environment variables. How many revisions each scope has.
CREATE TABLE env_scopes (
    app TEXT COLLATE "C" NOT NULL,
    environment TEXT NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (app, environment)
);

-- What each revision set: a plain value, a sealed one with the id of its key, or neither where the variable was removed.
-- `life`: the incarnation that the revision is of, in hex.
CREATE TABLE env_values (
    app TEXT COLLATE "C" NOT NULL,
    environment TEXT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    life TEXT NOT NULL,
    plain TEXT,
    sealed BYTEA,
    key_id TEXT,
    PRIMARY KEY (app, environment, key, seq),
    CHECK (plain IS NULL OR sealed IS NULL),
    CHECK ((sealed IS NULL) = (key_id IS NULL))
);

-- What nobody can take back: each record names the digest of the one before.
CREATE TABLE audit (
    seq BIGINT PRIMARY KEY,
    position TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    app TEXT,
    environment TEXT,
    detail TEXT NOT NULL,
    previous TEXT NOT NULL,
    digest TEXT NOT NULL
);
CREATE INDEX audit_scope ON audit (app, environment, seq) WHERE app IS NOT NULL;

-- The last record, so that a log whose end was cut off is noticed.
CREATE TABLE audit_head (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL,
    digest TEXT NOT NULL
);
-- Before the first record: the digest of nothing. The row is there from the start, for it is what writers wait for.
INSERT INTO audit_head (id, seq, digest)
    VALUES (1, 0, 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
