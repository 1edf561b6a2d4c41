"""The always-on service: configuration, records, incidents, responses, alerts, approvals, console and CLI."""
