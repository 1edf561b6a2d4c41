"""Tests of lumiwatch; a package of its own, for other distributions bring a `tests` too."""
