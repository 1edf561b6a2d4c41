"""Counting: events into mergeable summaries, and their bytes."""
