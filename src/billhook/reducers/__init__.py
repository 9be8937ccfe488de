"""The rules: loaded state and changes → rows. They are pure, and each is written once; events,
syncs, refreshes, replays and rebuilds all go through `reduce_event`
(docs/explanation/ordering.md)."""
