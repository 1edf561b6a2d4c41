"""References and first packages of a site."""
