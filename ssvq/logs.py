"""Lines on standard error: text for a person, or with `--log-format json` one JSON object per line for a log collector.

Every command writes through `info`, `warning` and `error`. Fields of a line (the image, the stage) become keys of its
object, besides time, level, message and the fields of `bind`; as text only the message is shown. Anything that looks
like a credential is removed from both.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

from ssvq.errors import one_line
from ssvq.redaction import redact

LogFormat = Literal["text", "json"]
INHERITED = "_SSVQ_LOG_FORMAT"  # not the variable of the setting, which would override a settings file
FAILURES_SHOWN = 20

_bound: dict[str, str] = {}


def set_up(log_format: LogFormat) -> None:
    """Choose the format of this process and its children, through the environment. In JSON, warnings of Python and
    of libraries are objects too.
    """
    os.environ[INHERITED] = log_format
    _bound.clear()
    _logger.cache_clear()
    _logger()


def bind(**fields: str) -> None:
    """Add fields, such as run_id and survey, to all later lines."""
    _bound.update(fields)


def info(message: str, **fields: Any) -> None:
    """Report progress."""
    _logger().info(message, extra=fields)


def warning(message: str, **fields: Any) -> None:
    """Report a problem that does not stop the work."""
    _logger().warning(message, extra=fields)


def error(message: str, *, trace: bool = False) -> None:
    """Report why a command ends; with `trace`, also the traceback of the current exception."""
    _logger().error(message, exc_info=trace)


@contextmanager
def gathered() -> Iterator[list[str]]:
    """Collect the warnings and errors of the block, to show them elsewhere too."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    _logger().addHandler(handler)
    try:
        yield messages
    finally:
        _logger().removeHandler(handler)


class FailedImages:
    """Reports failed images as they occur: all of them in JSON; as text the first 20, and the number of others at
    the end.
    """

    def __init__(self) -> None:
        self.number = 0

    def add(self, text: str, *, image: str, stage: str | None, reason: str | None) -> None:
        """Report an image; `text` is its line for a person."""
        self.number += 1
        if self.number <= FAILURES_SHOWN or is_json():
            warning(one_line(text), image=image, stage=stage, reason=reason)

    def end(self) -> None:
        """Report how many were not shown."""
        if self.number > FAILURES_SHOWN and not is_json():
            warning(f"... and {self.number - FAILURES_SHOWN} more")


def as_json(name: str) -> None:
    """Make a library's logger, which has its own handlers, write JSON if ours does."""
    if is_json():
        logging.getLogger(name).handlers = [_handler()]  # not ours: a library may set another format


class _StandardError(logging.Handler):
    """Writes to the current standard error, which a bar, a test or a redirection may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        print(redact(self.format(record)), file=sys.stderr, flush=True)


class _Text(logging.Formatter):
    """The message only. A traceback comes before it, so that the last line says what went wrong."""

    def format(self, record: logging.LogRecord) -> str:
        trace = f"{self.formatException(record.exc_info)}\n" if record.exc_info else ""
        return trace + record.getMessage()


class _Json(JsonFormatter):
    def __init__(self) -> None:
        super().__init__(["levelname", "message"], rename_fields={"levelname": "level"}, timestamp="time")

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Add bound fields; time comes first."""
        return {"time": log_data.pop("time"), **_bound, **log_data}


def is_json() -> bool:
    """Whether lines are objects."""
    return os.environ.get(INHERITED) == "json"


def _handler() -> _StandardError:
    handler = _StandardError()
    handler.setFormatter(_Json() if is_json() else _Text())
    return handler


@cache
def _logger() -> logging.Logger:
    """The package's logger, configured by the environment."""
    handler = _handler()
    logger, root = logging.getLogger("ssvq"), logging.getLogger()
    root.handlers = [other for other in root.handlers if not isinstance(other, _StandardError)]
    if is_json():
        root.addHandler(handler)
    logging.captureWarnings(is_json())
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger
