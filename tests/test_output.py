"""Writing results: temporary names beside the target."""

from __future__ import annotations

from pathlib import Path

import pytest

from cytomask.output import new_folder, replacing


@pytest.mark.parametrize("name", ["x" * 251 + ".csv", "ü" * 125 + ".csv", "y" * 255])
def test_names_as_long_as_names_may_be(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    with replacing(target) as path:
        assert path.suffix == (target.suffix or ".part")
        path.write_text("whole")
    assert [p.name for p in tmp_path.iterdir()] == [name]
    with new_folder(tmp_path / ("z" * 255)) as folder:
        (folder / "a").write_text("")
    assert (tmp_path / ("z" * 255) / "a").is_file()
