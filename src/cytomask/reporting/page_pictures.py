"""Pictures inside a page: small files, a bounded sum of them, and the elements that show them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image as Pillow

from cytomask.reporting.markup import Html, element, escape

#: Bytes of pictures, as they are written into the page, after which further ones are left out.
MOST_BYTES = 8_500_000
_JPEG_QUALITY = 88
#: Pictures of no more colours than this become PNG, which keeps them as they are and is small for these.
_FEW_COLOURS = 32


class PictureBudget:
    """Count the bytes of a page's pictures, and say when there is no room for more.

    Parameters
    ----------
    most
        So many bytes; it may be raised later.

    Examples
    --------
    >>> budget = PictureBudget(1000)
    >>> budget.link(bytes(300), "png")[:22], budget.link(bytes(600), "png"), budget.left_out
    ('data:image/png;base64,', None, 1)
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most, self.used, self.left_out = most, 0, 0

    def link(self, data: bytes, kind: str) -> str | None:
        """The picture as the source of an image element; None where the page has no room for it."""
        text = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        if self.used + len(text) > self.most:
            self.left_out += 1
            return None
        self.used += len(text)
        return text

    def photo(self, picture: np.ndarray, max_side: int | None = None) -> str | None:
        """Encode a picture, uint8 ``(Y, X, 3)`` or ``(Y, X)``, and give its source; see :meth:`link`."""
        return self.link(*encode_photo(picture, max_side))

    def layer(self, codes: np.ndarray, palette: np.ndarray) -> str | None:
        """Encode a transparent layer and give its source; see :func:`encode_layer` and :meth:`link`."""
        return self.link(encode_layer(codes, palette), "png")


def encode_photo(picture: np.ndarray, max_side: int | None = None) -> tuple[bytes, str]:
    """Encode a picture as JPEG with full colour, or as PNG where it has few colours.

    Parameters
    ----------
    picture
        uint8 ``(Y, X, 3)`` or ``(Y, X)``.
    max_side
        Shrink it until its longer side is at most this.

    Returns
    -------
    tuple
        The file, and its kind: ``"jpeg"`` or ``"png"``.

    Examples
    --------
    >>> encode_photo(np.zeros((50, 60, 3), np.uint8))[1]
    'png'
    """
    if picture.ndim == 3 and (picture[..., :1] == picture).all():
        picture = picture[..., 0]
    image = Pillow.fromarray(np.ascontiguousarray(picture))
    if max_side is not None and max(image.size) > max_side:
        scale = max_side / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Pillow.Resampling.LANCZOS)
    if image.getcolors(_FEW_COLOURS) is not None:
        file = BytesIO()
        image.save(file, "PNG", compress_level=6)
        return file.getvalue(), "png"
    # Pillow's own encoder gives up on noise in full colour.
    from imagecodecs import jpeg8_encode

    return bytes(jpeg8_encode(np.asarray(image), level=_JPEG_QUALITY, subsampling="444", optimize=True)), "jpeg"


def encode_layer(codes: np.ndarray, palette: np.ndarray) -> bytes:
    """Encode a layer of few colours as PNG.

    Parameters
    ----------
    codes
        uint8 ``(Y, X)``: positions in the palette.
    palette
        uint8 ``(K, 4)``: red, green, blue, and opacity.
    """
    image = Pillow.fromarray(np.ascontiguousarray(codes))
    image.putpalette(np.ascontiguousarray(palette).tobytes(), "RGBA")
    file = BytesIO()
    image.save(file, "PNG", compress_level=6)
    return file.getvalue()


def picture_figure(source: str, size: tuple[int, int], alt: str, caption: object = None, group: str = "all") -> Html:
    """A picture that opens large on a click or with the enter key.

    Parameters
    ----------
    source
        As :class:`PictureBudget` gives it.
    size
        Height and width in which it is shown, in pixels.
    alt
        What is to be seen, in words.
    caption
        Stands beneath it.
    group
        Pictures of one group follow each other in the viewer.
    """
    image = element("img", src=source, alt=alt, height=size[0], width=size[1])
    return element(
        "figure",
        element("button", element("span", image, class_="stack"), class_="zoom", type="button", data_group=group),
        None if caption is None else element("figcaption", caption),
        class_="picture",
    )


def layered_figure(
    base: str,
    layers: Sequence[tuple[str, str, str]],
    size: tuple[int, int],
    alt: str,
    *,
    name: str,
    shown: str,
    group: str = "all",
) -> Html:
    """A picture with transparent layers, of which one or none is shown.

    Parameters
    ----------
    base
        Source of the picture beneath.
    layers
        ``(key, title, source)`` of each; the title goes onto its button.
    size
        Height and width of all of them, in pixels.
    alt
        What is to be seen.
    name
        Unlike that of any other on the page.
    shown
        Key of the layer that is shown first.
    group
        As for :func:`picture_figure`.
    """
    shared = {"height": size[0], "width": size[1]}
    images = [element("img", src=base, alt=alt, **shared)]
    images += [
        element("img", src=source, alt="", class_=f"layer layer-{key}", hidden=key != shown, data_layer=key, **shared)
        for key, _, source in layers
    ]
    choices = [("none", "Image only"), *((key, title) for key, title, _ in layers)]
    buttons = [
        element(
            "label",
            element("input", type="radio", name=f"layers-{name}", value=key, checked=key == shown),
            element("span", title),
        )
        for key, title in choices
    ]
    return element(
        "figure",
        element("fieldset", element("legend", "What to show"), *buttons, class_="layers"),
        element("button", element("span", *images, class_="stack"), class_="zoom", type="button", data_group=group),
        class_="picture layered",
    )


def left_out_note(budget: PictureBudget) -> Html | None:
    """Say so where pictures were left out to keep the page small."""
    if not budget.left_out:
        return None
    count = f"{budget.left_out} picture{'' if budget.left_out == 1 else 's'}"
    return element("p", escape(f"{count} left out, to keep this page small."), class_="muted")
