"""Words for what an assessment shows, for a shifter. Knows no sequence of windows and decides nothing."""

from streams.judging.assessment import Assessment
from streams.judging.channels import RATE
from streams.judging.extremes import INPUTS
from streams.judging.findings import ChannelFinding, ExtremeFinding
from streams.judging.flows import RANGE
from streams.judging.pairs import CORRELATIONS, SWAPPED
from streams.judging.spikes import SPIKES


def describe_excess(assessment: Assessment) -> str:
    """Name what exceeds in an assessment, the most telling of each family; empty if nothing does.

    Examples
    --------
    ``Accept rate 11.9 % instead of 10.0 % (+19 %); jet gain +1.2 %``
    """
    parts = []
    for family in assessment.exceeded_families:
        members: list[ChannelFinding | ExtremeFinding] = [
            *(one for one in assessment.channels if one.family == family),
            *(one for one in assessment.extremes if one.family == family),
        ]
        parts.append(_finding(assessment, min(members, key=lambda one: one.p_value)) if members else family)
    return _sentence("; ".join(filter(None, parts)))


def describe_suspect(assessment: Assessment, name: str) -> str:
    """Name what one channel shows; empty where this window says nothing of it."""
    findings: list[ChannelFinding | ExtremeFinding] = [*assessment.channels, *assessment.extremes]
    for one in findings:
        if one.name == name:
            return _sentence(_finding(assessment, one))
    return ""


def describe_channel(one: ChannelFinding) -> str:
    """Name a channel and its effect, for example ``jet gain +1.2 %``."""
    if one.unit:
        return f"{one.name} {one.effect:+.3g} {one.unit}".removesuffix(" 1")
    return f"{one.name} {one.effect:+.2%}"


def _finding(assessment: Assessment, one: ChannelFinding | ExtremeFinding) -> str:
    if one.family == RATE and assessment.expected_rate is not None:
        return _rate(assessment)
    if isinstance(one, ChannelFinding):
        return describe_channel(one)
    if one.family == INPUTS:
        shift = next((each for each in assessment.worst_inputs if each.name == one.place), None)
        mean = f" (mean {shift.mean_shift_lsb:+.2f} LSB)" if shift is not None else ""
        return f"inputs disagree, worst {one.place}{mean}"
    if one.name == SWAPPED:
        return f"{one.place.replace(', ', ' and ')} look swapped in {one.effect:.0%} of the events"
    if one.family == CORRELATIONS:
        return f"correlation of {one.place.replace(', ', ' and ')} changed by {one.effect:+.3f}"
    if one.family == RANGE:
        return f"{one.effect:+.2%} of the codes of {one.place} the range"
    if one.family == SPIKES:
        return f"{one.name}: {one.effect:+.2%} of the events have {one.place}" if one.place else ""
    place = f" at {one.place}" if one.place else f" differs by {one.effect:.3f}"
    size = f" {one.effect:+.0%}" if one.place else ""
    return f"{one.name}{size}{place}"


def _rate(assessment: Assessment) -> str:
    if assessment.expected_rate is None or assessment.rate_deviation is None:
        return ""
    return (
        f"accept rate {assessment.accept_rate:.2%} instead of {assessment.expected_rate:.2%}"
        f" ({assessment.rate_deviation:+.0%})"
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
