"""What a user says that labels mean."""

from dataclasses import dataclass

from ssvq.errors import InputError


@dataclass(frozen=True)
class Meaning:
    """What labels mean, as settings of LabelledImages say: `anomalous_classes` are values of masks, or categories of
    label tools; None: all but the normal ones. `normal_labels`: words for normal beside the known ones.
    """

    anomalous_classes: tuple[int | str, ...] | None = None
    normal_labels: tuple[str, ...] = ()

    @property
    def mask_values(self) -> tuple[int, ...] | None:
        """The anomalous values of a mask that is a picture. Raises InputError where categories are named."""
        if self.anomalous_classes is None:
            return None
        values = tuple(sorted(value for value in self.anomalous_classes if isinstance(value, int)))
        if len(values) < len(self.anomalous_classes):
            raise InputError(
                "--anomalous-classes names categories, and masks that are pictures have numbers: give these"
            )
        return values
