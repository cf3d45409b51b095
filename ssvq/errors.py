"""Exit codes, and errors for people.

An `InputError` has one line that says what was wrong, in which file or setting, and what to do. Every command prints it
on standard error and returns exit code 2. Any other exception that escapes is a bug (exit code 1).
"""

from enum import IntEnum

from ssvq.redaction import redact


class ExitCode(IntEnum):
    """Exit code of every command; under `ray job submit` it is the job's `driver_exit_code`."""

    DONE = 0
    INTERNAL_ERROR = 1
    WRONG_INPUT = 2
    SOME_IMAGES_FAILED = 3
    INTERRUPTED = 130


def images_exit_code(failed: int, *, allowed: bool) -> ExitCode:
    """The exit code of a finished job with some failed images."""
    return ExitCode.SOME_IMAGES_FAILED if failed and not allowed else ExitCode.DONE


def one_line(text: str) -> str:
    """Text whose unprintable characters, such as line feeds and terminal escapes, are written as Python escapes:
    names of files and messages of libraries may hold anything.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def reason_of(error: BaseException, *, first_line: bool = False, most: int | None = None) -> str:
    """The message of an exception as one printable line: the operating system's words if there are any; without the
    stack of DuckDB's internal errors. `most`: characters.
    """
    text = str(getattr(error, "strerror", None) or error).split("Stack Trace")[0].strip()
    if first_line:
        text = text.partition("\n")[0]
    return one_line(" ".join(text.split()))[:most] or type(error).__name__


def failure_of(error: BaseException) -> str:
    """The message of an exception that was not written for people: its type, and the last line of its text, since
    errors of Ray end with the worker's error.
    """
    last = (str(error).strip().splitlines() or [""])[-1]
    return one_line(f"{type(error).__name__}: {last}" if last else type(error).__name__)


class InputError(Exception):
    """Wrong input or settings: one line for a person, exit code 2."""


class ImageError(Exception):
    """An image or mask that cannot be used. It is reported, counted and skipped; it never ends a job.

    `stage`: where it failed: `read`, `mask`, `score` or `write`.
    """

    def __init__(self, stage: str, message: str) -> None:
        self.stage = stage
        self.message = redact(message)  # it is stored in ledgers and pages
        super().__init__(self.message)

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return type(self), (self.stage, self.message)
