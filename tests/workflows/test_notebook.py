"""What notebooks are told of our objects, without one."""

from __future__ import annotations

import gc
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import cytomask
from cytomask.errors import LabelError
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.workflows import notebook


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands for IPython: keeps what is registered."""
    told: dict[tuple[str, str], object] = {}
    html = SimpleNamespace(for_type_by_name=lambda module, name, card: told.update({(module, name): card}))
    shell = SimpleNamespace(display_formatter=SimpleNamespace(formatters={"text/html": html}), told=told)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    return shell


def _cells() -> Instances:
    labels = np.zeros((40, 60), np.int32)
    labels[10:30, 10:40] = 1
    return Instances.from_labels(labels)


def test_all_kinds_are_told_and_their_names_are_right(shell: SimpleNamespace) -> None:
    from importlib import import_module

    notebook.register()
    assert len(shell.told) == 6
    for module, name in shell.told:
        assert isinstance(getattr(import_module(module), name), type)


def test_objects_remember_their_image_as_long_as_they_live(shell: SimpleNamespace) -> None:
    notebook.register()
    cells = _cells()
    bare = shell.told["cytomask.instances", "Instances"](cells)
    before = len(notebook._behind)
    notebook.remember(cells, Image.from_array(np.arange(2400, dtype=np.uint16).reshape(40, 60)))
    assert shell.told["cytomask.instances", "Instances"](cells) != bare
    assert len(notebook._behind) == before + 1
    del cells
    gc.collect()
    assert len(notebook._behind) == before


def test_nothing_is_remembered_outside_of_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    before = len(notebook._behind)
    notebook.remember(_cells(), Image.from_array(np.zeros((40, 60), np.uint8)))
    assert len(notebook._behind) == before
    notebook.register()


def test_show_draws_and_saves(tmp_path) -> None:
    picture = cytomask.show(np.zeros((40, 60), np.uint8), _cells())
    assert picture.pixels.shape == (40, 60, 3)
    assert picture.pixels.any()
    assert "1 object in 40 x 60 pixels" in picture._repr_html_()
    picture.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"
    with pytest.raises(LabelError):
        cytomask.show(np.zeros((41, 60), np.uint8), _cells())


def test_importing_cytomask_asks_for_no_ipython() -> None:
    code = "import cytomask, sys; print('IPython' in sys.modules, 'numpy' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["False", "False"]


def test_every_short_name_leads_somewhere() -> None:
    for name in cytomask.__all__:
        assert getattr(cytomask, name) is not None
