"""The processes of a site: the daemon, its workers, how they start, stop and tell how they are."""
