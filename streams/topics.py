"""The Kafka topics of lumiwatch, by name. Knows nothing of what travels on them.

Topics are created up front by whoever starts the broker, never by accident of a first message.
"""

from typing import Final

BATCHES: Final = "lumiwatch.batches"
CONDITIONS: Final = "lumiwatch.conditions"
SUMMARIES: Final = "lumiwatch.summaries"
VERDICTS: Final = "lumiwatch.verdicts"
EVENTS: Final = "lumiwatch.events"
DEAD_LETTERS: Final = "lumiwatch.dead-letters"

TOPICS: Final[tuple[str, ...]] = (BATCHES, CONDITIONS, SUMMARIES, VERDICTS, EVENTS, DEAD_LETTERS)
