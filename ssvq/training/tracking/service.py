"""What a tracker does, whichever it is."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # else loaded with what is drawn
    from matplotlib.figure import Figure


class Service(ABC):
    """One run of a tracker. Any method may raise anything, and may take its time: `Tracking` sees to that."""

    @abstractmethod
    def begin(self, run: str | None, name: str, parameters: dict[str, str]) -> str:
        """Begin a run, or go on with the one of this id. Returns its id."""

    @abstractmethod
    def figures(self, step: int, figures: dict[str, float]) -> None:
        """Note the figures of a step."""

    @abstractmethod
    def picture(self, name: str, picture: "Figure") -> None:
        """Keep a picture."""

    @abstractmethod
    def bundle(self, model_id: str, folder: Path) -> None:
        """Keep the files of a bundle."""

    @abstractmethod
    def end(self, *, finished: bool) -> None:
        """End the run, as finished or as failed."""
