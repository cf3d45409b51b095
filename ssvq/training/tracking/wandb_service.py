"""Weights & Biases. With WANDB_MODE=offline everything is kept on this machine, for `wandb sync`."""

import io
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ssvq.training.tracking.service import Service

if TYPE_CHECKING:  # else loaded with what is drawn
    from matplotlib.figure import Figure

PROJECT = "ssvq"  # where neither the address nor WANDB_PROJECT names another
SECONDS = 30  # for the service to answer


class WeightsAndBiases(Service):
    """A run of Weights & Biases. `target`: PROJECT or ENTITY/PROJECT; None for those of its own variables."""

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
        """Nobody is asked for a key: without one, and not offline, this fails."""
        online = os.environ.get("WANDB_MODE", "online") == "online"
        if online and not self.wandb.login(prompt=False, verify=False):
            raise RuntimeError("no key: set WANDB_API_KEY, or WANDB_MODE=offline")
        run = run or uuid.uuid4().hex[:16]
        settings = self.wandb.Settings(console="off", silent=True, init_timeout=SECONDS, login_timeout=SECONDS)
        self.run = self.wandb.init(
            **self.project, id=run, name=name, resume="allow", config=parameters, settings=settings
        )
        # Steps are repeated by a run that goes on from a checkpoint, and wandb's own only rise.
        self.run.define_metric("*", step_metric="step")
        return run

    def figures(self, step: int, figures: dict[str, float]) -> None:
        """Beside their step."""
        self.run.log({"step": step, **figures})

    def picture(self, name: str, picture: "Figure") -> None:
        """As an image of the run."""
        buffer = io.BytesIO()
        picture.savefig(buffer, format="png")
        self.run.log({name: self.wandb.Image(Image.open(buffer))})

    def bundle(self, model_id: str, folder: Path) -> None:
        """As an artifact of the type model."""
        artifact = self.wandb.Artifact(f"ssvq-{model_id}", type="model")
        artifact.add_dir(str(folder))
        self.run.log_artifact(artifact)

    def end(self, *, finished: bool) -> None:
        """With what is still to be sent."""
        self.run.finish(exit_code=0 if finished else 1)
