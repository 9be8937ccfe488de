-- The import of an account's payments from before it was connected (src/billhook/mirror/history).

-- The running or last import of an environment. `finished_at` is null until everything is read; an
-- import that was stopped continues from its ranges.
CREATE TABLE billhook.imports (
    environment  text NOT NULL,
    since        bigint NOT NULL,          -- imports what was created from then on; epoch seconds
    upto         bigint,                   -- Stripe's time when it began
    begins       bigint,                   -- when the account's first customer was created: for the estimate
    started_at   timestamptz NOT NULL DEFAULT now(),
    resumed_at   timestamptz,              -- when a process last continued it, and what was read by then
    resumed_read bigint NOT NULL DEFAULT 0,
    finished_at  timestamptz,
    complete_from bigint,                  -- everything from then on was imported; kept by the next import
    skipped      bigint NOT NULL DEFAULT 0,
    failures     integer NOT NULL DEFAULT 0,
    error        text,
    next_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT imports_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT imports_pkey PRIMARY KEY (environment)
);

-- A part of a list, as in billhook.sync_ranges: objects created in [since, upto), the newest first.
CREATE TABLE billhook.import_ranges (
    id          bigint GENERATED ALWAYS AS IDENTITY,
    environment text NOT NULL,
    list        text NOT NULL,
    since       bigint NOT NULL,
    upto        bigint NOT NULL,
    after       text,                      -- the last object that was read, and when it was created
    reached     bigint NOT NULL,
    objects     bigint NOT NULL DEFAULT 0,
    written     bigint NOT NULL DEFAULT 0,
    done        boolean NOT NULL DEFAULT false,
    CONSTRAINT import_ranges_pkey PRIMARY KEY (id),
    CONSTRAINT import_ranges_environment_fkey FOREIGN KEY (environment)
        REFERENCES billhook.imports (environment) ON DELETE CASCADE
);
CREATE INDEX import_ranges_by_environment ON billhook.import_ranges (environment);

-- What a gap (billhook.pulls.gap_from) still needs, until it is done.
ALTER TABLE billhook.pulls
    ADD COLUMN resync_at    timestamptz,   -- when a sync is due
    ADD COLUMN import_since bigint;        -- an import of what was created from then on; epoch seconds
