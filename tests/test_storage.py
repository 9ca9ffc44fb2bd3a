from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from rlmba.annotators.browser.answer_log import AnswerEvent, AnswerLog
from rlmba.errors import RunFolderError, StorageError
from rlmba.runfolder.labels import Answer, LabelLog
from rlmba.storage import (
    atomic_write_bytes,
    atomic_write_text,
    config_folder,
    holder,
    is_plain_name,
    locked,
    open_own,
)


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


def test_a_private_file_is_its_owners_alone_from_the_start(tmp_path, monkeypatch):
    path = tmp_path / "secret"
    path.write_text("before")
    path.chmod(0o644)
    modes = []
    flush = os.fsync

    def seen(descriptor):
        modes.append(os.fstat(descriptor).st_mode & 0o777)
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    atomic_write_text(path, "after", private=True)
    assert (path.read_text(), path.stat().st_mode & 0o777, modes[0]) == ("after", 0o600, 0o600)


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
    assert "is unchanged: free at least 200,000 bytes" in done.stdout
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


def busy(other):
    return RunFolderError(f"held by {other}")


def enter(folder):
    with locked(folder, busy):
        return (folder / "lock").read_text()


def test_a_lock_names_its_holder_and_is_gone_with_it(tmp_path):
    with locked(tmp_path, busy):
        assert holder(tmp_path).startswith(f"process {os.getpid()} on ")
        with pytest.raises(RunFolderError, match=f"held by process {os.getpid()} on "):
            enter(tmp_path)
    assert holder(tmp_path) is None
    assert enter(tmp_path).startswith(f"process {os.getpid()} on ")


def test_what_a_lock_says_cannot_control_a_terminal(tmp_path):
    with locked(tmp_path, busy):
        (tmp_path / "lock").write_bytes(b"\x1b]0;owned\x07\xff\n" + b"x" * 10_000)
        assert holder(tmp_path).startswith("]0;owned")
        assert holder(tmp_path).isprintable()
        assert len(holder(tmp_path)) < 201


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "folder"])
def test_a_lock_that_is_no_regular_file_is_refused(tmp_path, kind):
    """A received folder's ``lock`` may lead to any file of this user's."""
    victim, folder = tmp_path / "victim", tmp_path / "received"
    victim.write_text("precious")
    folder.mkdir()
    lock = folder / "lock"
    if kind == "link":
        lock.symlink_to(victim)
    elif kind == "dangling":
        lock.symlink_to(tmp_path / "made")
    elif kind == "fifo":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    with pytest.raises(StorageError, match=r"expected a regular file|could not write into"):
        enter(folder)
    assert holder(folder) is None
    assert victim.read_text() == "precious"
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("refusal", ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EINVAL"])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, refusal):
    def flock(*_):
        raise OSError(getattr(errno, refusal), "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    for write in (
        lambda: enter(tmp_path),
        lambda: LabelLog(tmp_path / "labels.jsonl").append([Answer("a", "cat", "x")]),
        lambda: AnswerLog(tmp_path / "answers.jsonl").append(
            AnswerEvent("a", "cat"), lambda _: True
        ),
    ):
        with pytest.raises(
            StorageError, match=r"expected a file system that supports locks.*local disk"
        ):
            write()
    assert holder(tmp_path) is None


def test_logs_are_not_appended_to_through_a_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name, append in (
        ("labels", lambda path: LabelLog(path).append([Answer("a", "cat", "x")])),
        ("answers", lambda path: AnswerLog(path).append(AnswerEvent("a", "cat"), lambda _: True)),
    ):
        path = tmp_path / name
        path.symlink_to(victim)
        with pytest.raises(StorageError, match="expected a regular file, found a symbolic link"):
            append(path)
    assert victim.read_text() == "precious"


def test_whole_files_replace_a_link_and_leave_what_it_leads_to(tmp_path):
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_text("precious")
    link.symlink_to(victim)
    atomic_write_text(link, "new")
    assert (victim.read_text(), link.read_text(), link.is_symlink()) == ("precious", "new", False)


def test_nothing_is_written_to_a_file_that_has_another_name(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("lock", "labels.jsonl"):
        (tmp_path / name).hardlink_to(victim)
    with pytest.raises(StorageError, match=r"has another name .a hard link.*replace it by a copy"):
        enter(tmp_path)
    with pytest.raises(StorageError, match="has another name"):
        os.close(open_own(tmp_path / "labels.jsonl", os.O_WRONLY | os.O_APPEND))
    os.close(open_own(tmp_path / "labels.jsonl", os.O_RDONLY))
    assert victim.read_text() == "precious"


@pytest.mark.timeout(20)
def test_open_own_refuses_pipes_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY):
        with pytest.raises(OSError):  # noqa: PT011 - ours, or the system's where nobody reads
            open_own(tmp_path / "pipe", flags)
    with pytest.raises(FileNotFoundError):
        open_own(tmp_path / "none", os.O_RDONLY)


@pytest.mark.parametrize(
    ("name", "plain"),
    [("round_003", True), ("Runde 3", True), ("a:b", True), ("", False), (".", False)]
    + [("é" * 100, True), ("é" * 101, False)]
    + [(bad, False) for bad in ("..", "/etc/x", "../x", "a/b", "a\\b", "a\0b", "a\n", None, 3)],
)
def test_names_out_of_files(name, plain):
    assert is_plain_name(name) is plain


def test_settings_of_a_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert config_folder() == tmp_path / ".config" / "rlmba"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert config_folder() == tmp_path / ".config" / "rlmba"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "x"))
    assert config_folder() == tmp_path / "x" / "rlmba"
