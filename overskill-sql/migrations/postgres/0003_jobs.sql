-- Jobs. A row stays when its job is removed, for as long as there are runs of it to tell about.
CREATE TABLE run_jobs (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    -- As JSON.
    schedule TEXT NOT NULL,
    payload BYTEA NOT NULL,
    max_attempts BIGINT NOT NULL,
    backoff_first_ms BIGINT NOT NULL,
    backoff_max_ms BIGINT NOT NULL,
    -- As JSON.
    overlap TEXT NOT NULL,
    paused BOOLEAN NOT NULL,
    removed BOOLEAN NOT NULL,
    -- When the schedule calls for the next run; null for never.
    next_run_ms BIGINT,
    UNIQUE (app, environment, name)
);

CREATE INDEX run_jobs_due ON run_jobs (next_run_ms) WHERE next_run_ms IS NOT NULL;

-- Runs that are not over. One that waits for a worker, or has one, has a turn; one that waits for its next try has a
-- moment at which it gets one.
--
-- A claim changes no column of an index, so that it is a heap-only update within the page: hence the free space in
-- pages, and hence an index by turn that holds claimed runs too.
CREATE TABLE runs (
    run UUID PRIMARY KEY,
    job BIGINT NOT NULL,
    -- Copies of the job's, so that a claim need not look the job up: that was a quarter of it.
    app TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    payload BYTEA NOT NULL,
    -- The moment of the schedule that it was made for; null for one that was triggered.
    tick_ms BIGINT,
    due_ms BIGINT NOT NULL,
    turn BIGINT,
    wake_ms BIGINT,
    -- How often it was claimed: its fence, and the number of the try.
    attempt BIGINT NOT NULL,
    max_attempts BIGINT NOT NULL,
    -- When its worker loses it; null while it has none.
    lease_ms BIGINT,
    worker TEXT,
    failure TEXT
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05,
        autovacuum_vacuum_cost_delay = 0);

CREATE INDEX runs_by_turn ON runs (turn, run) WHERE turn IS NOT NULL;
CREATE INDEX runs_by_app ON runs (app, turn);
CREATE UNIQUE INDEX runs_by_job ON runs (job, tick_ms);
CREATE INDEX runs_asleep ON runs (wake_ms) WHERE wake_ms IS NOT NULL;

-- Runs that are over. Rows are added in the order of their end, so a BRIN index finds what is old at next to no cost.
CREATE TABLE run_history (
    job BIGINT NOT NULL,
    run UUID NOT NULL,
    due_ms BIGINT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    failure TEXT,
    ended_ms BIGINT NOT NULL,
    PRIMARY KEY (job, run)
);

CREATE INDEX run_history_by_end ON run_history USING brin (ended_ms) WITH (autosummarize = on);

-- The turn that was last claimed: apps that had nothing waiting queue up behind it.
CREATE TABLE run_clock (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    turn BIGINT NOT NULL
) WITH (fillfactor = 10);

INSERT INTO run_clock (id, turn) VALUES (1, 0);
