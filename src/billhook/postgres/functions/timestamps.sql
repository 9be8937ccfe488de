-- `updated_at` of every row in `payments`.

CREATE OR REPLACE FUNCTION billhook.touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;

:touch_triggers
