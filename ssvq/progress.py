"""Progress for a person: a bar in a terminal, a line now and then in a log. Always on standard error."""

import sys
import time
from datetime import timedelta
from types import TracebackType

from tqdm import tqdm

from ssvq import logs

SECONDS_BETWEEN_LINES = 20.0


class Progress:
    """Counts towards a total; `advance` takes what to show beside the count."""

    def __init__(self, description: str, total: int, unit: str) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = self.begun = 0
        self.started = self.last_line = time.monotonic()
        shown = sys.stderr.isatty() and not logs.is_json()
        self.bar = tqdm(total=total, desc=description, unit=unit, dynamic_ncols=True) if shown else None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def begin_at(self, done: int) -> None:
        """Count what an earlier run did, which says nothing of the speed of this one."""
        self.done = self.begun = done
        if self.bar is not None:
            self.bar.initial = self.bar.n = done
            self.bar.refresh()

    def advance(self, number: int, note: str = "") -> None:
        """Count some more as done."""
        self.done += number
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(number)
            return
        now = time.monotonic()
        if now - self.last_line >= SECONDS_BETWEEN_LINES or (number and self.done == self.total):
            self.last_line = now
            rate = (self.done - self.begun) / max(now - self.started, 1e-9)
            speed = f"{rate:.1f} a second" if rate >= 1 else f"{60 * rate:.1f} a minute"
            text = f"{self.description}: {self.done} of {self.total} {self.unit}, {speed}"
            if rate and self.done < self.total:
                text += f", {timedelta(seconds=round((self.total - self.done) / rate))} left"
            logs.info(f"{text}; {note}" if note else text, done=self.done, total=self.total, unit=self.unit)
