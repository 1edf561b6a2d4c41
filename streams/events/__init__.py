"""Events: batches on the wire, datasets on disk, what replays, resamples, distorts or keeps them."""
