-- One row for each deployment. Its id sorts by time.
CREATE TABLE deployments (
    id TEXT PRIMARY KEY,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    -- How many events it has.
    seq INTEGER NOT NULL,
    -- How it ended, as JSON.
    ended TEXT,
    -- Since when somebody should look at it; null for never.
    due_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX deployments_by_scope ON deployments (app, environment, id);
CREATE INDEX deployments_due ON deployments (due_ms, id) WHERE due_ms IS NOT NULL;

-- What happened in each, as JSON. Rows are only ever added.
CREATE TABLE deployment_events (
    deployment TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (deployment, seq)
) STRICT, WITHOUT ROWID;

-- Who may change a scope, and the highest fence that was ever given out for it: the row stays when nobody may.
CREATE TABLE deployment_leases (
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    fence INTEGER NOT NULL,
    deployment TEXT,
    holder TEXT,
    expires_ms INTEGER,
    PRIMARY KEY (app, environment)
) STRICT, WITHOUT ROWID;
