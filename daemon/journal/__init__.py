"""What happened: events, their chain of hashes, lineage, and their way to Kafka."""
