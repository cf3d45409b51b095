"""Weights & Biases. With WANDB_MODE=offline everything stays on this machine, for `wandb sync`."""

import io
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ssvq.training.tracking.service import Service

if TYPE_CHECKING:  # else loaded with what is drawn
    from matplotlib.figure import Figure

PROJECT = "ssvq"  # unless the address or WANDB_PROJECT names another
SECONDS = 30  # seconds for the service to answer


class WeightsAndBiases(Service):
    """A run of Weights & Biases. `target`: PROJECT or ENTITY/PROJECT; None for the service's own variables."""

    def __init__(self, target: str | None) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb  # takes seconds to load

        self.wandb = wandb
        *entity, project = (target or "").split("/")
        self.project: dict[str, Any] = {"project": project or os.environ.get("WANDB_PROJECT", PROJECT)}
        if entity:
            self.project["entity"] = entity[0]
        self.run: Any = None

    def begin(self, run: str | None, name: str, parameters: dict[str, str]) -> str:
        """Begin a run. It never prompts for a key: without one, and not offline, it fails."""
        online = os.environ.get("WANDB_MODE", "online") == "online"
        if online and not self.wandb.login(prompt=False, verify=False):
            raise RuntimeError("no key: set WANDB_API_KEY, or WANDB_MODE=offline")
        run = run or uuid.uuid4().hex[:16]
        settings = self.wandb.Settings(console="off", silent=True, init_timeout=SECONDS, login_timeout=SECONDS)
        self.run = self.wandb.init(
            **self.project, id=run, name=name, resume="allow", config=parameters, settings=settings
        )
        # A resumed run repeats steps, and wandb's own step only rises.
        self.run.define_metric("*", step_metric="step")
        return run

    def figures(self, step: int, figures: dict[str, float]) -> None:
        """Log figures with their step."""
        self.run.log({"step": step, **figures})

    def picture(self, name: str, picture: "Figure") -> None:
        """Log an image of the run."""
        buffer = io.BytesIO()
        picture.savefig(buffer, format="png")
        self.run.log({name: self.wandb.Image(Image.open(buffer))})

    def bundle(self, model_id: str, folder: Path) -> None:
        """Log an artifact of type model."""
        artifact = self.wandb.Artifact(f"ssvq-{model_id}", type="model")
        artifact.add_dir(str(folder))
        self.run.log_artifact(artifact)

    def end(self, *, finished: bool) -> None:
        """Send unsent data, and end."""
        self.run.finish(exit_code=0 if finished else 1)
