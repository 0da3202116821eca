"""What was found wrong with names and tables when a data set was opened, and names that some systems confuse."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from cytomask.data.check.finding import Finding
from cytomask.data.check.kinds import finding
from cytomask.data.sample import Sample

#: What a data set's problems say, and which kind that is.
_SAYINGS = (
    (re.compile(r"has no label image"), "missing-labels"),
    (re.compile(r"labels without an image|its image was not found"), "missing-image"),
    (re.compile(r"several (images|label images) (of this name|are called)"), "doubled-name"),
    (re.compile(r"split '.*': (has no images|its list is empty)"), "empty-split"),
)


def problem_findings(problems: Sequence[str]) -> list[Finding]:
    """Make findings of the sentences in which a data set tells its problems.

    Examples
    --------
    >>> problems = ["images/a.tif: has no label image (a.* in labels)", "split 'val': has no images"]
    >>> [f.kind for f in problem_findings(problems)]
    ['missing-labels', 'empty-split']
    """
    found = []
    for problem in problems:
        kind = next((kind for saying, kind in _SAYINGS if saying.search(problem)), "data-set-problem")
        head, _, rest = problem.partition(": ")
        is_file = kind != "empty-split" and "." in Path(head).name
        image = head if kind in ("doubled-name", "missing-image") and not is_file else None
        # The place is told apart from the message.
        message = rest if image is not None or is_file else problem
        found.append(finding(kind, message, file=Path(head) if is_file else None, image=image,
                             split=head.split("'")[1] if kind == "empty-split" else None))  # fmt: skip
    return found


def name_findings(samples: Sequence[Sample]) -> list[Finding]:
    """Find names that differ in upper and lower case only."""
    groups = defaultdict(set)
    for sample in samples:
        groups[sample.name.casefold()].add(sample.name)
    return [
        finding("name-case", " and ".join(sorted(names)) + " differ in upper and lower case only", image=min(names))
        for names in groups.values()
        if len(names) > 1
    ]
