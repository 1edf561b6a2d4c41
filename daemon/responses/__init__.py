"""The durable answer to an incident, from proposal to verified firmware."""
