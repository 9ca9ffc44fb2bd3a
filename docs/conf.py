"""The documentation site: ``sphinx-build -W -c docs . build/site``, or ``nox -s docs``.

The source folder is the root of the repository, so that links between README, CONTRIBUTING and the
pages of this folder are the same on GitHub and on the site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref

import rlmba
import rlmba.learner

# Autodoc imports modules with TYPE_CHECKING set, and pydantic cannot build models in modules that are
# imported in this way. So everything that the packages import lazily is imported here first.
for package in (rlmba, rlmba.learner):
    for name in package.__all__:
        getattr(package, name)

ROOT = Path(__file__).parents[1]

project = "rlmba"
release = version = rlmba.__version__

root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "kernels/README.md",
    "docs/*.md",
    "docs/reference/*",
]
templates_path = ["templates"]
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]

myst_heading_anchors = 3
myst_links_external_new_tab = False
numpydoc_show_class_members = False  # autodoc lists them; numpydoc would list them again
autodoc_default_options = {"members": True, "undoc-members": False}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# Libraries of the extras whose adapters are documented: the site is the same with and without them.
autodoc_mock_imports = ["baal", "fiftyone", "skactiveml", "small_text"]
smartquotes = False  # "--option" stays as it is
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"rlmba {release}"
html_additional_pages = {"index": "redirect.html"}  # the site's address without a page
html_copy_source = False
html_show_copyright = False


def _sidebar(text: str) -> str:
    """Hidden tables of contents, one for each section of an index page, from the section's links."""
    trees = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        caption, _, body = section.partition("\n")
        links = re.findall(r"^- \[`?(.+?)`?\]\((.+?)\)", body, re.MULTILINE)
        pages = "\n".join(f"{title} <{page}>" for title, page in links)
        trees.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```\n")
    return "\n".join(trees)


def _listings(text: str) -> str:
    """The page with the source of every example below the line that links to it."""
    return re.sub(
        r"(^.*\]\((\.\./examples/[^)]+\.py)\).*(?:\n.+)*)",
        r"\1\n\n```{literalinclude} \2\n:language: python\n```",
        text,
        flags=re.MULTILINE,
    )


def _read(_: Any, name: str, source: list[str]) -> None:
    """Add what only the site can show, so that the pages stay plain Markdown on GitHub."""
    if name == "docs/reference/index":
        source[0] += "\n## Command line\n\n- [`rlmba`](cli.md): every command and its options.\n"
    if name in ("docs/index", "docs/reference/index"):
        source[0] += "\n" + _sidebar(source[0])
    elif name == "docs/examples":
        source[0] = _listings(source[0])


def _skip(_: Any, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Leave out fields of named tuples, which their class describes, and pydantic's settings."""
    field = (value.__doc__ or "").startswith("Alias for field number")
    return True if field or name == "model_config" else None


def _outside(app: Any, document: nodes.document) -> None:
    """Links to what is no page of the site: notes are downloads, folders plain text."""
    page = Path(app.env.doc2path(app.env.docname))
    for link in list(document.findall(pending_xref)):
        target = link.get("reftarget", "")
        if link.get("reftype") != "myst":
            continue
        if link.get("refdomain") == "doc":
            if target not in app.env.found_docs:
                note = f"/{target}.md"
                link.replace_self(download_reference("", "", *link.children, reftarget=note))
        elif (page.parent / target).is_dir():
            link.replace_self(link.children)


def _command_line(app: Any) -> None:
    """Write the page of the command line from its own help."""
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    from rlmba.cli.app import application

    command = get_command(application())
    with command.make_context("rlmba", [], resilient_parsing=True) as context:
        text = get_docs_for_click(obj=command, ctx=context, name="rlmba", title="Command line")
    # Its list of commands cuts their summaries short; the headings below say the same.
    text = re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+\n", "", text)
    text = re.sub(r"(`[^`\n]+`)|<", lambda found: found[1] or r"\<", text)  # <name> is not HTML
    (ROOT / "docs" / "reference" / "cli.md").write_text(text, encoding="utf-8")


def setup(app: Any) -> None:
    app.connect("builder-inited", _command_line)
    app.connect("source-read", _read)
    app.connect("autodoc-skip-member", _skip)
    app.connect("doctree-read", _outside, priority=400)  # before downloads are collected
