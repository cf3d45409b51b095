"""Progress for a person, on standard error: a bar in a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

from tqdm import tqdm

from ssvq import logs

SECONDS_BETWEEN_LINES = 20.0


class Progress:
    """Counts towards a total, if it is known. `advance` takes what to show beside the count. In a log, lines are
    `seconds` apart, by `clock`.
    """

    def __init__(
        self,
        description: str,
        total: int | None,
        unit: str,
        *,
        seconds: float = SECONDS_BETWEEN_LINES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.seconds, self.clock = seconds, clock
        self.done: float = 0
        self.begun = 0
        self.started = self.last_line = clock()
        shown = sys.stderr.isatty() and not logs.is_json()
        self.bar = tqdm(total=total, desc=description, unit=unit, dynamic_ncols=True) if shown else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def begin_at(self, done: int) -> None:
        """Start from work that was done earlier, which says nothing about the speed."""
        self.done = self.begun = done
        self.started = self.clock()
        if self.bar is not None:
            self.bar.initial = self.bar.n = done
            self.bar.refresh()

    def advance(self, number: float, note: str = "") -> None:
        """Count more as done."""
        self.done += number
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(number)
            return
        now = self.clock()
        if now - self.last_line >= self.seconds or (number and self._is_whole):
            self.last_line = now
            rate = (self.done - self.begun) / max(now - self.started, 1e-9)
            speed = f"{rate:.1f} a second" if rate >= 1 else f"{60 * rate:.1f} a minute"
            done = round(self.done)
            text = f"{self.description}: {done}{'' if self.total is None else f' of {self.total}'} {self.unit}"
            if rate:
                text += f", {speed}"
            if rate and self.total is not None and not self._is_whole:
                text += f", {timedelta(seconds=round((self.total - self.done) / rate))} left"
            logs.info(f"{text}; {note}" if note else text, done=done, total=self.total, unit=self.unit)

    @property
    def _is_whole(self) -> bool:
        return self.total is not None and self.done > self.total - 1e-6  # shares of a whole add up to nearly that
