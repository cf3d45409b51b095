"""Lines on standard error: text for a person, or with `--log-format json` one JSON object a line for a log collector.

Every command writes through `info`, `warning` and `error`. A line's fields (the image, the stage) are keys of its
object, beside time, level, message and what `bind` has named; as text the message alone is shown. What looks like a
credential is left out of both, whoever put it into the message.
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
INHERITED = "_SSVQ_LOG_FORMAT"  # not the setting's own variable, which would win over a file of settings
FAILURES_SHOWN = 20

_bound: dict[str, str] = {}


def set_up(log_format: LogFormat) -> None:
    """Choose the format of this process and of those that it starts: it travels in the environment. In JSON the
    warnings of Python and of libraries are objects too.
    """
    os.environ[INHERITED] = log_format
    _bound.clear()
    _logger.cache_clear()
    _logger()


def bind(**fields: str) -> None:
    """Add fields, such as run_id and survey, to all lines that follow."""
    _bound.update(fields)


def info(message: str, **fields: Any) -> None:
    """What goes on."""
    _logger().info(message, extra=fields)


def warning(message: str, **fields: Any) -> None:
    """What a person should know of, while the work goes on."""
    _logger().warning(message, extra=fields)


def error(message: str, *, trace: bool = False) -> None:
    """Why a command ends, with `trace` also where: the exception that is being handled."""
    _logger().error(message, exc_info=trace)


@contextmanager
def gathered() -> Iterator[list[str]]:
    """The warnings and errors that are written within, for whoever shows them elsewhere too."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    _logger().addHandler(handler)
    try:
        yield messages
    finally:
        _logger().removeHandler(handler)


class FailedImages:
    """Tells of images that fail, as they do: in JSON of each, as text of the first 20 and at the end how many more."""

    def __init__(self) -> None:
        self.number = 0

    def add(self, text: str, *, image: str, stage: str | None, reason: str | None) -> None:
        """Note an image; `text` is its line for a person."""
        self.number += 1
        if self.number <= FAILURES_SHOWN or is_json():
            warning(one_line(text), image=image, stage=stage, reason=reason)

    def end(self) -> None:
        """Say how many were not shown."""
        if self.number > FAILURES_SHOWN and not is_json():
            warning(f"... and {self.number - FAILURES_SHOWN} more")


def as_json(name: str) -> None:
    """Have the lines of a library's logger, which has handlers of its own, be objects where ours are."""
    if is_json():
        logging.getLogger(name).handlers = [_handler()]  # not ours: a library may give its handler another format


class _StandardError(logging.Handler):
    """Writes to what is standard error now: a bar, a test or a redirection may have changed it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(redact(self.format(record)), file=sys.stderr, flush=True)


class _Text(logging.Formatter):
    """The message alone; a traceback comes before it, so that the last line says what went wrong."""

    def format(self, record: logging.LogRecord) -> str:
        trace = f"{self.formatException(record.exc_info)}\n" if record.exc_info else ""
        return trace + record.getMessage()


class _Json(JsonFormatter):
    def __init__(self) -> None:
        super().__init__(["levelname", "message"], rename_fields={"levelname": "level"}, timestamp="time")

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Add what is bound; time comes first."""
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
    """The package's logger, set up as the environment says."""
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
