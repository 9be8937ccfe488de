-- What each admin key may do, when it was last used, and who changed what.

ALTER TABLE billhook.api_keys
    ADD COLUMN role         text NOT NULL DEFAULT 'admin'
                            CHECK (role IN ('admin', 'support', 'viewer')),
    ADD COLUMN environments text[] NOT NULL DEFAULT '{test,live}'
                            CHECK (environments <@ '{test,live}' AND environments <> '{}'),
    ADD COLUMN last_used_at timestamptz,  -- to about a minute
    ADD CHECK (kind = 'admin' OR role = 'admin');

CREATE TABLE billhook.audit_log (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    environment text CHECK (environment IN ('test', 'live')),  -- null: of both, or of none
    action      text NOT NULL,          -- such as 'refund.create'
    target      text,                   -- the id of what was changed
    actor       text NOT NULL,          -- the key's or person's name
    key_id      uuid REFERENCES billhook.api_keys (id),
    via         text NOT NULL CHECK (via IN ('api', 'dashboard', 'cli')),
    address     text,                   -- of the client
    before      jsonb,                  -- the row that is changed, if there is one
    -- The result, added once when the change has ended. While it is null, the change is running, or
    -- the server stopped in the middle.
    outcome     text CHECK (outcome IN ('done', 'failed')),
    ended_at    timestamptz,
    error       text,
    request     jsonb,                  -- what was asked for, without secrets
    after       jsonb                   -- that row, or what was returned
);
CREATE INDEX audit_log_target ON billhook.audit_log (target, id);
CREATE INDEX audit_log_action ON billhook.audit_log (action, id);
CREATE INDEX audit_log_key ON billhook.audit_log (key_id, id);
