-- Event types that the app asked for, beside those that Billhook uses
-- (src/billhook/account/endpoint_events.py).

CREATE TABLE billhook.endpoint_events (
    environment text NOT NULL,
    event_type  text NOT NULL,
    added_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT endpoint_events_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT endpoint_events_pkey PRIMARY KEY (environment, event_type)
);
