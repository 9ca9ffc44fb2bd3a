"""The notebooks of examples/ run from their first cell to their last, and are stored without results."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def read(notebook: Path):
    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    return content


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_stored_without_results(notebook):
    cells = [cell for cell in read(notebook).cells if cell.cell_type == "code"]
    assert cells
    assert not [cell for cell in cells if cell.outputs or cell.execution_count]


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_and_shows_a_picture(notebook, tmp_path, monkeypatch):
    pytest.importorskip("ipykernel")
    client = pytest.importorskip("nbclient")
    for source in EXAMPLES.glob("*.py"):
        shutil.copy(source, tmp_path)
    # The notebook's shell cells call `rlmba`; the files that they write stay in this test's folder.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    content = read(notebook)
    client.NotebookClient(
        content, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    if kept := os.environ.get("RLMBA_KEEP_NOTEBOOKS"):
        nbformat.write(content, Path(kept) / notebook.name)
    outputs = [out for cell in content.cells for out in cell.get("outputs", ())]
    assert any("image/png" in out.get("data", {}) for out in outputs)
