"""Projects for the vendors' tools: written completely everywhere, run where the tools are."""
