"""Class weights of dense networks that are to be balanced, worked out from the training images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError

from cytomask.data.dataset import Dataset
from cytomask.data.pixel_shares import balanced_weights, pixel_shares
from cytomask.data.sample import Sample
from cytomask.label_layers import LabelLayers
from cytomask.training.validation import resized_layers


def with_balanced_weights(
    model: dict[str, Any],
    train: Sequence[Sample],
    dataset: Dataset,
    scale: Callable[[tuple[int, int]], float] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Put numbers in place of ``loss.class_weights: balanced``.

    Parameters
    ----------
    model
        An experiment's settings of the network, ``family`` among them, with all else filled in.
    train, dataset
        The training images, whose annotations are read.
    scale
        Tells by how much an image of a height and width is scaled for training; None leaves all as they are.

    Returns
    -------
    model, reasons
        The settings, which are unchanged if nothing is to be balanced, and why; the reasons are for people.

    Notes
    -----
    Each kind of pixel weighs one over its share of the pixels, and the weights' mean is 1: see
    :func:`~cytomask.data.pixel_shares.balanced_weights`.
    """
    loss = model.get("loss")
    if model.get("family") != "dense" or not isinstance(loss, dict) or loss.get("class_weights") != "balanced":
        return model, []
    from cytomask.models.dense.config import DenseConfig
    from cytomask.models.dense.targets import pixel_counts

    try:
        config = DenseConfig.model_validate({name: value for name, value in model.items() if name != "family"})
    except ValidationError:
        # Building the network tells what is wrong with its settings.
        return model, []

    def count(layers: LabelLayers) -> Any:
        # Only boundaries, which are a few network pixels wide, depend on the size.
        if scale is not None and config.output == "boundary":
            factor, (rows, columns) = scale(layers.shape), layers.shape
            layers = resized_layers(layers, (max(round(rows * factor), 1), max(round(columns * factor), 1)))
        return pixel_counts(layers, config)

    shares = pixel_shares(train, dataset, count)
    weights = balanced_weights(shares)
    kinds = {"boundary": ("background", "interior", "boundary"), "distance": ("background", "foreground")}.get(
        config.output, ("background", *config.classes)
    )
    told = ", ".join(
        f"{kind} {weight:g}" + (f" ({100 * share:.2g} % of the pixels)" if share else " (not in the training images)")
        for kind, weight, share in zip(kinds, weights, shares)
    )
    reason = f"class weights {told}: each is as much heavier as its pixels are rarer"
    return {**model, "loss": {**loss, "class_weights": list(weights)}}, [reason]
