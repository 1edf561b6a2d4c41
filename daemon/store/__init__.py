"""The daemon's tables, and what is read from them."""
