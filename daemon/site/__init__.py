"""A site: its folder, its keys, and what changes while it runs."""
