"""Who may do what: people and roles, passwords, tokens, sessions, single sign-on. Knows no web framework."""
