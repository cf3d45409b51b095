"""Commands as processes of their own, each with a Ray of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

# What a person asks of an output: two outputs that answer alike hold the same.
SCORES = "SELECT image_uri, tile_id, score FROM tiles ORDER BY tile_id"


def start(*arguments: str) -> "subprocess.Popen[str]":
    """A command in a process group of its own, with a Ray of its own."""
    command = [sys.executable, "-c", "import sys; from ssvq.cli import main; sys.exit(main(sys.argv[1:]))", *arguments]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    process = start(*arguments)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
