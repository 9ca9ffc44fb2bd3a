"""Files of repositories on the hub: from its cache, or else after one request."""

from __future__ import annotations

import pytest

from rlmba.errors import UsageError
from rlmba.models.weights import Request, cached_file, hub_file

REQUEST = Request("net", "image", "some/net", "a hub name")


@pytest.fixture
def cached(monkeypatch):
    """Files that the hub's cache is said to contain, by name."""
    files = {}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda _, name: files.get(name))
    return files


def test_a_cached_file_is_used_without_a_request(cached, monkeypatch, tmp_path):
    monkeypatch.setattr("rlmba.models.weights.out_of_reach", lambda _: pytest.fail("a request"))
    cached["second"] = str(tmp_path)
    assert hub_file(REQUEST, "some/net", "first", "second") == tmp_path


def test_the_first_file_is_downloaded(cached, monkeypatch, tmp_path):
    assert not cached
    monkeypatch.setattr("rlmba.models.weights.out_of_reach", lambda _: "")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", tmp_path.joinpath)
    assert hub_file(REQUEST, "some/net", "first", "second") == tmp_path / "some/net" / "first"


def test_why_it_is_unavailable_is_said(cached, monkeypatch):
    assert not cached
    monkeypatch.setattr("rlmba.models.weights.out_of_reach", lambda _: "no route")
    with pytest.raises(UsageError, match="weights 'some/net': no route"):
        hub_file(REQUEST, "some/net", "first")

    def interrupted(*_):
        raise OSError

    monkeypatch.setattr("rlmba.models.weights.out_of_reach", lambda _: "")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", interrupted)
    with pytest.raises(UsageError, match="weights 'some/net': OSError"):
        hub_file(REQUEST, "some/net", "first")


def test_what_cannot_be_a_repository_is_not_cached():
    assert cached_file("not/a/repository/name", "config.json") is None
