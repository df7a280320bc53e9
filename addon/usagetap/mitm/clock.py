"""The wall clock, set back while we run. Durations are measured by another, and rows are told apart by their keys, so
all that is left to do is to say why times in the table run backwards."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)

TOLERANCE = 1.0
"""Seconds: less is a clock being steered, which ours may take for a jump when the machine is busy."""


class Clock:
    """Compares the wall clock with the one that never goes back, at each look."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def look(self) -> None:
        """Log it if the wall clock has been set back since the last look."""
        ahead = time.time() - time.monotonic()
        back, self._ahead = self._ahead - ahead, ahead
        if back > TOLERANCE:
            log.warning(
                "usage: the clock was set back by %.0f s: rows from now on begin before those that are there", back
            )
