"""The interface of a tracker."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # else loaded with what is drawn
    from matplotlib.figure import Figure


class Service(ABC):
    """One run of a tracker. Any method may raise and may take time: `Tracking` handles both."""

    @abstractmethod
    def begin(self, run: str | None, name: str, parameters: dict[str, str]) -> str:
        """Begin a run, or continue the one with this id. Returns its id."""

    @abstractmethod
    def figures(self, step: int, figures: dict[str, float]) -> None:
        """Log the figures of a step."""

    @abstractmethod
    def picture(self, name: str, picture: "Figure") -> None:
        """Log a picture."""

    @abstractmethod
    def bundle(self, model_id: str, folder: Path) -> None:
        """Log the files of a bundle."""

    @abstractmethod
    def end(self, *, finished: bool) -> None:
        """End the run, as finished or as failed."""
