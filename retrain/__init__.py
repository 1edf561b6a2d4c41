"""From an incident's data to a candidate. Knows streams (datasets, contracts) and hw (bit-accuracy)."""
