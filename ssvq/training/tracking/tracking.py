"""A training's run in a tracker. A thread of its own sends to it; if the tracker fails, it stops with one warning."""

import json
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssvq import logs
from ssvq.errors import reason_of
from ssvq.extras import require
from ssvq.io import storage
from ssvq.model.bundle import CARD, DESCRIPTION, WEIGHTS
from ssvq.redaction import redact
from ssvq.training.held_out import HELD_OUT
from ssvq.training.tracking.address import Address, parse_address
from ssvq.training.tracking.service import Service

if TYPE_CHECKING:  # else loaded with what is drawn
    from matplotlib.figure import Figure

RUN = "tracking.json"  # in the output: a resumed training continues the same run
PATIENCE = 60.0  # seconds that a training waits at its end for unsent data
FILES = (WEIGHTS, CARD, DESCRIPTION, HELD_OUT)


def check_installed(track: str | None) -> None:
    """Raises InputError, before any work, if the package of a tracker is missing."""
    if track is not None:
        service = parse_address(track).service
        require(service, service, purpose=f"--track {track}")


@contextmanager
def track_training(track: str | None, out: str, parameters: dict[str, Any]) -> Iterator["Tracking"]:
    """A run for the duration of the block: finished, or failed if the block raises."""
    tracking = Tracking(track, out)
    tracking.send(lambda service: _begin(service, track, out, parameters))
    try:
        yield tracking
    except BaseException:
        tracking.end(finished=False)
        raise
    tracking.end(finished=True)


class Tracking:
    """Sends a training's data to a tracker; does nothing if `track` is None.

    No method raises, and none waits except `end`.
    """

    def __init__(self, track: str | None, out: str) -> None:
        self.track, self.out = track, out
        self._work: queue.Queue[Callable[[Service], object] | None] = queue.Queue()
        self._given_up = track is None
        self._thread = threading.Thread(target=self._send_all, daemon=True)
        if track is not None:
            self._thread.start()

    def send(self, what: Callable[[Service], object]) -> None:
        """Queue an action for the tracker. Actions run in order."""
        if not self._given_up:
            self._work.put(what)

    def figures(self, figures: dict[str, float]) -> None:
        """Log the figures of a step; `step` and `time` are among them."""
        numbers = {name: value for name, value in figures.items() if name not in ("step", "time")}
        self.send(lambda service: service.figures(int(figures["step"]), numbers))

    def picture(self, name: str, draw: Callable[[], "Figure"]) -> None:
        """Log a picture, which is drawn only if there is a tracker."""
        self.send(lambda service: service.picture(name, draw()))

    def bundle(self, model_id: str, step: int, figures: dict[str, float]) -> None:
        """Log the finished bundle of the output, and its figures."""
        self.send(lambda service: service.figures(step, figures))
        self.send(lambda service: _send_bundle(service, model_id, self.out))

    def end(self, *, finished: bool) -> None:
        """End the run. Waits for unsent data, but not for ever."""
        self.send(lambda service: service.end(finished=finished))
        if self._given_up:
            return
        self._work.put(None)
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self._give_up(f"not everything was sent within {PATIENCE:g} s")

    def _send_all(self) -> None:
        try:
            service = open_service(parse_address(self.track or ""))
            while (what := self._work.get()) is not None:
                what(service)
        except BaseException as error:  # noqa: BLE001 - whatever a tracker's package raises, the training goes on
            self._give_up(reason_of(error, first_line=True, most=200))

    def _give_up(self, reason: str) -> None:
        if self._given_up:
            return
        self._given_up = True
        logs.warning(f"warning: --track {self.track}: {redact(reason)}; the training does not need it and goes on")


def open_service(address: Address) -> Service:
    """The service at an address."""
    if address.service == "mlflow":
        from ssvq.training.tracking.mlflow_service import MLflow

        return MLflow(address.target)
    from ssvq.training.tracking.wandb_service import WeightsAndBiases

    return WeightsAndBiases(address.target)


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings as text by dotted names, without those that are None."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        elif value is not None:
            found[f"{prefix}{name}"] = redact(str(value))
    return found


def _begin(service: Service, track: str | None, out: str, parameters: dict[str, Any]) -> None:
    address = storage.join(out, RUN)
    try:
        earlier = json.loads(storage.read_text(address))
    except (FileNotFoundError, ValueError):
        earlier = {}
    run = earlier.get("run") if earlier.get("track") == track else None
    run = service.begin(run, storage.base_name(out), flat(parameters))
    storage.put_text(address, json.dumps({"track": track, "run": run}) + "\n")


def _send_bundle(service: Service, model_id: str, out: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in FILES:
            Path(folder, name).write_bytes(storage.read_bytes(storage.join(out, name)))
        service.bundle(model_id, Path(folder))
