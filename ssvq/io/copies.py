"""Copies of S3 objects on a node's disk, for readers that map files into memory. All processes of the node share
them.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssvq.io import storage

COPIES = "ssvq-tiles"  # folder of the copies, within the machine's temporary folder
SHARE_OF_DISK = 0.5


def local_copy(address: str, *, within: Path | None = None, share: float = SHARE_OF_DISK) -> Path:
    """A local file that holds an object: the object itself, or a copy of one on S3, made if it is missing.

    The copies that were unused for longest make room for it. `within`: the folder that contains the folder of copies
    (default: the machine's temporary folder). `share`: largest share of the free space, including the copies, for
    copies. Raises OSError if the disk has no room.
    """
    path = storage.local_path(address)
    if path is not None:
        return Path(path)
    folder = (within or Path(tempfile.gettempdir())) / f"{COPIES}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / hashlib.sha256(address.encode()).hexdigest()
    if not target.exists():
        with _locked(folder / ".lock"):
            if not target.exists():  # no other process has copied it meanwhile
                data = storage.read_bytes(address)
                _make_room(folder, len(data), share)
                unfinished = target.with_suffix(".part")
                unfinished.write_bytes(data)
                unfinished.replace(target)
    os.utime(target)
    return target


def _make_room(folder: Path, size: int, share: float) -> None:
    """Remove copies, the longest unused first, until one more of this size fits the share of the disk.

    A process that has mapped a removed copy keeps it.
    """
    copies = sorted((path for path in folder.iterdir() if path.name != ".lock"), key=lambda path: path.stat().st_mtime)
    taken = sum(path.stat().st_size for path in copies)
    disk = os.statvfs(folder)
    allowed = share * (disk.f_bavail * disk.f_frsize + taken)
    if size > allowed:
        raise OSError(f"{folder} has no room for a tile cache's file of {size / 1e6:.0f} MB: free some of the disk")
    for path in copies:
        if taken + size <= allowed:
            return
        taken -= path.stat().st_size
        path.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock: one process of the node at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
