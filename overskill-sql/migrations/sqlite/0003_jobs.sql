-- Jobs. A row stays when its job is removed, for as long as there are runs of it to tell about.
CREATE TABLE run_jobs (
    id INTEGER PRIMARY KEY,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    name TEXT NOT NULL,
    -- As JSON.
    schedule TEXT NOT NULL,
    payload BLOB NOT NULL,
    max_attempts INTEGER NOT NULL,
    backoff_first_ms INTEGER NOT NULL,
    backoff_max_ms INTEGER NOT NULL,
    -- As JSON.
    overlap TEXT NOT NULL,
    paused INTEGER NOT NULL,
    removed INTEGER NOT NULL,
    -- When the schedule calls for the next run; null for never.
    next_run_ms INTEGER,
    UNIQUE (app, environment, name)
) STRICT;

CREATE INDEX run_jobs_due ON run_jobs (next_run_ms) WHERE next_run_ms IS NOT NULL;

-- Runs that are not over. One that waits for a worker, or has one, has a turn; one that waits for its next try has a
-- moment at which it gets one.
CREATE TABLE runs (
    run TEXT PRIMARY KEY,
    job INTEGER NOT NULL REFERENCES run_jobs (id),
    app TEXT NOT NULL,
    -- The moment of the schedule that it was made for; null for one that was triggered.
    tick_ms INTEGER,
    due_ms INTEGER NOT NULL,
    turn INTEGER,
    wake_ms INTEGER,
    -- How often it was claimed: its fence, and the number of the try.
    attempt INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    -- When its worker loses it; null while it has none.
    lease_ms INTEGER,
    worker TEXT,
    failure TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_by_turn ON runs (turn, run) WHERE turn IS NOT NULL;
CREATE INDEX runs_by_app ON runs (app, turn);
CREATE UNIQUE INDEX runs_by_job ON runs (job, tick_ms);
CREATE INDEX runs_asleep ON runs (wake_ms) WHERE wake_ms IS NOT NULL;

-- Runs that are over.
CREATE TABLE run_history (
    job INTEGER NOT NULL,
    run TEXT NOT NULL,
    due_ms INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    failure TEXT,
    ended_ms INTEGER NOT NULL,
    PRIMARY KEY (job, run)
) STRICT, WITHOUT ROWID;

CREATE INDEX run_history_by_end ON run_history (ended_ms);

-- The turn that was last claimed: apps that had nothing waiting queue up behind it.
CREATE TABLE run_clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    turn INTEGER NOT NULL
) STRICT;

INSERT INTO run_clock (id, turn) VALUES (1, 0);
