-- One row for each deployment. Its id sorts by time, byte by byte.
CREATE TABLE deployments (
    id TEXT COLLATE "C" PRIMARY KEY,
    app TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    -- How many events it has.
    seq BIGINT NOT NULL,
    -- How it ended, as JSON.
    ended TEXT,
    -- Since when somebody should look at it; null for never.
    due_ms BIGINT
) WITH (fillfactor = 80);

CREATE INDEX deployments_by_scope ON deployments (app, environment, id);
CREATE INDEX deployments_due ON deployments (due_ms, id) WHERE due_ms IS NOT NULL;

-- What happened in each, as JSON. Rows are only ever added.
CREATE TABLE deployment_events (
    deployment TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (deployment, seq)
);

-- Who may change a scope, and the highest fence that was ever given out for it: the row stays when nobody may.
CREATE TABLE deployment_leases (
    app TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    fence BIGINT NOT NULL,
    deployment TEXT COLLATE "C",
    holder TEXT,
    expires_ms BIGINT,
    PRIMARY KEY (app, environment)
) WITH (fillfactor = 50);
