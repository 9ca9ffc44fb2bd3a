"""Preparing a cache that is killed, interrupted or run twice at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlmba.data.media import plan
from rlmba.data.media.cache import CacheReader, is_cache, read_cache_info, verify
from rlmba.errors import DataError, UsageError
from rlmba.reading.structured import read_versioned
from tests.helpers import cache_media
from tests.helpers.prepare_helpers import (
    children,
    content,
    finished,
    make,
    script_text,
    start,
    wait_for,
)


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(source, tmp_path, log, whole):
    out = tmp_path / "c"
    process = start(tmp_path, source, out)
    wait_for(lambda: finished(out) >= 3)
    workers = children(process.pid)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    # Workers end with their parent, whatever they were doing.
    wait_for(lambda: not any(Path(f"/proc/{w}/cmdline").exists() for w in workers), 20)
    done = finished(out)
    assert 3 <= done < 8
    kept = {p.name: p.stat().st_ino for p in (out / "shards").iterdir() if p.suffix == ".json"}
    info = read_cache_info(out)
    assert (info.waiting > 0, len(info.ids) > 0) == (True, True)
    reader = CacheReader(out)
    for position in range(len(reader)):
        reader.read(position)
    # What a kill at another moment may leave.
    for name in (".00007.safetensors.0123abcd.tmp", "00099.safetensors.tmp"):
        (out / "shards" / name).write_bytes(b"half")
    (out / "shards" / "00099.safetensors.tmp").unlink()
    (out / ".cache.json.0123abcd.tmp").write_text("half")

    before = len(log())
    make(source, out, workers=2)
    assert len(log()) - before == info.waiting
    assert content(out) == whole
    assert {n: (out / "shards" / n).stat().st_ino for n in kept} == kept


@pytest.mark.slow
def test_workers_do_not_outlive_their_parent(source, tmp_path, log):
    """This includes workers whose decoder never returns."""
    process = start(tmp_path, source, tmp_path / "c", "decode_forever")
    wait_for(lambda: len(log()) == 2)
    workers = children(process.pid)
    process.kill()
    process.wait()
    process.stderr.close()
    wait_for(lambda: not any(Path(f"/proc/{w}/cmdline").exists() for w in workers), 20)


def test_stopped_by_an_error_it_leaves_no_half_file(source, tmp_path, log):
    with pytest.raises(UsageError, match="stop"):
        make(source, tmp_path / "c", decode=cache_media.leave_half_a_file)
    assert list((tmp_path / "c" / "shards").iterdir()) == []


@pytest.mark.parametrize("delay", [0.0, 0.4])
def test_killed_at_any_moment_it_leaves_nothing_to_be_taken_for_good(
    source, tmp_path, delay, whole
):
    out = tmp_path / "c"
    process = start(tmp_path, source, out)
    wait_for(out.is_dir)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    if (out / "cache.json").exists():
        verify(out)
    time.sleep(0.2)  # for its workers to end
    make(source, out)
    assert content(out) == whole


@pytest.mark.slow
def test_killed_at_any_rename_it_goes_on_and_readers_see_whole_caches_alone(
    source, tmp_path, log, whole
):
    """The list of samples, the header, a shard, its note; at last the last note of all."""
    out = tmp_path / "c"
    moments = [
        (0, "before"),
        (0, "after"),
        (1, "before"),
        (0, "before"),
        (1, "after"),
        (4, "before"),
    ]
    for number, when in moments:
        kill_at_rename(tmp_path, source, out, number, when)
        read_all(out)
    make(source, out)
    assert content(out) == whole

    last = out / "shards" / "00007.json"
    for when in ("before", "after"):
        last.unlink(missing_ok=True)
        kill_at_rename(tmp_path, source, out, 1, when)
        assert last.exists() == (when == "after")
        read_all(out)
    before = len(log())
    make(source, out)
    assert len(log()) == before
    assert content(out) == whole


def kill_at_rename(tmp_path, source, out, number, when):
    """Prepare, and kill -9 all its processes before or after one of the renames that make a file whole."""
    script = tmp_path / f"kill_{number}_{when}.py"
    dying = (
        f"cache_media.die_at_rename({str(script.with_suffix('.count'))!r}, {number}, {when!r})\n"
    )
    script.with_suffix(".count").write_bytes(b"")
    guard = 'if __name__ == "__main__"'
    script.write_text(script_text("decode").replace(guard, dying + guard).replace("=2", "=1"))
    done = subprocess.run(
        [sys.executable, str(script), str(source.root), str(out)],
        start_new_session=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


def read_all(out):
    """Read a cache, which may not exist yet."""
    if is_cache(out):
        info = read_cache_info(out)
        reader = CacheReader(out)
        assert len(reader) == len(info.ids)
        for position in range(len(reader)):
            reader.read(position)
        verify(out)


def test_a_reader_of_a_list_of_samples_that_has_just_been_replaced(tmp_path, monkeypatch):
    out = tmp_path / "c"
    make(cache_media.make_files(tmp_path / "media", 10), out)
    stale = plan.read_versioned(out / "cache.json", plan._Header, 1, what="", advice="", foreign="")
    make(cache_media.make_files(tmp_path / "media", 20), out)
    headers = [stale]

    def read(*args, **more):
        return headers.pop() if headers else read_versioned(*args, **more)

    monkeypatch.setattr(plan, "read_versioned", read)
    assert read_cache_info(out).planned == 20
    assert not headers


def test_shard_without_note_or_of_another_size_is_made_again(source, tmp_path, whole):
    make(source, tmp_path / "c")
    shards = tmp_path / "c" / "shards"
    (shards / "00001.json").unlink()
    (shards / "00002.safetensors").write_bytes(b"short")
    (shards / "00003.safetensors").unlink()
    make(source, tmp_path / "c")
    assert content(tmp_path / "c") == whole


@pytest.mark.slow
def test_interrupted_by_the_keyboard(source, tmp_path):
    out = tmp_path / "c"
    process = start(tmp_path, source, out)
    wait_for(lambda: finished(out) >= 1)
    workers = children(process.pid)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert errors.count("KeyboardInterrupt") == 1
    wait_for(lambda: not any(Path(f"/proc/{w}").exists() for w in workers), 20)
    names = [p.name for p in (out / "shards").iterdir()]
    assert not [n for n in names if n.endswith(".tmp")]
    assert {Path(n).stem for n in names if n.endswith("safetensors")} == {
        Path(n).stem for n in names if n.endswith("json")
    }
    make(source, out)
    verify(out)


def test_two_at_once(source, tmp_path):
    out = tmp_path / "c"
    process = start(tmp_path, source, out)
    try:
        wait_for((out / "cache.json").exists)
        with pytest.raises(
            DataError, match=f"is being prepared by process {process.pid} on .*wait"
        ):
            make(source, out)
    finally:
        process.kill()
        process.communicate()
