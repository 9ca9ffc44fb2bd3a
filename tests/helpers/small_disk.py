"""File systems that are soon full, for tests of writers."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of so many bytes, or None where mounting is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    mounted = (
        shutil.which("mount") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def full_but_for(disk, left):
    """Fill a disk up to ``left`` bytes; they are free again after the block."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    # Folders take a page each time they grow, so whole pages alone count.
    pages = free.f_bavail - left // free.f_frsize
    ballast.write_bytes(bytes(max(0, pages) * free.f_frsize))
    try:
        yield
    finally:
        ballast.unlink()
