"""The store: tables of the stream, counting exactly once, closing and forgetting windows."""
