"""Prediction against StarDist on tensorflow-cpu: forward pass, and image in to label image out.

Run with the peers installed, on an otherwise idle machine:

    uv run --group peers python benchmarks/prediction.py --data PATH/TO/nuclei

Both run in one process on the same field of nuclei, taking turns; medians are printed as a Markdown table.
The field is tiled from real fluorescence images to 1024 x 1024. StarDist's default network gets the weights of our
network of the same size (`--unet`, a run or bundle trained on the same data), so both find real objects.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from fields import field_of_nuclei
from stardist_network import copy_to_keras, default_star, keras_stardist
from turns import take_turns

import cytomask
from cytomask.evaluation.matching import match
from cytomask.image import Image
from cytomask.prediction.devices import choose_precision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(Path(__file__).parents[2] / "shared" / "data" / "nuclei"))
    parser.add_argument("--unet", help="a trained model of StarDist's default size (a run or a bundle)")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    image, truth = field_of_nuclei(options.data)
    theirs = keras_stardist()
    if options.unet:
        same_model = cytomask.load(options.unet)
        same = same_model.bundle.segmenter
    else:
        same_model, same = None, default_star()
    copy_to_keras(same, theirs)
    same = same.to(memory_format=torch.channels_last)
    shipped = cytomask.load("nuclei")

    low, high = np.percentile(image, [1, 99.8])
    floats = ((image - low) / (high - low)).astype(np.float32)
    tensor = torch.from_numpy(floats)[None, None].to(memory_format=torch.channels_last)

    precision = choose_precision("auto", torch.device("cpu"))
    with torch.inference_mode():
        ours = same(tensor)
        keras = theirs.keras_model.predict(floats[None, ..., None], verbose=0)
        print(
            "largest difference of the two networks' distances on equal weights:",
            f"{np.abs(ours[1][0].permute(1, 2, 0).numpy() - keras[1][0]).max():.2e} px",
        )

        def forward_ours() -> None:
            same(tensor)

        def forward_default() -> None:
            with torch.autocast("cpu", precision, enabled=precision != torch.float32):
                same(tensor)

        forward = take_turns(
            options.repeats,
            ours=forward_ours,
            default=forward_default,
            stardist=lambda: theirs.keras_model.predict(floats[None, ..., None], verbose=0),
        )

    from csbdeep.utils import normalize

    wrapped = Image.from_array(image, axes="YX")
    thresholds = {"prob_thresh": 0.5, "nms_thresh": 0.4}
    runs: dict[str, Callable[[], np.ndarray]] = {
        "shipped": lambda: shipped.predict(wrapped).to_labels(),
        "stardist": lambda: theirs.predict_instances(normalize(image, 1, 99.8), **thresholds)[0],
    }
    if same_model is not None:
        post = same_model.bundle.postprocess
        thresholds = {"prob_thresh": post.score_threshold, "nms_thresh": post.nms_threshold}  # type: ignore[attr-defined]
        runs["same_size"] = lambda: same_model.predict(wrapped).to_labels()
    end_to_end = take_turns(options.repeats, **runs)
    accuracy = {name: float(match(truth, run(), [0.5]).figures()["accuracy"][0]) for name, run in runs.items()}

    print("\n| what | cytomask | stardist (tensorflow-cpu) | ratio |\n|---|---|---|---|")
    row = "| {} | {:.3f} s | {:.3f} s | {:.2f}x |"
    for name, what in (("ours", "float32"), ("default", f"the default here, {str(precision).removeprefix('torch.')}")):
        what = f"forward pass, StarDist's default network, 1024², {what}"
        print(row.format(what, forward[name], forward["stardist"], forward["stardist"] / forward[name]))
    for name in ("shipped", "same_size"):
        if name in end_to_end:
            print(
                row.format(
                    f"image to label image, {name}, 1024²",
                    end_to_end[name],
                    end_to_end["stardist"],
                    end_to_end["stardist"] / end_to_end[name],
                )
            )
    print("\naccuracy at IoU 0.5 on this field:", {name: round(value, 3) for name, value in accuracy.items()})


if __name__ == "__main__":
    main()
