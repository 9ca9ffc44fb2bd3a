"""Fixtures of annotators: a project whose batch is labeled in a browser, and Label Studio offline."""

from __future__ import annotations

import pytest

from rlmba.annotators import create
from tests.helpers.browser_project import Client, Project, make_batch


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


@pytest.fixture
def served():
    """Serve projects until after the pages have been closed."""
    servers = []

    def link(project):
        servers.append(project.start())
        return servers[-1].url

    yield link
    for server in servers:
        server.close()


@pytest.fixture
def visit(browser, served):
    """Open the link in a browser of its own; the page must not complain, unless it is let to."""
    contexts, wrong = [], []

    def opened(url, *, quiet=True, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(30_000)
        page = context.new_page()
        if quiet:
            page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))

        def asked(dialog):
            if dialog.type != "beforeunload":
                wrong.append(f"dialog {dialog.message}")
            dialog.accept()

        page.on("dialog", asked)

        def requested(request):
            if not request.url.startswith((url.split("?")[0], "data:")):
                wrong.append(f"request {request.url}")

        page.on("request", requested)
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def url(project, served):
    return served(project)


@pytest.fixture
def offline(tmp_path):
    """The annotator ``labelstudio`` without a server."""
    return create("labelstudio", tmp_path, {"url": ""})


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    """A real Label Studio."""
    pytest.importorskip("label_studio_sdk")
    from tests.helpers.label_studio import running

    with running(tmp_path_factory.mktemp("label-studio")) as started:
        yield started
