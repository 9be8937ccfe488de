-- The last comparison with Stripe of each environment (`billhook verify`).
CREATE TABLE billhook.verifications (
    environment text PRIMARY KEY CHECK (environment IN ('test', 'live')),
    finished_at timestamptz NOT NULL,
    result      jsonb NOT NULL
);
