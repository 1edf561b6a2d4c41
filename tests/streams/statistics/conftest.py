"""Samples of integers, and their counts, for every statistic of two samples."""

from dataclasses import dataclass

import numpy as np
import pytest

BINS = 96


@dataclass(frozen=True)
class Samples:
    """Three histograms of raw integers, and their flat counts."""

    first: tuple[np.ndarray, ...]
    second: tuple[np.ndarray, ...]

    @property
    def counts(self):
        return tuple(
            np.concatenate([np.bincount(sample, minlength=BINS) for sample in side])
            for side in (self.first, self.second)
        )

    @property
    def starts(self):
        return np.arange(len(self.first)) * BINS

    @property
    def pairs(self):
        return list(zip(self.first, self.second, strict=True))


@pytest.fixture(scope="session")
def many():
    rng = np.random.default_rng(7)

    def draw(size, mean):
        return np.clip(np.rint(rng.gamma(2.0, mean, size)), 0, BINS - 1).astype(np.int64)

    return Samples((draw(900, 8), draw(350, 9), draw(50, 3)), (draw(2100, 8.5), draw(700, 9), draw(4000, 4)))


@pytest.fixture
def rng():
    return np.random.default_rng(20)
