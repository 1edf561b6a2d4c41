"""Statistics: how far two samples are apart, and how rare that is. Pure functions on counts and numbers.

Knows no input, no window, no reference and no contract.
"""
