-- Who is signed in to the dashboard. State lies here, so that any process answers any request.

CREATE TABLE billhook.dashboard_sessions (
    token_hash bytea PRIMARY KEY,       -- SHA-256 of the cookie, which is kept nowhere
    key_hash   bytea,                   -- of the admin key that opened it: it ends with the key
    who        text NOT NULL,
    opened_at  timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    notice     jsonb                    -- what the next page says first: how the last action went
);
CREATE INDEX dashboard_sessions_expired ON billhook.dashboard_sessions (expires_at);

-- Attempts to sign in of one address, since the first of them.
CREATE TABLE billhook.sign_in_attempts (
    address  text PRIMARY KEY,
    attempts integer NOT NULL,
    since    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sign_in_attempts_since ON billhook.sign_in_attempts (since);
