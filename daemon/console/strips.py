"""Small drawings for the wall: the latest states as a strip, the accept rate in its band. Pure SVG text."""

from collections.abc import Sequence

from daemon.console.charts import tone_colour
from daemon.console.looks import VERDICTS, Palette
from daemon.store import views

_WIDTH = 600
_STRIP_HEIGHT = 26
_RATE_HEIGHT = 90
_LEAST_PLACES = 30


def strip_svg(verdicts: Sequence[views.VerdictMark], colours: Palette) -> str:
    """Draw the latest states as a strip: colour and height tell them apart.

    Parameters
    ----------
    verdicts
        Oldest first.
    colours
        Dark or light.
    """
    heights = {"alarm": 26, "warning": 19, "good": 12}
    width = _WIDTH / max(len(verdicts), _LEAST_PLACES)
    bars = []
    for place, verdict in enumerate(verdicts):
        look = VERDICTS[verdict.state]
        height = heights.get(verdict.state, 5)
        bars.append(
            f'<rect x="{place * width:.1f}" y="{_STRIP_HEIGHT - height}" width="{width * 0.82:.1f}" '
            f'height="{height}" fill="{tone_colour(look.tone, colours)}">'
            f"<title>LS {verdict.lumisection}: {look.word}</title></rect>"
        )
    words = f"States of the latest {len(verdicts)} lumisections"
    return _svg("lw-strip", _STRIP_HEIGHT, words, "".join(bars))


def rate_svg(verdicts: Sequence[views.VerdictMark], band: float, colours: Palette) -> str:
    """Draw the accept rate relative to its expectation, with the tolerated band.

    Parameters
    ----------
    verdicts
        Oldest first; those without an expectation leave a gap.
    band
        Relative half width; the drawing shows three times as much.
    colours
        Dark or light.
    """
    width = _WIDTH / max(len(verdicts), _LEAST_PLACES)
    middle = _RATE_HEIGHT / 2
    per_band = _RATE_HEIGHT / 6
    dots = []
    for place, verdict in enumerate(verdicts):
        if verdict.rate_deviation is None:
            continue
        height = max(-2.7, min(2.7, verdict.rate_deviation / band)) * per_band
        outside = abs(verdict.rate_deviation) > band
        colour = colours.alarm if outside else colours.ink
        x, y = (place + 0.41) * width, middle - height
        # a round end of a line without length stays a round dot when the drawing is stretched
        dots.append(
            f'<path d="M{x:.1f} {y:.1f}h0.01" stroke="{colour}" stroke-width="8" stroke-linecap="round" '
            'vector-effect="non-scaling-stroke"/>'
        )
    ground = (
        f'<rect x="0" y="{middle - per_band:.1f}" width="{_WIDTH}" height="{2 * per_band:.1f}" '
        f'fill="{colours.reference}" opacity="0.22"/>'
        f'<rect x="0" y="{middle - 0.75:.2f}" width="{_WIDTH}" height="1.5" fill="{colours.reference}"/>'
    )
    words = f"Accept rate of the latest {len(verdicts)} lumisections against its tolerated band"
    return _svg("lw-rates", _RATE_HEIGHT, words, ground + "".join(dots))


def _svg(name: str, height: int, words: str, content: str) -> str:
    return (
        f'<svg class="{name}" viewBox="0 0 {_WIDTH} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{words}">{content}</svg>'
    )
