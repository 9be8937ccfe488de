-- Which subject a customer pays for, according to the app: for customers that existed before, and
-- to correct a mapping. The app inserts rows; Billhook applies them
-- (src/billhook/mirror/assignments.py).

CREATE TABLE payments.customer_assignments (
    id           bigint GENERATED ALWAYS AS IDENTITY,
    environment  text NOT NULL,
    customer_id  text NOT NULL,
    subject_type text NOT NULL,
    subject_id   text NOT NULL,
    assigned_at  timestamptz NOT NULL DEFAULT now(),
    applied_at   timestamptz,
    last_error   text,
    next_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT customer_assignments_environment_check CHECK (environment IN ('test', 'live')),
    CONSTRAINT customer_assignments_customer_check CHECK (customer_id <> ''),
    CONSTRAINT customer_assignments_subject_check CHECK (
        length(subject_type) BETWEEN 1 AND 100 AND length(subject_id) BETWEEN 1 AND 255),
    CONSTRAINT customer_assignments_pkey PRIMARY KEY (id)
);

CREATE INDEX customer_assignments_due ON payments.customer_assignments (environment, next_at)
    WHERE applied_at IS NULL;
CREATE INDEX customer_assignments_by_customer
    ON payments.customer_assignments (environment, customer_id);
