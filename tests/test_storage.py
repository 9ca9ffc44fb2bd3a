from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from rlmba.errors import StorageError
from rlmba.storage import atomic_write_bytes, atomic_write_text


def test_writes_and_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    atomic_write_text(path, "één\n")
    assert path.read_bytes() == "één\n".encode()
    atomic_write_bytes(path, b"")
    assert path.read_bytes() == b""
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        atomic_write_bytes(tmp_path / "a", b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_missing_folder(tmp_path):
    with pytest.raises(StorageError, match="create its folder"):
        atomic_write_bytes(tmp_path / "none" / "a", b"x")


def test_write_that_fails_half_way_harms_nothing(tmp_path):
    """A file-size limit stops a real write in its middle, as a full disk does."""
    path = tmp_path / "weights"
    path.write_bytes(b"before")
    code = (
        "import resource, sys\n"
        "from rlmba.errors import StorageError\n"
        "from rlmba.storage import atomic_write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    atomic_write_bytes(sys.argv[1], b'x' * 200_000)\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert "is unharmed: free at least 200,000 bytes" in done.stdout
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]


def test_full_disk(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    path.write_bytes(b"before")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        atomic_write_bytes(path, b"after")
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]
