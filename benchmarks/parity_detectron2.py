"""Detectron2 and cytomask on the same weights: are parameters, boxes, scores, classes and masks the same?

Needs detectron2 (with its sources, for configurations and PointRend) importable beside cytomask::

    python benchmarks/parity_detectron2.py DETECTRON2_SOURCES IMAGE [--network mask_rcnn] [--ending pth] [--resize]

Published weights cannot be had everywhere, so detectron2's own fresh weights of a fixed seed are taken. As they are,
they would find nothing that tells right from wrong: all scores equal, all masks one half. So statistics of the norms
are drawn at random, offsets of deformable convolutions are given about a pixel, and each layer that predicts is scaled
on its first use so that what it says spreads over the boxes: scores from about 0.05 to 0.9, moved boxes, masks with
inside and outside. The checkpoint is saved as detectron2 saves it, as ``.pth`` and as ``.pkl``, and imported by the
command that users have.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cytomask.__main__ import main as cytomask
from cytomask.formats.images import read_image
from cytomask.image import Image
from cytomask.models.bundle import load_bundle
from cytomask.prediction.predictor import Predictor

NETWORKS = {
    "mask_rcnn": ("configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml", 43_934_184),
    "cascade": ("configs/Misc/cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv.yaml", 182_234_428),
    "pointrend": (
        "projects/PointRend/configs/InstanceSegmentation/pointrend_rcnn_X_101_32x8d_FPN_3x_coco.yaml", None,
    ),
}  # fmt: skip
CLASSES = 4
ENDINGS = ("pth", "pkl")
#: Layers that predict, by the ends of their names -> standard deviation of what they say.
SPREADS = {
    "objectness_logits": 1.5, "anchor_deltas": 0.2, "cls_score": 1.5, "bbox_pred": 0.6, "mask_head.predictor": 3.0,
    "coarse_head.prediction": 3.0, "point_head.predictor": 3.0,
}  # fmt: skip
#: More than the zoo's 100, so that less certain ones are compared, too.
DETECTIONS = 300


def configuration(sources: Path, file: str) -> Any:
    """Read a configuration of the zoo by detectron2 itself, for four classes and images of their own size."""
    from detectron2.config import get_cfg

    sys.path.append(str(sources / "projects" / "PointRend"))
    import point_rend

    config = get_cfg()
    if "PointRend" in file:
        point_rend.add_pointrend_config(config)
        config.MODEL.POINT_HEAD.NUM_CLASSES = CLASSES
    config.merge_from_file(str(sources / file))
    config.MODEL.ROI_HEADS.NUM_CLASSES, config.TEST.DETECTIONS_PER_IMAGE = CLASSES, DETECTIONS
    config.MODEL.DEVICE, config.MODEL.WEIGHTS = "cpu", ""
    return config


def decided(network: nn.Module, image: torch.Tensor) -> None:
    """Make a fresh network one that finds different things with different certainty; see the text above."""
    generator = torch.Generator().manual_seed(1)

    def drawn(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator)

    for name, module in network.named_modules():
        if type(module).__name__ == "FrozenBatchNorm2d":
            last = 0.3 if name.endswith("conv3.norm") else 1.0  # or activations would double with every block
            module.weight.copy_(last * drawn(module.weight, 0.8, 1.2))
            module.bias.copy_(drawn(module.bias, -0.1, 0.1))
            module.running_mean.copy_(drawn(module.running_mean, -0.1, 0.1))
            module.running_var.copy_(drawn(module.running_var, 0.8, 1.2))
        if name.endswith("conv2_offset"):
            nn.init.normal_(module.weight, std=0.01, generator=generator)
    calibrate(network, image, {**SPREADS, "conv2_offset": 1.0})


def calibrate(network: nn.Module, image: torch.Tensor, spreads: dict[str, float]) -> None:
    """Scale the layers whose names end so that their answers to an image have a mean of 0 and these deviations."""
    hooks = [
        module.register_forward_hook(_scaled_on_first_use(spread))
        for name, module in network.named_modules()
        for ending, spread in spreads.items()
        if name.endswith(ending)
    ]
    with torch.no_grad():
        network([{"image": image}])
    for hook in hooks:
        hook.remove()


def _scaled_on_first_use(spread: float) -> Any:
    done = False

    def hook(module: Any, _: Any, output: torch.Tensor) -> torch.Tensor | None:
        nonlocal done
        if done or not len(output):
            return None
        done = True
        axes = [axis for axis in range(output.dim()) if axis != 1]
        factor = spread / output.std(axes).clamp(min=1e-9)
        module.weight.mul_(factor.reshape(-1, *[1] * (module.weight.dim() - 1)))
        module.bias.copy_((module.bias - output.mean(axes)) * factor)
        shape = [1, -1, *[1] * (output.dim() - 2)]
        return (output - output.mean(axes).reshape(shape)) * factor.reshape(shape)

    return hook


def theirs(network: nn.Module, pixels: np.ndarray, config: Any, resize: bool) -> dict[str, np.ndarray]:
    """What detectron2 finds in an RGB picture, as its predictor for demonstrations does it."""
    from detectron2.data.transforms import ResizeShortestEdge

    height, width = pixels.shape[:2]
    picture = pixels[:, :, ::-1]
    if resize:
        edges = config.INPUT.MIN_SIZE_TEST, config.INPUT.MAX_SIZE_TEST
        picture = ResizeShortestEdge([edges[0], edges[0]], edges[1]).get_transform(picture).apply_image(picture)
    tensor = torch.as_tensor(np.ascontiguousarray(picture.transpose(2, 0, 1)).astype(np.float32))
    with torch.no_grad():
        found = network([{"image": tensor, "height": height, "width": width}])[0]["instances"]
    return {
        "boxes": found.pred_boxes.tensor.numpy(),
        "scores": found.scores.numpy(),
        "classes": found.pred_classes.numpy(),
        "masks": found.pred_masks.numpy(),
    }


def ours(bundle: Path, pixels: np.ndarray) -> tuple[dict[str, np.ndarray], int]:
    """What cytomask finds with the imported bundle, and how many parameters it has."""
    loaded = load_bundle(bundle)
    predictor = Predictor.from_bundle(loaded, device="cpu", tile=4096)
    prepared = predictor.prepare(Image.from_array(pixels, axes="YXC", rgb=True))
    proposals = predictor.propose(prepared)
    instances = loaded.segmenter.render(proposals, prepared.native_shape, prepared.scale)
    final = loaded.segmenter.resolve(proposals, loaded.postprocess, prepared.native_shape, prepared.scale)
    assert len(final) == (instances.areas() > 0).sum(), "objects are dropped a second time"
    boxes = loaded.segmenter.boxes(proposals) / np.tile(prepared.scale, 2)
    found = {
        "boxes": boxes[:, [1, 0, 3, 2]],
        "scores": np.asarray(proposals.scores),
        "classes": np.asarray(proposals.classes) - 1,
        "masks": np.stack([instances.full_mask(k) for k in range(len(instances))]),
    }
    return found, sum(p.numel() for p in loaded.segmenter.parameters())


def compared(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest differences between detections, each of ``a`` compared with that of ``b`` whose box is nearest."""
    distance = np.abs(a["boxes"][:, None] - b["boxes"][None]).max(2) + 100 * (a["classes"][:, None] != b["classes"])
    distance += np.abs(a["scores"][:, None] - b["scores"])
    nearest = distance.argmin(1)
    both = [(i, j) for i, j in enumerate(nearest) if distance[i, j] < 1]
    i, j = np.array([x for x, _ in both]), np.array([y for _, y in both])
    union = (a["masks"][i] | b["masks"][j]).sum((1, 2))
    overlap = np.where(union, (a["masks"][i] & b["masks"][j]).sum((1, 2)) / np.maximum(union, 1), 1)
    return {
        "detections of detectron2": len(a["boxes"]),
        "detections of cytomask": len(b["boxes"]),
        "found by both": len(set(j.tolist())),
        "box difference, px": float(np.abs(a["boxes"][i] - b["boxes"][j]).max()),
        "score difference": float(np.abs(a["scores"][i] - b["scores"][j]).max()),
        "classes equal": float((a["classes"][i] == b["classes"][j]).all()),
        "smallest mask IoU": float(overlap.min()),
        "pixels that differ": float((a["masks"][i] ^ b["masks"][j]).sum()),
        "mean area of masks, px": float(a["masks"].sum((1, 2)).mean()),
        "scores from": float(a["scores"].min()),
        "scores to": float(a["scores"].max()),
    }


def run(sources: Path, name: str, pixels: np.ndarray, resize: bool, endings: Sequence[str]) -> None:
    """Compare one network and print what differs."""
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.modeling import build_model

    file, count = NETWORKS[name]
    config = configuration(sources, file)
    torch.manual_seed(0)
    network = build_model(config).eval()
    decided(network, torch.as_tensor(np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1)).astype(np.float32)))
    begin = time.perf_counter()
    expected = theirs(network, pixels, config, resize)
    seconds = time.perf_counter() - begin
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{name}: detectron2 has {parameters:,} parameters (published: {count}), {seconds:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        DetectionCheckpointer(network, folder).save("model")
        weights = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
        (Path(folder) / "model.pkl").write_bytes(pickle.dumps({"model": weights, "__author__": "parity"}, 2))
        del network
        for ending in endings:
            settings = [f"MODEL.ROI_HEADS.NUM_CLASSES={CLASSES}", f"TEST.DETECTIONS_PER_IMAGE={DETECTIONS}"]
            settings += [f"MODEL.POINT_HEAD.NUM_CLASSES={CLASSES}"] if name == "pointrend" else []
            settings += [] if resize else ["INPUT.MIN_SIZE_TEST=0"]
            bundle, begin = Path(folder) / ending, time.perf_counter()
            command = ["models", "import", "detectron2", f"{folder}/model.{ending}", "--config-file", sources / file]
            command += ["--out", bundle, *(word for setting in settings for word in ("--set", setting))]
            assert cytomask([str(word) for word in command]) == 0
            seconds = time.perf_counter() - begin
            begin = time.perf_counter()
            result, mine = ours(bundle, pixels)
            print(f"  .{ending}: cytomask has {mine:,}; import {seconds:.1f} s, {time.perf_counter() - begin:.1f} s")
            assert mine == parameters
            assert count in (None, mine)
            for key, value in compared(expected, result).items():
                print(f"  {key:<26} {value:.6g}", flush=True)


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("sources", type=Path, help="detectron2's source folder")
    parser.add_argument("image", type=Path, help="an 8-bit image, colour or grey")
    parser.add_argument("--network", choices=[*NETWORKS], action="append", help="default: all three")
    parser.add_argument("--size", type=int, default=512, help="rows and columns that are taken of the image")
    parser.add_argument("--ending", choices=ENDINGS, action="append", help="of the checkpoint; default: both")
    parser.add_argument("--resize", action="store_true", help="resize the image as the zoo does, not at its own size")
    chosen = parser.parse_args()
    image = read_image(chosen.image)
    pixels = np.moveaxis(np.asarray(image.pixels), 0, -1)[: chosen.size, : chosen.size]
    if pixels.dtype != np.uint8:
        pixels = (np.clip(pixels / np.percentile(pixels, 99.8), 0, 1) * 255).astype(np.uint8)
    pixels = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)) if pixels.shape[2] == 1 else pixels)
    for name in chosen.network or NETWORKS:
        run(chosen.sources, name, pixels[:, :, :3], chosen.resize, chosen.ending or ENDINGS)


if __name__ == "__main__":
    main()
