"""The process of one tracker: reads requests as lines of JSON, and answers each with one line.

``{"done": true}`` is the answer to a request that was carried out. ``{"error": "..."}`` is the answer to a
request that failed; the process then ends. If the input ends without a request to close, the run was
killed, and it remains open in the tracker.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlmba.tracking.clients import CLIENTS, Client, Start


def main(tracker: str) -> None:
    """Serve requests from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output of the library must not be read as an answer
    client: Client | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if client is None:
                client = CLIENTS[tracker](_start(request))
            else:
                _serve(client, request)
            answer: dict[str, Any] = {"done": True}
        except Exception as error:  # the library may raise any exception
            answer = {"error": _said(error)}
        print(json.dumps(answer), file=answers, flush=True)
        if "error" in answer or "close" in request:
            break
    answers.flush()
    # Exit hooks of the library may wait for a server that does not answer.
    os._exit(0)


def _start(request: Mapping[str, Any]) -> Start:
    return Start(Path(request["folder"]), request["key"], request["name"], request["config"])


def _serve(client: Client, request: Mapping[str, Any]) -> None:
    if "values" in request:
        client.log(request["step"], request["values"])
    elif "files" in request:
        client.report(request["step"], Path(request["folder"]), [Path(f) for f in request["files"]])
    else:
        client.close(failed=request["close"])


def _said(error: Exception) -> str:
    """An error in one line of at most 300 characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1])
