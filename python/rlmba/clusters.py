"""Connections to Ray clusters."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from rlmba.errors import UsageError
from rlmba.workers import cores

__all__ = ["connect"]

_PATIENCE = 10.0
"""Seconds after which a cluster that does not answer is an error."""
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""The first bytes of an HTTP/2 connection, which Ray's services use: the preface and empty settings."""
_SETTINGS = 4
"""Type of the frame that every HTTP/2 server sends first."""


@contextlib.contextmanager
def connect(address: str) -> Iterator[Any]:
    """Connect this process to a Ray cluster for the duration of the ``with`` block.

    Ray writes its output only to its log files, does not report usage, and does not start a dashboard.

    Parameters
    ----------
    address : str
        ``host:port`` of a cluster, "auto" for the one that this machine belongs to, or "local", which
        starts Ray on this machine with all its cores until the block ends.

    Yields
    ------
    module
        ``ray``, connected.

    Raises
    ------
    UsageError
        If Ray is not installed, or no cluster answers at the address within ten seconds.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray prints errors about lost processes to standard output even if log_to_driver is false.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^")
    try:
        import ray
    except ImportError as error:
        raise UsageError("--ray needs Ray; install it with: pip install 'rlmba[ray]'") from error
    started: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        started |= {
            "num_cpus": cores(),
            "include_dashboard": False,
            # With Ray's default niceness of 15, all other processes would take precedence over the workers.
            "_system_config": {"worker_niceness": 0},
        }
    try:
        _require_answer(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
        ray.init(address=address, **started)
    except (OSError, OverflowError, ValueError, RuntimeError, SystemExit) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"--ray: expected the address of a running cluster, auto or local, got {address!r}: {first}"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Raise an error if no HTTP/2 server answers at the address; Ray itself would retry for minutes."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal()) or "/" in host:
        return
    with socket.create_connection((host, int(port)), timeout=_PATIENCE) as server:
        if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
            return
        server.sendall(_HELLO)
        frame = server.makefile("rb").read(4)
    if len(frame) < 4 or frame[3] != _SETTINGS:
        raise ConnectionError("the server at this address is not Ray")
