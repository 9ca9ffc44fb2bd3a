"""Helpers for the tests of preparing a cache, in this process or in a script."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from rlmba.data.media.prepare import prepare
from tests.helpers import cache_media

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.helpers import cache_media
from rlmba.data.media.prepare import prepare
if __name__ == "__main__":
    root, out = map(Path, sys.argv[1:])
    prepare(cache_media.catalogue(root), cache_media.RECIPE, out, workers=2,
            decode=cache_media.{decode})
"""


def make(source, out, *, workers=1, decode=cache_media.decode, recipe=cache_media.RECIPE, **more):
    return prepare(source, recipe, out, workers=workers, decode=decode, **more)


def content(out):
    """The bytes of all files of a cache."""
    return {
        str(p.relative_to(out)): p.read_bytes()
        for p in sorted(out.rglob("*"))
        if p.is_file() and p.name != "lock"
    }


def script_text(decode="decode_slowly"):
    return SCRIPT.format(tests=str(Path(__file__).parents[2]), decode=decode)


def start(tmp_path, source, out, decode="decode_slowly"):
    script = tmp_path / "script.py"
    script.write_text(script_text(decode))
    return subprocess.Popen(
        [sys.executable, str(script), str(source.root), str(out)], stderr=subprocess.PIPE, text=True
    )


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def finished(out):
    return len(list((out / "shards").glob("*.json")))


def children(process):
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()
