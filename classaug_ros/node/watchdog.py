"""Models that hang or fail again and again: loaded anew, a bounded number of times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from classaug_ros.errors import ClassaugError

IN_A_ROW = 10
"""Frames, of all cameras, that fail one after the other until the models are loaded anew, and that are answered one
after the other until they count as well again."""
LASTING = 5.0
"""Seconds that frames fail for, besides, and twice as many after each time: what ails them may pass by itself."""


class Reloadable(Protocol):
    """Models that can be loaded anew."""

    @property
    def broken(self) -> str:
        """Why they run no more; empty where they run."""

    def give_up(self, why: str) -> None:
        """End what they do; they run no more until they are loaded anew."""

    def reload(self) -> None:
        """Load them anew; ClassaugError where they cannot be."""


class Watchdog:
    """Judges the models by their answers, and loads them anew where they need it.

    Once they were loaded anew ``reloads`` times without being well in between, it lets them be. Not for several threads
    at once, but for reading the attributes.

    Attributes:
        trouble: what is the matter with the models; empty where they are well.
        ended: why they are not loaded anew any more; empty until then.
        count: how often they were loaded anew, in all.
    """

    def __init__(self, models: Reloadable, reloads: int, log: Callable[[str], None]) -> None:
        """Judge models from now on.

        Args:
            models: the models.
            reloads: how often they are loaded anew at most, without being well in between.
            log: takes a line about each time.
        """
        self.trouble = self.ended = ""
        self.count = 0
        self._models = models
        self._reloads = reloads
        self._log = log
        self._done = 0  # of the reloads, since they were well
        self._streak = 0  # frames answered one after the other, or failed where it is negative
        self._since = 0.0  # monotonic seconds of the first of those that failed

    def answered(self) -> None:
        """Note a frame that the models answered."""
        self._streak = max(self._streak, 0) + 1
        if self.trouble and self._streak >= IN_A_ROW:
            self.trouble, self._done = "", 0
            self._log("the models are well again")

    def failed(self, why: str, now: float) -> None:
        """Note a frame on which a model failed, at monotonic seconds."""
        if self._streak >= 0:
            self._streak, self._since = 0, now
        self._streak -= 1
        if self._streak <= -IN_A_ROW and now - self._since >= LASTING * 2**self._done:
            self._models.give_up(f"{-self._streak} frames failed one after the other, the last: {why}")

    def start(self) -> None:
        """Load models anew that were given up before; it does not count, and once it is done they are well."""
        if self._models.broken:
            self._load(self._models.broken, "")
            self.trouble = self.ended

    def mend(self) -> None:
        """Load the models anew if they were given up, or say that they are not any more. No frame may be with them."""
        why = self._models.broken
        if not why or self.ended:
            return
        if self._done == self._reloads:
            times = f", though loaded anew {self._done} times" if self._done else ""
            self.ended = f"the models do not work{times}: {why}"
            return
        self._done += 1
        self._load(why, f" ({self._done} of {self._reloads})")

    def _load(self, why: str, number: str) -> None:
        self.trouble = f"loading the models anew{number}: {why}"
        self._log(self.trouble)
        self._streak = 0
        try:
            self._models.reload()
        except ClassaugError as error:
            self.ended = f"the models cannot be loaded anew: {error}"
        except Exception as error:  # noqa: BLE001 (whatever it is, there is nothing to work with)
            self.ended = f"the models cannot be loaded anew: {type(error).__name__}: {error}"
        else:
            self.count += 1
            self.trouble = f"the models were loaded anew: {why}"
