"""Explaining: from a window that differs to the simplest story of what happened."""
