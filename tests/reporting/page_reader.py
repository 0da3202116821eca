"""Read a page as a browser would, and refuse what a page must not hold."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

VOID = {"br", "hr", "img", "input", "meta"}
NASTY = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus=alert(1) x='",
    "</style></title><svg onload=alert(1)>",
    "a\u202egpj.exe",
    "bytes\udcff.png",
    "line\nbreak\x00\x1b[31m",
    "&lt;b&gt;&amp;",
)


@dataclass
class Node:
    """An element: its tag and attributes, the texts directly in it, its children."""

    tag: str
    attributes: dict[str, str]
    children: list[Node] = field(default_factory=list)
    pieces: list[object] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(piece if isinstance(piece, str) else piece.text for piece in self.pieces)

    @property
    def classes(self) -> set[str]:
        return set(self.attributes.get("class", "").split())

    def walk(self) -> list[Node]:
        return [self, *(node for child in self.children for node in child.walk())]

    def all(self, tag: str | None = None, style: str | None = None) -> list[Node]:
        return [n for n in self.walk() if (tag in (None, n.tag)) and (style is None or style in n.classes)]

    def one(self, tag: str | None = None, style: str | None = None) -> Node:
        found = self.all(tag, style)
        assert len(found) == 1, (tag, style, len(found))
        return found[0]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("#page", {})
        self.open = [self.root]

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"an attribute twice: {tag} {names}"
        node = Node(tag, {name: value if value is not None else "" for name, value in attrs})
        self.open[-1].children.append(node)
        self.open[-1].pieces.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag):
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data):
        self.open[-1].pieces.append(data)

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")


def read_page(path: Path) -> Node:
    """Read a page; it must be well-formed, keep to itself, and run nothing but its own script."""
    raw = path.read_bytes()
    assert len(raw) < 10_000_000
    text = raw.decode("utf-8")
    assert text.startswith("<!DOCTYPE html>")
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert [node.tag for node in reader.open] == ["#page"]
    page = reader.root
    (script,), (style,) = page.all("script"), page.all("style")
    policy = next(n for n in page.all("meta") if n.attributes.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.attributes["content"].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for name, node in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(node.text.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert not re.search(r"@import|url\(|https?:|fetch\(|XMLHttpRequest|eval\(|innerHTML", style.text + script.text)
    for node in page.walk():
        assert node.tag not in {"iframe", "object", "embed", "link", "base", "form", "audio", "video"}
        for name, value in node.attributes.items():
            assert not name.startswith("on"), (node.tag, name)
            assert name not in {"style", "srcset", "action", "formaction", "background", "xlink:href"}
            if name == "src":
                assert node.tag == "img"
                assert re.match(r"data:image/(png|jpeg);base64,", value)
            if name == "href":
                assert node.tag == "a"
                assert value.startswith("#")
    names = [node.attributes["id"] for node in page.walk() if "id" in node.attributes]
    assert len(set(names)) == len(names)
    targets = {node.attributes["href"][1:] for node in page.all("a")}
    assert targets <= set(names)
    assert all("alt" in node.attributes for node in page.all("img"))
    assert page.one("html").attributes["lang"] == "en"
    assert page.one("head").one("title").text
    assert len(page.all("h1")) == 1
    return page


def picture_of(image: Node) -> np.ndarray:
    """The pixels of an image element, with opacity where it has some."""
    data = base64.b64decode(image.attributes["src"].split(",", 1)[1])
    picture = Pillow.open(BytesIO(data))
    return np.asarray(picture.convert("RGBA"))
