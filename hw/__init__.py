"""From a model to a proven package on a board. Knows no streams and no daemon."""
