"""What labels mean, by the settings."""

from dataclasses import dataclass

from ssvq.errors import InputError


@dataclass(frozen=True)
class Meaning:
    """What labels mean. `anomalous_classes`: values of masks, or categories of label tools; None: all but the normal
    ones. `normal_labels`: words for normal besides the known ones.
    """

    anomalous_classes: tuple[int | str, ...] | None = None
    normal_labels: tuple[str, ...] = ()

    @property
    def mask_values(self) -> tuple[int, ...] | None:
        """The anomalous values of a mask that is a picture. Raises InputError if the setting names categories."""
        if self.anomalous_classes is None:
            return None
        values = tuple(sorted(value for value in self.anomalous_classes if isinstance(value, int)))
        if len(values) < len(self.anomalous_classes):
            raise InputError(
                "--anomalous-classes names categories, and masks that are pictures have numbers: give these"
            )
        return values
