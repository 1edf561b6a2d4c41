"""Contracts: which numbers a model sees, in order, and how each becomes a code; the shipped ones as TOML."""
