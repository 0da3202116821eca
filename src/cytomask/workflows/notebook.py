"""Notebooks: what cytomask's objects look like as the value of a cell.

IPython is asked, not imported: outside of notebooks nothing of this runs. What draws is imported when something is
shown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import numpy as np

    from cytomask.image import Image
    from cytomask.instances import Instances

#: Pictures of the images that objects were found in, small, for as long as the objects live.
_behind: WeakKeyDictionary[Any, np.ndarray] = WeakKeyDictionary()


class Picture:
    """A picture that a notebook shows; made by :func:`show`.

    Attributes
    ----------
    pixels
        uint8 ``(Y, X, 3)``.
    words
        What is on it, in words.
    """

    def __init__(self, pixels: np.ndarray, words: str) -> None:
        self.pixels, self.words = pixels, words

    def _repr_html_(self) -> str:
        from cytomask.reporting.cards import figure

        return str(figure(self.pixels, self.words))

    def __repr__(self) -> str:
        return f"Picture({self.words})"

    def save(self, path: str) -> None:
        """Write it as PNG."""
        from cytomask.reporting.overlay import write_png

        write_png(path, self.pixels)


def show(
    image: Image | np.ndarray | str,
    instances: Instances | None = None,
    *,
    channels: Sequence[str | int] | None = None,
    colour_by: Literal["object", "class"] = "object",
    fill: float = 0.0,
    text: Literal["id", "score", "class", "class-score"] | None = None,
    max_side: int = 900,
) -> Picture:
    """Show an image, with objects outlined if given.

    Parameters
    ----------
    image
        A file, an array, or an :class:`~cytomask.image.Image`.
    instances
        Objects of an image of the same size.
    channels, colour_by, fill, text, max_side
        As for :func:`~cytomask.reporting.overlay.draw_overlay`.

    Returns
    -------
    Picture
        A notebook shows it as the value of a cell; ``.pixels`` is an array, ``.save("a.png")`` writes it.

    Raises
    ------
    LabelError
        If image and objects differ in size.

    Examples
    --------
    >>> import numpy as np
    >>> from cytomask.instances import Instances
    >>> labels = np.zeros((40, 60), np.int32)
    >>> labels[10:30, 10:40] = 1
    >>> show(labels.astype(np.uint8), Instances.from_labels(labels))
    Picture(1 object in 40 x 60 pixels)
    """
    from cytomask.instances import Instances
    from cytomask.reporting.overlay import draw_overlay
    from cytomask.workflows.model import as_image

    image = as_image(image)
    found = Instances.empty(image.shape) if instances is None else instances
    pixels = draw_overlay(image, found, channels=channels, colour_by=colour_by, fill=fill, text=text, max_side=max_side)
    size = f"{image.height} x {image.width} pixels"
    if instances is None:
        return Picture(pixels, size)
    return Picture(pixels, f"{len(found)} object{'' if len(found) == 1 else 's'} in {size}")


def remember(instances: Instances, image: Image) -> None:
    """In a notebook, keep a small picture of the image for as long as the objects live."""
    if _shell() is None:
        return
    from cytomask.reporting.cards import backdrop

    _behind[instances] = backdrop(image)


def register() -> None:
    """Tell the notebook, if this is one, how to show objects, images, models, evaluations and comparisons."""
    shell = _shell()
    formatter = getattr(shell, "display_formatter", None)
    if formatter is None:
        return
    for (module, name), card in _CARDS.items():
        formatter.formatters["text/html"].for_type_by_name(module, name, card)


def _shell() -> Any:
    """The IPython shell that this runs in, or None."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None


def _instances(instances: Instances) -> str:
    from cytomask.reporting.cards import instances_card

    return str(instances_card(instances, _behind.get(instances)))


def _image(image: Image) -> str:
    from cytomask.reporting.cards import image_card

    return str(image_card(image))


def _model(model: Any) -> str:
    from cytomask.reporting.cards import model_card

    return str(model_card(model.bundle.spec, model.bundle.postprocess))


def _bundle(bundle: Any) -> str:
    from cytomask.reporting.cards import model_card

    return str(model_card(bundle.spec, bundle.postprocess))


def _evaluation(evaluation: Any) -> str:
    from cytomask.reporting.cards import evaluation_card

    return str(evaluation_card(evaluation.metrics))


def _comparison(comparison: Any) -> str:
    from cytomask.reporting.cards import leaderboard_card

    table = comparison.table
    return str(leaderboard_card(table.get("models", ()), table.get("rank_by", ""), table.get("rank_by", "")))


_CARDS: dict[tuple[str, str], Callable[[Any], str]] = {
    ("cytomask.instances", "Instances"): _instances,
    ("cytomask.image", "Image"): _image,
    ("cytomask.workflows.model", "Model"): _model,
    ("cytomask.models.bundle", "Bundle"): _bundle,
    ("cytomask.evaluation.metrics", "Evaluation"): _evaluation,
    ("cytomask.workflows.compare", "Comparison"): _comparison,
}
