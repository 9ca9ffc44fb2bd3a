from __future__ import annotations

import socket
import sys
import threading

import pytest

from rlmba import clusters
from rlmba.clusters import connect
from rlmba.errors import UsageError


def test_an_error_names_the_extra_if_ray_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'rlmba\[ray\]'"), connect("local"):
        pass


@pytest.mark.parametrize("address", ["nowhere", "host:port", "1:2:3"])
def test_an_invalid_address_is_an_error(address):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'rlmba[ray]'")
    with pytest.raises(UsageError, match=f"--ray: expected the address.*'{address}'"):
        connect(address).__enter__()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", None])
def test_a_server_that_is_not_a_cluster_is_an_error(monkeypatch, answer):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'rlmba[ray]'")
    monkeypatch.setattr(clusters, "_PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def serve():
            held.append(server.accept()[0])
            if answer:
                held[0].sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        with pytest.raises(UsageError, match=r"the server at this address is not Ray|timed out"):
            connect(f"127.0.0.1:{port}").__enter__()
        thread.join()
        held[0].close()
        # "auto" follows Ray's variable.
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        monkeypatch.setattr(clusters, "_PATIENCE", 0.2)
        with pytest.raises(UsageError, match="'auto': timed out"):
            connect("auto").__enter__()


@pytest.mark.slow
def test_a_cluster_answers_by_its_address():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'rlmba[ray]'")
    with connect("local") as ray:
        clusters._require_answer(ray.get_runtime_context().gcs_address)
        assert ray.cluster_resources()["CPU"] >= 1
    assert not ray.is_initialized()
