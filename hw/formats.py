"""The fixed-point formats a new model gets unless its author chooses others, and why.

Refuses to know any particular model.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw.fixed_point import FixedFormat


@dataclass(frozen=True, slots=True)
class NetworkFormats:
    """Formats of every stage of an anomaly encoder.

    Parameters
    ----------
    offset
        Input offsets.
    scale
        Input scales, about one over the standard deviation of an input in codes.
    standardised
        Results of the input stage.
    weight, bias
        Parameters of the layers.
    hidden, latent
        Results of the hidden layers and of the last one. Between these results sums are exact.
    score
        Sum of squares and threshold.
    """

    offset: FixedFormat
    scale: FixedFormat
    standardised: FixedFormat
    weight: FixedFormat
    bias: FixedFormat
    hidden: FixedFormat
    latent: FixedFormat
    score: FixedFormat


DEFAULT_FORMATS = NetworkFormats(
    # whole input codes, as the trigger itself subtracts them
    offset=FixedFormat.parse("fixed<16,16,RND,SAT>"),
    # the smallest scale in use (muon phi, about 1/166) changes by 0.1 % in 25 steps;
    # 24 bits times the 17-bit difference still fit one 27 x 18 multiplier
    scale=FixedFormat.parse("fixed<24,2,RND,SAT>"),
    # +-32 standard deviations in steps of a thousandth
    standardised=FixedFormat.parse("fixed<16,6,RND,SAT>"),
    # +-8 in steps of 2^-12
    weight=FixedFormat.parse("fixed<16,4,RND,SAT>"),
    bias=FixedFormat.parse("fixed<16,4,RND,SAT>"),
    # saturating: an input gone wild must look anomalous, and a wrapped sum would look ordinary
    hidden=FixedFormat.parse("fixed<18,8,RND,SAT>"),
    latent=FixedFormat.parse("fixed<18,8,RND,SAT>"),
    # score and accept together fit one board word
    score=FixedFormat.parse("ufixed<24,14,RND,SAT>"),
)
"""The formats of the demonstration network 57-32-16-8."""
