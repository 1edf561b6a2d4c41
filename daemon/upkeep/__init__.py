"""What keeps a site small and safe: retention, backup, restore."""
