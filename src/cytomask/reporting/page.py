"""The frame of a page: one file that needs nothing else, works offline, and lets nothing in.

Style and script lie in the page itself and are named by their hashes in its security policy, so that a browser runs
these and nothing else, whatever a file was called.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path

from cytomask._version import __version__
from cytomask.output import replacing
from cytomask.reporting.error_overlay import KIND_COLOURS
from cytomask.reporting.markup import Html, element, join

#: What the page is allowed to do besides showing its own style and running its own script: show its own pictures.
_POLICY = (
    "default-src 'none'; img-src data:; style-src {style}; script-src {script}; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading and an entry in the table of contents.

    Attributes
    ----------
    name
        By which it is linked: letters, digits and hyphens.
    title
        Its heading.
    body
        Its content.
    lead
        A sentence under the heading.
    """

    name: str
    title: str
    body: Html
    lead: object = None


def write_page(
    path: str | Path,
    *,
    title: str,
    kicker: str,
    heading: object,
    lead: object,
    top: Html,
    sections: Sequence[Section],
    command: str | None = None,
) -> None:
    """Write a page; it appears complete or not at all.

    Parameters
    ----------
    path
        The file.
    title
        For the browser's tab.
    kicker
        A few words above the heading: what kind of page it is.
    heading, lead
        The one sentence that matters, and what follows from it.
    top
        What stands beneath them, before the table of contents.
    sections
        The rest.
    command
        The command that made the page; None for that of this process, if it is ``cytomask``.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    style, script = page_style(), _package_text("page.js")
    policy = _POLICY.format(style=_hash(style), script=_hash(script))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="generator", content=f"cytomask {__version__}"),
        element("title", title),
        element("style", style),
    )
    body = element(
        "body",
        element("a", "Skip to the content", class_="skip", href="#content"),
        element(
            "header",
            element(
                "div",
                element("span", element("b", "cytomask"), " ", kicker, class_="kicker"),
                element(
                    "button",
                    "Dark",
                    class_="theme",
                    type="button",
                    hidden=True,
                    aria_label="Change between light and dark",
                ),
                class_="masthead",
            ),
            element("h1", heading),
            element("p", lead, class_="lead"),
            class_="wide",
        ),
        element(
            "main",
            top,
            element(
                "nav",
                *(element("a", section.title, href=f"#{section.name}") for section in sections),
                aria_label="Contents",
            )
            if len(sections) > 1
            else None,
            *(_section(section) for section in sections),
            id="content",
            class_="wide",
        ),
        element("footer", _made_by(command), class_="wide"),
        element("script", script),
    )
    text = "<!DOCTYPE html>\n" + element("html", "\n", head, "\n", body, "\n", lang="en") + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


#: Signs of the severities, so that they are told apart without their colours: paths on a square of 16.
_SIGNS = {
    "error": "M4 4 L12 12 M12 4 L4 12",
    "warning": "M8 2 V9.5 M8 13.4 V13.5",
    "note": "M8 7 V13.5 M8 2.6 V2.7",
    "fine": "M2.5 8.5 L6.5 12.5 L13.5 4",
}


def badge(severity: str, text: str | None = None) -> Html:
    """A severity (or ``"fine"``) as a small sign with its name."""
    return element("span", _sign(severity), text or severity, class_=f"badge {severity}")


def tick() -> Html:
    """The sign of what is fine."""
    return _sign("fine")


def tile(number: object, what: object, more: object = "", style: str = "") -> Html:
    """A number with what it is of, and a few words more."""
    return element(
        "div",
        element("span", what, class_="what"),
        element("b", number),
        element("small", more) if more else None,
        class_=f"tile {style}".strip(),
    )


def counted(count: int, thing: str, plural: str | None = None) -> str:
    """Count in words.

    Examples
    --------
    >>> counted(1, "image"), counted(1200, "nucleus", "nuclei")
    ('1 image', '1,200 nuclei')
    """
    return f"{count:,} {thing if count == 1 else plural or thing + 's'}"


def listed(words: Sequence[str]) -> str:
    """A list in words.

    Examples
    --------
    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def page_style() -> str:
    """The style sheet, with the colours that the pictures use."""
    colours = "".join(f"--kind-{name}:rgb({r},{g},{b});" for name, (r, g, b) in KIND_COLOURS.items())
    return f":root{{{colours}}}\n{_package_text('page.css')}"


def _section(section: Section) -> Html:
    lead = None if section.lead is None else element("p", section.lead, class_="section-lead")
    return element(
        "section",
        element("h2", section.title),
        lead,
        section.body,
        id=section.name,
    )


def _sign(severity: str) -> Html:
    path = element("path", d=_SIGNS[severity])
    return element("svg", path, viewBox="0 0 16 16", aria_hidden="true")


def _made_by(command: str | None) -> Html:
    if command is None and Path(sys.argv[0]).stem == "cytomask":
        command = shlex.join(["cytomask", *sys.argv[1:]])
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z").strip()
    told = ["Made by cytomask ", __version__, f" on {when}"]
    if command:
        told += [" with ", element("code", command)]
    return element("p", join(told), ". This page needs no network, and holds all of its pictures itself.")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _package_text(name: str) -> str:
    # A browser hashes what it reads: with line ends as they are in a document, whatever system wrote the file.
    text = files("cytomask.reporting").joinpath(name).read_text(encoding="utf-8")
    return text.replace("\r\n", "\n")
