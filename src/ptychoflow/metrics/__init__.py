"""Metrics of a reconstruction against the ground truth, the counts, or the other half of the patterns."""
