"""The pages operators look at and decide on, served by the daemon itself with nothing from the internet."""
