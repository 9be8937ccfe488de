-- Options of checkouts, and offers.

-- `options`: what the request asked for, so that policies can look at it, as they can at `offer`.
-- Adopted rows, and rows of requests without options, have none.
ALTER TABLE payments.stripe_checkout_sessions
    ADD COLUMN options       jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN offer         text,
    ADD COLUMN offer_options jsonb,     -- what the offer decided when it was redeemed; set by Billhook
    ADD COLUMN redeemed_offer uuid,     -- the offer of which it has a redemption; set by Billhook
    ADD COLUMN trial_granted boolean,   -- null: no trial was requested; set by Billhook
    DROP CONSTRAINT IF EXISTS checkout_sessions_mode_check,
    ADD CONSTRAINT checkout_sessions_mode_check CHECK (mode IN ('payment', 'subscription', 'setup')),
    ADD CONSTRAINT checkout_sessions_options_check CHECK (jsonb_typeof(options) = 'object');

-- Terms that an administrator defined: a browser names them, but does not decide them.
CREATE TABLE payments.offers (
    id              uuid NOT NULL DEFAULT gen_random_uuid(),
    environment     text NOT NULL,
    name            text NOT NULL,
    active          boolean NOT NULL DEFAULT true,
    options         jsonb NOT NULL DEFAULT '{}',
    price_ids       text[] NOT NULL DEFAULT '{}',
    lookup_keys     text[] NOT NULL DEFAULT '{}',
    redeem_by       timestamptz,
    max_redemptions integer,
    redemptions     integer NOT NULL DEFAULT 0, -- rows with it as their redeemed_offer
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT offers_pkey PRIMARY KEY (id),
    CONSTRAINT offers_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT offers_environment_name_key UNIQUE (environment, name),
    CONSTRAINT offers_max_redemptions_check CHECK (max_redemptions > 0)
);

-- The checkouts that give their redemption back when it is needed. Redemptions are counted in the
-- offer's row: no checkout reads those of all others.
CREATE INDEX stripe_checkout_sessions_ended_with_offer
    ON payments.stripe_checkout_sessions (redeemed_offer)
    WHERE redeemed_offer IS NOT NULL AND status IN ('initialized', 'failed', 'expired');

-- The checkout that may give a subject its one subscription, or its one trial. It is decided under
-- a lock of this row, in transactions that do not wait for Stripe
-- (docs/decisions/0020-one-checkout-of-a-subject.md).
CREATE TABLE billhook.sole_checkouts (
    environment  text NOT NULL CHECK (environment IN ('test', 'live')),
    subject_type text NOT NULL,
    subject_id   text NOT NULL,
    purpose      text NOT NULL CHECK (purpose IN ('subscription', 'trial')),
    session_id   uuid NOT NULL,     -- of payments.stripe_checkout_sessions
    PRIMARY KEY (environment, subject_type, subject_id, purpose)
);
