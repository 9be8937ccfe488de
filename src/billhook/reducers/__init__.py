"""The rules: what is loaded and what changes → what is shown. Pure, and each written once; events,
syncs, refreshes, replays and rebuilds all go through `reduce.apply` (docs/ordering.md)."""
