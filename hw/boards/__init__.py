"""The boards lumiwatch can talk to, one module each, and the emulated board."""
