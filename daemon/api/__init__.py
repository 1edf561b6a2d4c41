"""The HTTP interface: `/api/v1`, login, and what machines ask. Thin: others do the work."""
