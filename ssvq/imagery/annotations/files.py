"""Labelled images from files of label tools. Images are matched to the file's entries by name."""

from ssvq import logs
from ssvq.errors import ImageError, InputError
from ssvq.imagery.annotations.content import AnnotatedImage
from ssvq.imagery.annotations.labelling import Labelling, anomalous_categories
from ssvq.imagery.annotations.names import ImageNames
from ssvq.imagery.annotations.reading import SUFFIXES, read_annotations
from ssvq.imagery.catalog import SourceImage
from ssvq.imagery.meaning import Meaning

ENTRY = "#"  # between a file and the name by which it calls an image


class AnnotationFile:
    """An open file of a label tool. Raises InputError as `read_annotations`, and for classes that it does not have."""

    def __init__(self, address: str, setting: str, meaning: Meaning) -> None:
        self.address = address
        self.said = read_annotations(address, setting)
        anomalous = anomalous_categories(self.said, meaning.anomalous_classes, meaning.normal_labels)
        self._labelling = Labelling(anomalous)
        self._names = ImageNames(
            (name, number) for number, image in enumerate(self.said.images) for name in image.names
        )

    def find(self, path: str) -> list[AnnotatedImage]:
        """The entry of an image, by its path or address; several if their names cannot be told apart."""
        return [self.said.images[number] for number in self._names.find(path)]

    def label(self, image: SourceImage, said: AnnotatedImage) -> SourceImage:
        """The image with its labels, as in Labelling."""
        return self._labelling.apply(image, said, f"{self.address}{ENTRY}{said.names[0]}")

    def tell(self) -> None:
        """Print which categories are anomalous, and what is not read from the file."""
        anomalous = self._labelling.anomalous
        normal = [name for name in self.said.categories if name not in anomalous]
        lines = [f"anomalous: {', '.join(sorted(anomalous)) or 'nothing'}"]
        lines += [f"normal: {', '.join(normal)}"] if normal else []
        logs.info(f"{self.said.tool} annotations: {'; '.join(lines)} (--anomalous-classes, --normal-labels)")
        not_read = ", ".join(f"{number} {kind}" for kind, number in sorted(self.said.passed_over.items()))
        if not_read:
            logs.warning(f"warning: not read from {self.address}: {not_read}")
        for what, number in sorted(self._labelling.counts.items()):
            logs.warning(f"warning: {number} shapes of {self.address} {what}")


def find_annotated(
    images: list[SourceImage], root: str, address: str, meaning: Meaning
) -> tuple[list[SourceImage], list[tuple[SourceImage, ImageError]]]:
    """Images of a folder that the file names, with their labels; and those whose labels cannot be used.

    Images that the file does not name or that nobody has labelled, and names without an image, are left out and counted
    in warnings.

    Raises InputError if the file cannot be used, is about other images, or has ambiguous names.
    """
    file = AnnotationFile(address, "--annotations", meaning)
    setting = f"--annotations {address}"
    labelled: list[SourceImage] = []
    failed: list[tuple[SourceImage, ImageError]] = []
    meant: dict[int, SourceImage] = {}
    others: list[SourceImage] = []
    for image in images:
        found = file.find(image.path)
        if not found:
            others.append(image)
            continue
        said = found[0]
        if len(found) > 1:
            names = f"{said.names[0]} and {found[1].names[0]}"
            raise InputError(f"{setting}: {names} may both be {image.path} of --images {root}: keep one")
        if (other := meant.get(id(said))) is not None:
            alike = f"{other.path} and {image.path} of --images {root}"
            raise InputError(f"{setting}: {said.names[0]} may be {alike}: write its folder before its name")
        meant[id(said)] = image
        try:
            labelled.append(file.label(image, said))
        except ImageError as error:
            failed.append((image, error))
    _check_any(meant, file, setting, f"--images {root}, which has {images[0].path}")
    file.tell()
    missing = [said.names[0] for said in file.said.images if id(said) not in meant]
    _tell_left_out([image.path for image in others], missing, file, root)
    return labelled, failed


def _check_any(meant: dict[int, SourceImage], file: AnnotationFile, setting: str, images: str) -> None:
    if not file.said.images:
        raise InputError(f"{setting}: none of its {len(file.said.unlabelled)} images has been labelled yet")
    if not meant:
        raise InputError(f"{setting} is about other images than {images}: it names {file.said.images[0].names[0]}")


def _tell_left_out(others: list[str], missing: list[str], file: AnnotationFile, root: str) -> None:
    """Warn about images of the folder without labels in the file, and about images of the file that are missing."""
    waiting = ImageNames((name, number) for number, names in enumerate(file.said.unlabelled) for name in names)
    unlabelled = [path for path in others if waiting.find(path)]
    unknown = [path for path in others if not waiting.find(path)]
    for paths, what in (
        (unlabelled, f"of --images {root} are not labelled yet"),
        (unknown, f"of --images {root} are not named by {file.address}"),
        (missing, f"of {file.address} are not in --images {root}"),
    ):
        if paths:
            logs.warning(f"warning: left out: {len(paths)} images {what}, such as {paths[0]}")


def annotation_file(mask: str) -> tuple[str, str | None] | None:
    """The file of a label tool that a manifest gives as a mask, and the file's name for the image, if given. None
    for a mask that is a picture.
    """
    if mask.lower().endswith(SUFFIXES):
        return mask, None
    for suffix in SUFFIXES:
        address, entry, name = mask.partition(f"{suffix}{ENTRY}")
        if entry:
            return f"{address}{suffix}", name
    return None
