"""`make bench`: what an event costs, as ratios within one run."""
