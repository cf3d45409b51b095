"""Lets rasterio read images that are not local files, through the storage module and its credentials."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from rasterio._err import CPLE_BaseError
from rasterio.abc import MultiByteRangeResourceContainer
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from ssvq.io import storage


class _Reader:
    """The open file for GDAL's plugin for Python files.

    No exception may leave it: it would stay pending in GDAL's code and surface anywhere. Instead it keeps the first
    failure, later reads are empty, and `FileOpener.watch` raises it. GDAL may open one file several times, so each
    reader has its own position.
    """

    def __init__(self, opener: "FileOpener") -> None:
        self._opener = opener
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        if self._opener.failure is not None:
            return b""
        try:
            self._opener.file.seek(self._position)
            data = self._opener.file.read(size)
        except OSError as error:
            self._opener.failure = error
            return b""
        self._position += len(data)
        return data

    def get_byte_ranges(self, offsets: list[int], sizes: list[int]) -> list[bytes]:
        """The blocks of a window, which GDAL asks for in one call; zeros after a failure, which nobody gets to see."""
        if self._opener.failure is None:
            try:
                return storage.read_ranges(self._opener.file, list(zip(offsets, sizes, strict=True)))
            except OSError as error:
                self._opener.failure = error
        return [bytes(size) for size in sizes]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._opener.length}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *_: object) -> None:
        pass  # the opener of the file closes it


class FileOpener(MultiByteRangeResourceContainer):
    """rasterio's `opener` for one open file, under one name.

    No other name is found through it, so no image leads GDAL to another file, and only the ranges that are read are
    requested. `failure`: the first error of a read.
    """

    def __init__(self, file: BinaryIO, path: str) -> None:
        self.file, self.path = file, path
        self.length = file.seek(0, os.SEEK_END)
        self.failure: OSError | None = None

    def watch(self, dataset: DatasetReader) -> None:
        """Make reads of an open dataset raise the storage's error (OSError). To GDAL the file only looks cut short."""
        for name in ("read", "read_masks", "dataset_mask"):
            setattr(dataset, name, self._watched(getattr(dataset, name)))

    def _watched(self, read: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*args: Any, **kwargs: Any) -> Any:
            with self.raising():
                return read(*args, **kwargs)

        return checked

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Raise `failure`, if there is one, instead of GDAL's error."""
        try:
            yield
        except (RasterioError, CPLE_BaseError):
            if self.failure is None:
                raise
        if self.failure is not None:
            raise self.failure

    def open(self, path: str, mode: str = "r", **_: Any) -> _Reader:
        if path != self.path:
            raise FileNotFoundError(path)
        return _Reader(self)

    def isfile(self, path: str) -> bool:
        return path == self.path

    def isdir(self, path: str) -> bool:
        return False

    def ls(self, path: str) -> list[str]:
        return []

    def mtime(self, path: str) -> int:
        return 0

    def rm(self, path: str) -> None:
        raise OSError(f"{path} is open for reading")

    def size(self, path: str) -> int:
        if path != self.path:
            raise FileNotFoundError(path)
        return self.length
