"""Examples in the documentation run, its links and lists are complete, its tables match the code."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rlmba
from rlmba.config import keys

ROOT = Path(__file__).parents[1]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
LINKED = [
    *PAGES,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    ROOT / "kernels" / "README.md",
    ROOT / "docs" / "reference" / "index.md",
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def modules() -> list[str]:
    found = pkgutil.walk_packages(rlmba.__path__, "rlmba.")
    compiled = ("rlmba._core", "rlmba._cuda", "rlmba.__main__")
    return [m.name for m in found if m.name not in compiled]


# What an adapter or an example script needs in addition to the package.
LIBRARIES = {
    "rlmba.adapters.baal": "baal",
    "rlmba.adapters.fiftyone": "fiftyone",
    "rlmba.adapters.fiftyone_operator": "fiftyone",
    "rlmba.adapters.skactiveml": "skactiveml",
    "rlmba.adapters.small_text": "small_text",
    "with_baal.py": "baal",
    "with_modal.py": "modAL",
    "with_scikit_activeml.py": "skactiveml",
    "with_small_text.py": "small_text",
}


def skip_without_library(of):
    if of in LIBRARIES and importlib.util.find_spec(LIBRARIES[of]) is None:
        pytest.skip(f"{LIBRARIES[of]} is not installed")


@pytest.mark.parametrize("name", modules())
def test_docstring_examples(name):
    skip_without_library(name)
    result = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert result.failed == 0


def test_docstrings_have_examples_to_run():
    tests = doctest.DocTestFinder(exclude_empty=True).find(rlmba.kernels.top_k, "top_k")
    assert sum(len(test.examples) for test in tests) >= 2


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
@pytest.mark.slow
def test_page_examples(page):
    result = doctest.testfile(str(page), module_relative=False, optionflags=FLAGS, encoding="utf-8")
    assert result.failed == 0


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda p: p.name
)
def test_code_on_a_page_stands_in_fences(page):
    fenced, outside = False, []
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and re.match(r">>>|\.\.\. |    (?! *(?:[-*]|\d+\.) )\S", line):
            outside.append(line)
    assert not fenced
    assert outside == []


def test_pages_have_examples_to_run():
    text = (ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")
    assert len(doctest.DocTestParser().get_examples(text)) >= 5


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda p: p.name)
@pytest.mark.slow
def test_example_scripts_run(script, tmp_path):
    skip_without_library(script.name)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_configuration_page_is_the_schema():
    """Rewrite the page's table with ``python tests/test_docs.py`` after changing the schema."""
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert configuration_table() in text
    assert "typing." not in text


def links(page):
    """Relative targets of a page's links and images, without anchors."""
    found = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    return [target for target in found if "://" not in target]


@pytest.mark.parametrize("page", LINKED, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    assert [target for target in links(page) if not (page.parent / target).exists()] == []


def test_every_page_is_in_the_index():
    """The index is the sidebar of the site."""
    index = ROOT / "docs" / "index.md"
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {index.name}
    assert pages <= set(links(index))
    reference = ROOT / "docs" / "reference"
    assert {page.name for page in reference.glob("*.rst")} == {
        target for target in links(reference / "index.md") if target.endswith(".rst")
    }


def test_every_public_module_is_in_the_reference():
    pages = (ROOT / "docs" / "reference").glob("*.rst")
    documented = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    names = re.findall(r"^\.\. auto\w+:: (\S+)", documented, re.MULTILINE)
    rooms = {*rlmba.__all__, "adapters", "annotators", "runfolder"} - {"__version__"}
    assert {f"rlmba.{name}" for name in rooms} <= set(names)


def test_every_example_is_in_the_gallery():
    page = ROOT / "docs" / "examples.md"
    notebooks = (ROOT / "examples").glob("*.ipynb")
    expected = {f"../examples/{example.name}" for example in (*EXAMPLES, *notebooks)}
    assert expected <= set(links(page))


@pytest.mark.parametrize(
    "image", sorted((ROOT / "docs" / "images").glob("*.png")), ids=lambda p: p.name
)
def test_images_are_small(image):
    assert image.stat().st_size < 150_000


def configuration_table() -> str:
    def cell(text: str) -> str:
        return text.replace("``", "`").replace("|", "\\|")

    rows = ["| key | expects | default | meaning |", "|---|---|---|---|"]
    for key in keys():
        default = "null" if key.default is None else str(key.default).lower().replace("'", "")
        rows.append(f"| `{key.name}` | {cell(key.expected)} | `{default}` | {cell(key.meaning)} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    page = ROOT / "docs" / "configuration.md"
    head, _, rest = page.read_text(encoding="utf-8").partition("| key |")
    tail = "\n".join(line for line in rest.split("\n") if not line.startswith("|"))
    _, _, tail = tail.partition("\n")
    page.write_text(f"{head}{configuration_table()}{tail}", encoding="utf-8")
