"""The notebooks: kept without outputs, and executed from beginning to end."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


def _pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebook_pages", ROOT / "docs" / "notebook_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = _pages()
NOTEBOOKS = PAGES.notebooks()


def test_there_are_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS} >= {"quick-start", "own-data", "comparing-models", "ensembles"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(path: Path) -> None:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], cell["source"]
            assert cell["execution_count"] is None
    assert path.stat().st_size < 20_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_shows_something(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nbclient")
    for name in ("OMP_NUM_THREADS", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = PAGES.executed(path)
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    told = "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")
    assert "Warning" not in told
    assert not any(output["output_type"] == "error" for output in outputs)
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert "text/html" in kinds
    text = PAGES.page(notebook, path.stem)
    assert "<figure>" in text or "<table" in text
    assert ".ipynb)" not in text
