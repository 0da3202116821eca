"""Pages in a real browser: their script runs, nobody else's does."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from cytomask.data.check.finding import CheckReport
from cytomask.data.check.kinds import TITLES, finding
from cytomask.reporting.check_page import write_check_page

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _opened(path, folder):
    """The page as it stands after its script ran."""
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-first-run", f"--user-data-dir={folder}", "--dump-dom",
        "--virtual-time-budget=2000", path.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium to open the page with")
def test_script_of_the_page_runs_and_no_other(tmp_path):
    nasty = "<img src=x onerror=\"document.body.innerHTML='owned'\"><script>document.title='owned'</script>"
    findings = tuple(finding("specks", nasty, image=f"{nasty}{k}", split=nasty) for k in range(20))
    report = CheckReport("<script>document.title='owned'</script>", tmp_path, findings, TITLES, {})
    write_check_page(tmp_path / "check.html", report, lambda f: np.zeros((8, 8, 3), np.uint8))
    page = _opened(tmp_path / "check.html", tmp_path / "browser")
    assert "<dialog" in page, "the script of the page did not run"
    assert 'class="theme" type="button" aria-label' in page, "the button for light and dark is still hidden"
    assert ">owned" not in page
    assert page.count("<script>") == 1

    # The same page with a script that nobody announced: the policy stops it.
    text = (tmp_path / "check.html").read_text(encoding="utf-8")
    broken = text.replace("</main>", "</main><script>document.body.innerHTML = 'owned'</script>")
    assert broken != text
    (tmp_path / "broken.html").write_text(broken, encoding="utf-8")
    assert "<dialog" in _opened(tmp_path / "broken.html", tmp_path / "browser")
