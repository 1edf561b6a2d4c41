"""The life of an incident, and silences."""
