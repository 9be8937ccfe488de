"""`make bench`: the cost of events, syncs, lists and pages, as ratios within one run."""
