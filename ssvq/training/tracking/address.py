"""The address in `--track`: a service, and its location."""

from dataclasses import dataclass
from typing import Literal

from ssvq.redaction import refuse_credentials

FORMS = "mlflow, mlflow://HOST:PORT, mlflow+URI such as mlflow+sqlite:///runs.db, wandb, or wandb://ENTITY/PROJECT"


@dataclass(frozen=True)
class Address:
    """`target`: MLflow's tracking URI, or ENTITY/PROJECT of Weights & Biases; None if the service's own variables
    set it.
    """

    service: Literal["mlflow", "wandb"]
    target: str | None


def parse_address(text: str) -> Address:
    """Parse an address. Raises ValueError if it names no tracker."""
    scheme, separator, rest = text.partition("://")
    rest = rest.strip("/")
    if text == "mlflow":
        return Address("mlflow", None)
    if text.startswith("mlflow+") and text != "mlflow+":
        return Address("mlflow", text.removeprefix("mlflow+"))
    if scheme == "mlflow" and rest:
        return Address("mlflow", f"http://{rest}")
    if text == "wandb":
        return Address("wandb", None)
    if scheme == "wandb" and separator and rest and rest.count("/") <= 1:
        return Address("wandb", rest)
    raise ValueError(f"is not a tracker: give {FORMS}")


def check_address(text: str) -> str:
    """Returns the address. Raises ValueError as `parse_address`, and for an address with a password in it."""
    refuse_credentials(text, "give credentials by the tracker's own variables, such as MLFLOW_TRACKING_TOKEN")
    parse_address(text)
    return text
