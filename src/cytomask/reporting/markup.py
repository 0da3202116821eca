"""HTML built from elements: every text is escaped unless it is markup already, and nothing points out of the page."""

from __future__ import annotations

import html
from collections.abc import Iterable

#: Elements that have no end tag.
_VOID = frozenset({"br", "hr", "img", "input", "meta"})
#: Elements of which a browser reads the content as it stands.
_RAW = frozenset({"script", "style"})


class Html(str):
    """Text that is markup; a plain ``str`` is not, and gets escaped where it is put into an element."""

    __slots__ = ()


def escape(text: object) -> Html:
    r"""Make text harmless in an element or an attribute.

    Names of files come from anywhere: besides the characters that mean something in HTML, control characters and those
    that turn the direction of writing are made visible, and bytes that were no UTF-8 are written as escapes.

    Examples
    --------
    >>> escape('<script>"1"</script>')
    '&lt;script&gt;&quot;1&quot;&lt;/script&gt;'
    >>> escape("a" + chr(0x202E) + "b" + chr(0xDCFF))
    'a\\u202eb\\udcff'
    """
    if isinstance(text, Html):
        return text
    plain = str(text)
    if not plain.isprintable():
        plain = "".join(c if c.isprintable() or c in "\n\t\u00a0" else _spelt(c) for c in plain)
    return Html(html.escape(plain, quote=True))


def join(parts: Iterable[object], between: object = "") -> Html:
    """Put parts together, escaping those that are no markup; None is left out.

    Examples
    --------
    >>> join(["a < b", Html("<br>"), None])
    'a &lt; b<br>'
    """
    return Html(escape(between).join(escape(part) for part in parts if part is not None))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """Write an element.

    Parameters
    ----------
    tag
        Its name.
    children
        Its content: markup as it stands, all else escaped; None is left out.
    attributes
        Underscores become hyphens, one at the end is dropped (``class_``). True stands alone; None and False leave it
        out.

    Raises
    ------
    ValueError
        If the element would carry a script or a style of its own, or point out of the page: the page's security policy
        would stop it, so it is a mistake.

    Examples
    --------
    >>> element("p", "1 < 2", element("br"), class_="note", hidden=True)
    '<p class="note" hidden>1 &lt; 2<br></p>'
    """
    written = "".join(_attribute(tag, name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items())
    start = f"<{tag}{written}>"
    if tag in _VOID:
        return Html(start)
    if tag in _RAW:
        raw = "".join(str(child) for child in children)
        if f"</{tag}" in raw.lower():
            raise ValueError(f"the content would end its {tag} element")
        return Html(f"{start}{raw}</{tag}>")
    return Html(f"{start}{join(children)}</{tag}>")


def _attribute(tag: str, name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    text = str(value)
    if name == "style" or (name.startswith("on") and tag != "meta"):
        raise ValueError(f"an element must not carry {name}")
    if (name == "href" and not text.startswith("#")) or (name == "src" and not text.startswith("data:image/")):
        raise ValueError(f"{name} points out of the page: {text[:80]}")
    return f' {name}="{escape(text)}"'


def _spelt(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
