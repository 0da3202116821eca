"""How much tiles change what a dense model says: exact ones, and blended ones of several widths.

uv run python benchmarks/blended_tiles.py MODEL IMAGE... [--tile 512] [--widths 0,32,64,128]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from cytomask.evaluation.matching import match
from cytomask.formats.images import read_image
from cytomask.prediction.predictor import Predictor
from cytomask.prediction.probabilities import assembling
from cytomask.workflows.models import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--widths", default="0,32,64,128")
    arguments = parser.parse_args()
    bundle = load_model(arguments.model)
    ways: list[tuple[str, dict[str, int]]] = [
        ("whole image", {"tile": 8192}),
        ("exact tiles", {"tile": arguments.tile}),
    ]
    ways += [(f"blend {w}", {"tile": arguments.tile, "blend": int(w)}) for w in arguments.widths.split(",")]
    print(f"{'':<12} seconds  largest / mean difference of probability  other pixels   objects alike (IoU > 0.9)")
    for path in arguments.images:
        image = read_image(path)
        whole = None
        for name, options in ways:
            predictor = Predictor.from_bundle(bundle, precision="float32", **options)  # type: ignore[arg-type]
            segmenter = assembling(predictor.segmenter)
            begun = time.perf_counter()
            prepared = predictor.prepare(image)
            everything = predictor.postprocess.model_copy(update={"score_threshold": 0.0})
            pieces = predictor.propose(prepared, everything)
            found = segmenter.resolve(pieces, predictor.postprocess, prepared.native_shape, prepared.scale)
            seconds = time.perf_counter() - begun
            maps = segmenter.probabilities(pieces, (0, 0, *prepared.shape))
            if whole is None:
                whole = (maps, found)
            away = np.abs(maps - whole[0])
            others = np.mean((found.to_labels() > 0) != (whole[1].to_labels() > 0))
            alike = match(whole[1], found, (0.9,)).figures()["f1"][0]
            print(
                f"{name:<12} {seconds:6.1f}   {away.max():.4f} / {away.mean():.6f}   {100 * others:.4f} %   {alike:.4f}"
            )


if __name__ == "__main__":
    main()
