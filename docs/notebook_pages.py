"""Notebooks as pages of these docs, with what their cells give.

Notebooks are kept without outputs. They are executed by the tests, which leave the outcome in a folder beside the
project's files (`.notebooks/`, never committed); a page is made of that. Where it is missing or of other code, the
notebook is executed here.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "docs" / "notebooks"
#: Where executed notebooks are kept.
KEPT = ROOT / ".notebooks"
#: A cell that runs longer than so many seconds has gone wrong.
SECONDS = 900
#: Escape sequences that colour text on terminals.
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def notebooks() -> list[Path]:
    """All notebooks, in order of their names."""
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def executed(path: Path) -> dict[str, Any]:
    """A notebook with the outputs of its cells: kept ones, if notebook and package are the same, else fresh ones.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    """
    kept = KEPT / f"{path.stem}-{_state(path)}.ipynb"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, 4)
    NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    ).execute()
    KEPT.mkdir(exist_ok=True)
    for old in KEPT.glob(f"{path.stem}-????????????.ipynb"):
        old.unlink(missing_ok=True)
    kept.write_text(nbformat.writes(notebook), encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def _state(path: Path) -> str:
    """Twelve digits that change with the notebook and with the package's code."""
    total = hashlib.sha256(path.read_bytes())
    for source in sorted((ROOT / "src").rglob("*.py")):
        total.update(source.read_bytes())
    return total.hexdigest()[:12]


def page(notebook: dict[str, Any], name: str) -> str:
    """Write an executed notebook as Markdown with HTML in it."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"\]\(([\w-]+)\.ipynb\)", r"](\1.md)", text))
        else:
            parts.append(f"```python\n{text}\n```")
            parts += [shown for output in _joined(cell["outputs"]) if (shown := _output(output))]
    source = f"*This page is the notebook `docs/notebooks/{name}.ipynb`, executed.*"
    parts.insert(1, source)
    return "\n\n".join(parts) + "\n"


def _joined(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Outputs in which what is printed one after the other is one."""
    joined: list[dict[str, Any]] = []
    for output in outputs:
        if output["output_type"] == "stream" and joined and joined[-1]["output_type"] == "stream":
            joined[-1]["text"] += "".join(output["text"])
        else:
            joined.append({**output, "text": "".join(output.get("text", ""))})
    return joined


def _output(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return _plain(output["text"])
    data = output.get("data", {})
    if "text/html" in data:
        # One line: Markdown would take an indented or an empty line inside for something else.
        written = " ".join("".join(data["text/html"]).split("\n"))
        return f"<div class='output'>{written}</div>"
    if "image/png" in data:
        encoded = base64.b64encode(base64.b64decode("".join(data["image/png"]))).decode("ascii")
        return f"<div class='output'><img alt='figure' src='data:image/png;base64,{encoded}'></div>"
    return _plain("".join(data.get("text/plain", "")))


def _plain(text: str) -> str:
    text = _COLOURS.sub("", text).strip("\n")
    lines = "&#10;".join(html.escape(line) for line in text.split("\n"))
    return f"<pre class='output'>{lines}</pre>" if text else ""


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each notebook; called by mkdocs."""
    from mkdocs.structure.files import File

    for path in notebooks():
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page(executed(path), path.stem)))
    return files
