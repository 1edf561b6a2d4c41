"""Judging: from a window and its reference to an assessment and a verdict."""
