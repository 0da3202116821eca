"""Write an experiment's file for people: a section after the other, each setting under the reason for it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import yaml

from cytomask.workflows.experiments.sections import Experiment
from cytomask.workflows.proposals.rules import Proposal

_WIDTH = 110
#: A reason that is no longer stands behind its setting.
_BEHIND = 48


def experiment_text(head: Sequence[str], proposals: Sequence[Proposal], tail: Sequence[str] = ()) -> str:
    """Write settings as YAML.

    Parameters
    ----------
    head, tail
        Lines before and after.
    proposals
        The settings; sections are written in the order of the schema, settings of a section in theirs.

    Examples
    --------
    >>> print(experiment_text([], [
    ...     Proposal(("name",), "mine"), Proposal(("training", "epochs"), 5, "a short trial")]), end="")
    name: mine
    <BLANKLINE>
    training:
      epochs: 5  # a short trial
    """
    order = ["extends", *Experiment.model_fields]
    sections: dict[str, list[Proposal]] = {name: [] for name in order}
    for one in proposals:
        sections.setdefault(one.place[0], []).append(one)
    blocks, plain = [], []
    for name, members in sections.items():
        if not members:
            continue
        if len(members[0].place) == 1 and not isinstance(members[0].value, dict):
            plain += _setting(name, members[0].value, members[0].reason, 0)
            continue
        if plain:
            blocks.append(plain)
            plain = []
        blocks.append([f"{name}:", *_table(members, 1)])
    blocks += [plain] if plain else []
    lines = [line for block in blocks for line in ("", *block)]
    text = [*head, *(lines if head else lines[1:]), *([""] if tail else []), *tail]
    return "\n".join(line.rstrip() for line in text) + "\n"


def _table(members: Sequence[Proposal], depth: int) -> list[str]:
    lines: list[str] = []
    done: set[str] = set()
    for one in members:
        key = one.place[depth]
        if len(one.place) == depth + 1:
            lines += _setting(key, one.value, one.reason, depth)
        elif key not in done:
            done.add(key)
            inner = [other for other in members if len(other.place) > depth + 1 and other.place[depth] == key]
            lines += [f"{'  ' * depth}{key}:", *_table(inner, depth + 1)]
    return lines


def _setting(key: str, value: Any, reason: str, depth: int) -> list[str]:
    indent = "  " * depth
    line = f"{indent}{key}: {written(value)}"
    if reason and len(reason) <= _BEHIND and len(line) + len(reason) + 4 <= _WIDTH:
        return [f"{line}  # {reason}"]
    said = textwrap.wrap(reason, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ",
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip
    if len(line) <= _WIDTH or not isinstance(value, dict):
        return [*said, line]
    rest = [part for name, inner in value.items() for part in _setting(name, inner, "", depth + 1)]
    return [*said, f"{indent}{key}:", *rest]


def written(value: Any) -> str:
    """Write a value on one line.

    Examples
    --------
    >>> written({"mode": "select", "names": ["DAPI", "a: b"]}), written(None), written("on"), written(1e-3)
    ("{mode: select, names: [DAPI, 'a: b']}", 'null', "'on'", '0.001')
    """
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...").strip()
