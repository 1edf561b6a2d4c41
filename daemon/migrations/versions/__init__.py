"""The migrations, one file each, oldest first. A migration that was released never changes."""
