"""Pairs images of two surveys that may show the same place: by ground, by a key, or by camera position."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ssvq.errors import InputError
from ssvq.results.findings.settings import FindingsConfig
from ssvq.results.ground import footprint, is_placed
from ssvq.scores.ledger_row import ImageRow

How = Literal["ground", "view", "features"]
"""How one image maps to the other: by georeferences, not at all since they show one view, or by common features."""

EARTH = 6_371_000.0  # metres
MOST_NEAR = 4  # earlier photographs, at most, that a photograph is registered with
MOST_OF_KEY = 50


@dataclass(frozen=True)
class Candidate:
    """An earlier image, by its index, that may show what a later image shows."""

    earlier: int
    how: How


@dataclass(frozen=True)
class Pairing:
    """`candidates` of each later image, and the addresses of images without any, by reason."""

    candidates: list[list[Candidate]]
    alone: dict[str, list[str]] = field(default_factory=dict)


def pair_images(config: FindingsConfig, later: Sequence[ImageRow], earlier: Sequence[ImageRow]) -> Pairing:
    """Pair images of the survey and of `config.previous`.

    An image with a key is paired with the images that have its key. Otherwise, an image with a georeference is paired
    with those on the same ground, and a photograph with a position with those taken nearby.

    Raises InputError if the pattern does not distinguish images, or if no image has any of the three.
    """
    by_key = _by_key(config, earlier, f"survey {config.previous!r}")
    keys = {index: key for key, found in _by_key(config, later, f"survey {config.survey!r}").items() for index in found}
    ground, near = _OnGround(earlier), _Nearby(earlier, config.within)
    candidates: list[list[Candidate]] = []
    alone: dict[str, list[str]] = defaultdict(list)
    for index, image in enumerate(later):
        if keys.get(index) in by_key:
            found = [Candidate(other, _how(config, image, earlier[other])) for other in by_key[keys[index]]]
            reason = ""
        elif is_placed(image):
            found, reason = ground.candidates(image), f"no image of {config.previous!r} shows their ground"
        elif image.latitude is not None and image.longitude is not None:
            found = near.candidates(image)
            reason = f"no image of {config.previous!r} was taken within {config.within:g} m of theirs"
        elif index in keys:
            found, reason = [], f"no image of {config.previous!r} has their key"
        else:
            found, reason = [], NO_PLACE
        candidates.append(found)
        if not found:
            alone[reason].append(image.image_uri)
    if len(alone.get(NO_PLACE, ())) == len(later):
        given = f"and none matches --pair-pattern {config.pair_pattern!r}" if config.pair_pattern else ""
        raise InputError(
            f"images of survey {config.survey!r} have neither a georeference nor a position in EXIF{', ' * bool(given)}"
            f"{given}: give a --pair-pattern that finds the same key in the addresses of both surveys"
        )
    return Pairing(candidates, dict(alone))


NO_PLACE = "they have neither a georeference nor a position, and no key by --pair-pattern"


def _by_key(config: FindingsConfig, images: Sequence[ImageRow], what: str) -> dict[str, list[int]]:
    """Indices of images by the key that the pattern finds in their address."""
    found: dict[str, list[int]] = defaultdict(list)
    if config.pair_pattern is None:
        return found
    for index, image in enumerate(images):
        match = re.search(config.pair_pattern, image.image_uri)
        if match:
            found[(match[1] if match.re.groups else match[0]) or ""].append(index)
    key, most = max(found.items(), key=lambda item: len(item[1]), default=("", []))
    if len(most) > MOST_OF_KEY:
        raise InputError(
            f"--pair-pattern {config.pair_pattern!r} finds the key {key!r} in {len(most):,} images of {what}: give a "
            f"pattern that tells views apart (at most {MOST_OF_KEY} images of a key)"
        )
    return found


def _how(config: FindingsConfig, later: ImageRow, earlier: ImageRow) -> How:
    if config.same_view:
        return "view"
    return "ground" if is_placed(later) and is_placed(earlier) else "features"


class _OnGround:
    """Earlier images by their footprints in longitude and latitude."""

    def __init__(self, images: Sequence[ImageRow]) -> None:
        outlines = [(index, footprint(image)) for index, image in enumerate(images) if is_placed(image)]
        self.placed = [index for index, outline in outlines if outline is not None]
        self.tree = shapely.STRtree([outline for _, outline in outlines if outline is not None])

    def candidates(self, image: ImageRow) -> list[Candidate]:
        outline = footprint(image)
        if outline is None:
            return []
        return [Candidate(self.placed[at], "ground") for at in sorted(self.tree.query(outline, predicate="intersects"))]


class _Nearby:
    """Earlier photographs by the place that they were taken from."""

    def __init__(self, images: Sequence[ImageRow], within: float) -> None:
        known = [
            (index, image.latitude, image.longitude)
            for index, image in enumerate(images)
            if not is_placed(image) and image.latitude is not None and image.longitude is not None
        ]
        self.positions = [index for index, _, _ in known]
        self.tree = cKDTree(_on_sphere(np.array([place for _, *place in known], float).reshape(-1, 2)))
        self.within = within

    def candidates(self, image: ImageRow) -> list[Candidate]:
        if not self.positions:
            return []
        place = _on_sphere(np.array([[image.latitude, image.longitude]], float))[0]
        distances, found = self.tree.query(place, k=MOST_NEAR, distance_upper_bound=self.within)
        return [
            Candidate(self.positions[at], "features")
            for distance, at in zip(distances.tolist(), found.tolist(), strict=True)
            if math.isfinite(distance)
        ]


def _on_sphere(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Metres (n, 3) from the middle of the earth, of latitudes and longitudes (n, 2) in degrees."""
    latitude, longitude = np.radians(places).T
    level = np.cos(latitude)
    return EARTH * np.stack([level * np.cos(longitude), level * np.sin(longitude), np.sin(latitude)], axis=1)
