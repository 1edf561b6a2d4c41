"""One extreme: the largest of many differences of a window from its expectation. Data only."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Extreme:
    """The largest of many differences.

    Attributes
    ----------
    name
        For people and for the store, for example ``jet map``.
    family
        Which share of the false-alarm budget it spends.
    object
        The object it is about; empty for inputs and score.
    value
        Significance: a scaled distance, or an absolute pull.
    effect
        Size, whatever the number of events: a distance in 0..1, the share of a place's objects that is too
        much (negative: missing), the change of a correlation, the share of events with two inputs swapped,
        or that of
        codes out of range or in a spike.
    size
        Significance of an effect of 1 at this place.
    place
        Where: the name of the input, or the codes of the corner of the place that are lowest, and how
        many codes it is wide: ``eta 12..15, phi 40..47``; two inputs: ``jet[0].eta, jet[1].eta``; or codes of
        one: ``jet[0].pt 120..123``. Empty for the score, and where there is nothing.
    """

    name: str
    family: str
    object: str
    value: float
    effect: float
    size: float
    place: str
