"""What a mask means: the class of each pixel, by rules that follow what people draw with.

| mask | normal | anomalous |
|---|---|---|
| palette | black, whatever its index; index 0 where no colour is black | every other colour |
| palette or grey, with `--anomalous-classes` | every other id | these ids |
| colour | black | every other colour |
| grey with few values | 0 | every other value: ids of classes |
| grey with the levels of video, 16 and 235 | 16 | 235 |
| grey with many values near black and white, as JPEG and smooth edges have them | under 128 | 128 and over |
| grey with many values between | refused | |
| transparent pixels of any mask | always | |

A mask is drawn over the upright picture where EXIF says that the photograph is turned, and is turned with it; one that
only fits the stored pixels is taken as it is.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window

from ssvq import logs
from ssvq.errors import ImageError
from ssvq.imagery.pixels import picture_bands, stored_bits, zero_is_white
from ssvq.imagery.turns import find_turn

ANOMALOUS = 255
"""The class of an anomalous pixel that has no class id of its own."""

MOST_CLASSES = 32  # distinct values of a grey mask; with more they are shades
SHADES = 40  # from black, and from white, within which shades are noise
LEAST_CLEAR = 0.95  # share of the pixels that is within
VIDEO_BLACK, VIDEO_WHITE, VIDEO_NOISE = 16, 235, 2
LOOK_SIDE = 1024  # sampled pixels of a grey mask, to tell its kind
LOSSY = ("JPEG", "WEBP")
NEARLY_ALL = 0.78  # share of an image; a mask above it is more often inverted than right
NAMED = 5  # such masks, at most


class MaskReader:
    """An open mask, and how it maps to classes and pixels of the stored image.

    `image_size`: of the stored image, (width, height); `orientation`: of the image, by EXIF.

    Raises ImageError (stage `mask`) if the mask fits neither the upright nor the stored image, for a grey mask of
    shades, and for a mask in colour if class ids are asked for.
    """

    def __init__(
        self,
        mask: DatasetReader,
        image_size: tuple[int, int],
        classes: tuple[int, ...] | None = None,
        orientation: int | None = None,
    ) -> None:
        self._mask, self._classes, self._image_size = mask, classes, image_size
        turn = find_turn((mask.width, mask.height), image_size, orientation)
        if turn is None:
            width, height = image_size
            raise ImageError(
                "mask",
                f"mask is {mask.width}x{mask.height} but the image is {width}x{height}: draw it again at the size of "
                "the image",
            )
        self._turn = turn
        self._bands = picture_bands(mask)
        if classes is not None and len(self._bands) > 1:
            raise ImageError("mask", "mask is in colour and has no class ids: omit --anomalous-classes")
        self._alpha = next(
            (band for band, colour in enumerate(mask.colorinterp, 1) if colour == ColorInterp.alpha and band > 1), None
        )
        self._normal_ids = None
        if classes is None and mask.colorinterp[0] == ColorInterp.palette:
            self._normal_ids = self._black_ids()
        self._threshold = self._find_threshold()

    def read(self, window: Window, shape: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Class of each pixel of a window of the stored image: uint8 (height, width) of the window or of `shape`; 0 is
        normal.
        """
        return self._turn.read(window, shape, self._image_size, self._read_upright)

    def _read_upright(self, window: Window, shape: tuple[int, int]) -> NDArray[np.uint8]:
        values = self._mask.read(self._bands, window=window, out_shape=(len(self._bands), *shape))
        if len(self._bands) > 1:
            classes = np.any(values >= (self._threshold or 1), axis=0) * np.uint8(ANOMALOUS)
        else:
            classes = self._of_plane(values[0])
        if self._alpha is not None:
            classes[self._mask.read(self._alpha, window=window, out_shape=shape) == 0] = 0
        return classes

    def _of_plane(self, plane: NDArray[Any]) -> NDArray[np.uint8]:
        plane = np.nan_to_num(plane)  # NaN is no class
        if zero_is_white(self._mask) and self._normal_ids is None:
            plane = 2 ** stored_bits(self._mask, 1, 8 * plane.itemsize) - 1 - plane
        if self._threshold is not None:
            return (plane >= self._threshold) * np.uint8(ANOMALOUS)
        ids = np.clip(plane, 0, ANOMALOUS).astype(np.uint8)
        ids[(plane != 0) & (ids == 0)] = ANOMALOUS  # fractions and negative numbers are not 0 either
        if self._classes is not None:
            return np.where(np.isin(ids, self._classes), ids, np.uint8(0))
        if self._normal_ids is not None:
            ids[plane == 0] = ANOMALOUS  # unless its colour means normal
            ids[np.isin(plane, self._normal_ids)] = 0
        return ids

    def _black_ids(self) -> list[int]:
        """Indices of a palette that are black or transparent; 0 if none is black."""
        colours = self._mask.colormap(1)
        black = [index for index, colour in colours.items() if colour[:3] == (0, 0, 0) and colour[3]]
        clear = [index for index, colour in colours.items() if not colour[3]]
        used = {*np.unique(self._look()).tolist()}
        # Palettes are often filled with black behind their colours: only colours in use count.
        return [*(black if used & set(black) else [0]), *clear]

    def _find_threshold(self) -> int | None:
        """The value from which a pixel of a mask of shades is anomalous; None if values are ids of classes."""
        lossy = self._mask.driver in LOSSY
        if self._normal_ids is not None or self._classes is not None or self._mask.dtypes[0] != "uint8":
            return None
        if len(self._bands) > 1:
            return 128 if lossy else None
        values, counts = np.unique(self._look(), return_counts=True)
        levels = np.minimum(np.abs(values.astype(int) - VIDEO_BLACK), np.abs(values.astype(int) - VIDEO_WHITE))
        if (levels <= VIDEO_NOISE).all():
            return 128
        if not lossy and len(values) <= MOST_CLASSES:
            return None
        clear = counts[(values <= SHADES) | (values >= 255 - SHADES)].sum() / counts.sum()
        if clear < LEAST_CLEAR:
            raise ImageError(
                "mask",
                f"mask has {len(values)} shades of grey, {1 - clear:.0%} of it neither black nor white: what is "
                "anomalous is not clear; save it in black and white, or as ids of classes",
            )
        return 128

    def _look(self) -> NDArray[np.generic]:
        """Values of pixels from all over the mask, without mixing neighbours."""
        mask = self._mask
        shape = (min(mask.height, LOOK_SIDE), min(mask.width, LOOK_SIDE))
        found: NDArray[np.generic] = mask.read(1, out_shape=shape, resampling=Resampling.nearest)
        return found


def tell_full_masks(images: Sequence[str], fractions: NDArray[np.floating], masked: Iterable[str]) -> None:
    """Warn about masks that call nearly all of their image anomalous, as an inverted mask does.

    Uses the anomalous share of each tile and the image that it belongs to. `masked`: the images that have a mask.
    """
    names, tiles = np.unique(np.asarray(images, dtype=np.str_), return_inverse=True)
    shares = np.bincount(tiles, fractions, len(names)) / np.bincount(tiles, minlength=len(names))
    known = set(masked)
    shared = sorted(zip(shares.tolist(), names.tolist(), strict=True), reverse=True)
    full = [(share, name) for share, name in shared if share >= NEARLY_ALL and name in known]
    for share, name in full[:NAMED]:
        logs.warning(f"warning: the mask of {name} calls {share:.0%} of it anomalous: is it inverted?")
    if len(full) > NAMED:
        logs.warning(f"warning: {len(full) - NAMED} more masks call over {NEARLY_ALL:.0%} of their image anomalous")
