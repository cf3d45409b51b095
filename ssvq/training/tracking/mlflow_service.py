"""MLflow, through its client alone: it changes no global state, and `mlflow-skinny` suffices."""

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ssvq.training.tracking.service import Service

if TYPE_CHECKING:  # else loaded with what is drawn
    from matplotlib.figure import Figure

EXPERIMENT = "ssvq"  # unless MLFLOW_EXPERIMENT_NAME names another
PARAMETERS_AT_ONCE, MOST_CHARACTERS = 100, 6000  # MLflow's own limits
# Give up a server that does not answer after seconds; MLflow's own limits are minutes.
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class MLflow(Service):
    """A run of MLflow. `uri`: None for MLFLOW_TRACKING_URI."""

    def __init__(self, uri: str | None) -> None:
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient  # takes seconds to load

        for noisy in ("mlflow", "alembic", "urllib3.connectionpool"):  # errors are reported in one line
            logging.getLogger(noisy).setLevel(logging.ERROR)

        self.client = MlflowClient(tracking_uri=uri)
        self.run = ""

    def begin(self, run: str | None, name: str, parameters: dict[str, str]) -> str:
        """Begin in the experiment of MLFLOW_EXPERIMENT_NAME, or in `ssvq`."""
        from mlflow.entities import Param

        if run is not None:
            self.client.set_terminated(run, "RUNNING")
            self.run = run
            return run
        wanted = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self.client.get_experiment_by_name(wanted)
        experiment = self.client.create_experiment(wanted) if found is None else found.experiment_id
        self.run = self.client.create_run(experiment, run_name=name).info.run_id
        told = [Param(key, value[:MOST_CHARACTERS]) for key, value in parameters.items()]
        for start in range(0, len(told), PARAMETERS_AT_ONCE):
            self.client.log_batch(self.run, params=told[start : start + PARAMETERS_AT_ONCE])
        return self.run

    def figures(self, step: int, figures: dict[str, float]) -> None:
        """Log metrics of the step."""
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        self.client.log_batch(self.run, metrics=[Metric(name, value, now, step) for name, value in figures.items()])

    def picture(self, name: str, picture: "Figure") -> None:
        """Log an artifact."""
        self.client.log_figure(self.run, picture, f"{name}.png")

    def bundle(self, model_id: str, folder: Path) -> None:
        """Log artifacts under bundle/."""
        self.client.set_tag(self.run, "model_id", model_id)
        self.client.log_artifacts(self.run, str(folder), "bundle")

    def end(self, *, finished: bool) -> None:
        """End as FINISHED or FAILED."""
        self.client.set_terminated(self.run, "FINISHED" if finished else "FAILED")
