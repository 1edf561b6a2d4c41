"""Effects: what a detector or its firmware can do to events, as integer codes show it."""
