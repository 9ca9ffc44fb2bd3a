"""A project whose batch is labeled in a browser, and its server."""

from __future__ import annotations

import pytest
from browser_project import Client, Project, make_batch


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path / "project")
    made.ask(make_batch(tmp_path / "media"))
    return made


@pytest.fixture
def page(project):
    with project.start() as server:
        yield server


@pytest.fixture
def client(page):
    return Client(page.url)
