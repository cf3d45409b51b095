"""Copies of objects of S3 on a node's disk."""

import os
from pathlib import Path

import pytest

from ssvq.io import storage
from ssvq.io.copies import local_copy
from tests.support.s3 import s3_bucket, s3_server  # noqa: F401


def test_a_local_file_is_its_own_copy(tmp_path: Path) -> None:
    assert local_copy(str(tmp_path / "a.arrow")) == tmp_path / "a.arrow"


def test_an_object_is_copied_once_and_the_longest_unused_makes_room(s3_bucket: str, tmp_path: Path) -> None:  # noqa: F811
    addresses = [f"{s3_bucket}/{tmp_path.name}/{name}.arrow" for name in "abc"]
    for address in addresses:
        storage.put(address, address[-7:-6].encode() * 1000)
    first, second = (local_copy(address, within=tmp_path) for address in addresses[:2])
    assert (first.read_bytes(), second.read_bytes()) == (b"a" * 1000, b"b" * 1000)
    storage.remove(addresses[0])
    assert local_copy(addresses[0], within=tmp_path) == first, "nothing is asked of S3 again"
    os.utime(first, (1, 1))
    room = os.statvfs(tmp_path)
    free = room.f_bavail * room.f_frsize
    third = local_copy(addresses[2], within=tmp_path, share=2500 / free)
    assert [path.exists() for path in (first, second, third)] == [False, True, True]
    storage.put(addresses[0], bytes(1000))
    with pytest.raises(OSError, match="has no room for a tile cache's file of 0 MB: free some of the disk"):
        local_copy(addresses[0], within=tmp_path, share=10 / free)
