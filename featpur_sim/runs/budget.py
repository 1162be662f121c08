"""A limit on the time that a piece of work may take."""

import math
import time
from collections.abc import Callable

from featpur_sim._ground.checks import double


class Budget:
    """Time that runs from when it is made.

    Args:
        seconds: how much there is; by default no limit.
        clock: a clock in seconds that never goes back.

    Raises:
        ValueError: ``seconds`` is not a number above 0.

    >>> Budget(60, clock=lambda: 5.0).holds(60), Budget(60, clock=lambda: 5.0).holds(61)
    (True, False)
    """

    def __init__(self, seconds: float = math.inf, clock: Callable[[], float] = time.monotonic):
        self.seconds = float(double("a budget of seconds", seconds, above=0, most=math.inf))
        self.clock = clock
        self._end = clock() + self.seconds

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return math.isfinite(self.seconds)

    def holds(self, seconds: float) -> bool:
        """Whether so many seconds are left."""
        return self._end - self.clock() >= seconds
