"""How much memory the processes of a command hold."""

import threading
from collections.abc import Callable
from contextlib import suppress

import psutil


def resident(process: psutil.Process) -> int:
    """Bytes of a process in memory, shared ones too."""
    return int(process.memory_info().rss)


class PeakMemory(threading.Thread):
    """Watches a process and its descendants until `over` is set; `peak` is the most bytes that one of them held, as
    `held` measures them, and `name_of_peak` its command line.
    """

    def __init__(self, pid: int, held: Callable[[psutil.Process], int] = resident) -> None:
        super().__init__(daemon=True)
        self.pid, self.held = pid, held
        self.peak, self.name_of_peak, self.over = 0, "", threading.Event()

    def run(self) -> None:
        """Look five times a second."""
        while not self.over.wait(0.2):
            with suppress(psutil.Error):
                watched = psutil.Process(self.pid)
                for process in [watched, *watched.children(recursive=True)]:
                    self._look_at(process)

    def _look_at(self, process: psutil.Process) -> None:
        with suppress(psutil.Error, OSError):  # it has ended meanwhile
            held, name = self.held(process), " ".join(process.cmdline())[:60]
            if held > self.peak:
                self.peak, self.name_of_peak = held, name
