"""What is odd about a set of annotated images as a whole: types, channels, contrast, sizes, classes, crowding."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cytomask.data.check.examine import Examined, is_shifted
from cytomask.data.check.finding import Finding
from cytomask.data.check.kinds import finding, many
from cytomask.data.check.pixel_faults import PixelFacts

#: Objects per image that COCO's own metrics and many detectors count unless told otherwise. Prediction has no limit.
COCO_LIMIT, DETECTION_LIMIT = 100, 1000
#: An image is inverted against the rest if its contrast is at least so strong and so few are like it.
CONTRAST, FEW = 0.8, 0.06
#: Annotations belong to their images where outlines lie on edges by so many standard errors; else, by fewer than those.
FITS, FOREIGN, FOREIGN_OBJECTS = 8.0, 3.0, 8
#: Ratios of frequencies, of sizes within the set (5th to 95th percentile), and of pixel sizes that are told.
RARE, WIDE, PIXEL_RATIO = 50, 10, 1.05
#: Splits of fewer images are not compared: what they hold is chance.
SPLIT_IMAGES = 5
#: Diameter below which a network's grid hardly sees an object, and the share of objects that makes it worth telling.
TINY, TINY_SHARE = 5.0, 0.1


def set_faults(examined: Sequence[Examined], class_names: Sequence[str]) -> list[Finding]:
    """Find what is odd about the set as a whole.

    Parameters
    ----------
    examined
        All images.
    class_names
        Names of the classes.
    """
    makers = (_types, _channels, _pixel_sizes, _inverted, _foreign, _crowded, _ids, _empty, _sizes)
    found = [one for make in makers for one in make(examined)]
    return found + list(_classes(examined, class_names))


def diameters(examined: Sequence[Examined]) -> np.ndarray:
    """Diameters of the circles with the objects' areas, in pixels; crowd regions are left out."""
    parts = [e.anatomy.areas[e.single & (e.anatomy.areas > 0)] for e in examined if e.anatomy is not None]
    return np.sqrt(4 / np.pi * np.concatenate([np.zeros(0), *parts]))


def boxes(examined: Sequence[Examined]) -> np.ndarray:
    """Bounding boxes of the same objects in the same order, int32 ``(N, 4)``: ``(y0, x0, y1, x1)`` in pixels."""
    parts = [e.anatomy.windows[e.single & (e.anatomy.areas > 0)] for e in examined if e.anatomy is not None]
    return np.concatenate([np.zeros((0, 4), np.int32), *parts])


def _readable(examined: Sequence[Examined]) -> list[tuple[Examined, PixelFacts]]:
    return [(one, one.pixels) for one in examined if one.pixels is not None]


def _told_of(kind: str, chosen: Sequence[Examined], message: str) -> Iterator[Finding]:
    """One finding about several images; the first of them is named."""
    if chosen:
        yield finding(kind, message, image=chosen[0].sample.name, file=chosen[0].sample.image_path,
                      split=chosen[0].sample.split, value=len(chosen))  # fmt: skip


def _types(examined: Sequence[Examined]) -> Iterator[Finding]:
    images = _readable(examined)
    dtypes = Counter(facts.dtype for _, facts in images)
    if len(dtypes) > 1:
        rare = dtypes.most_common()[-1][0]
        said = ", ".join(f"{name}: {many(count, 'image')}" for name, count in dtypes.most_common())
        yield from _told_of("mixed-dtypes", [e for e, f in images if f.dtype == rare], said)
    grey = [e for e, f in images if f.rgb and f.equal_channels]
    yield from _told_of("grey-as-rgb", grey, f"{many(len(grey), 'image has', 'images have')} three equal channels")
    alpha = [e for e, f in images if f.alpha]
    yield from _told_of("alpha", alpha, f"{many(len(alpha), 'image has', 'images have')} a transparency channel")
    low = [(e, f) for e, f in images if f.dtype in ("uint16", "int16", "uint32", "int32") and 0 < f.bits <= 14]
    if low:
        most = max(f.bits for _, f in low)
        yield from _told_of("unused-bits", [e for e, _ in low],
                            f"{many(len(low), 'image uses', 'images use')} at most {most} bits")  # fmt: skip
    floats = [(e, f) for e, f in images if f.dtype.startswith("float") and (f.low < 0 or f.high > 1)]
    if floats:
        lowest, highest = min(f.low for _, f in floats), max(f.high for _, f in floats)
        yield from _told_of("float-range", [e for e, _ in floats],
                            f"{many(len(floats), 'image')} of floats from {lowest:.4g} to {highest:.4g}")  # fmt: skip


def _channels(examined: Sequence[Examined]) -> Iterator[Finding]:
    images = _readable(examined)

    def key(facts: PixelFacts) -> str | tuple[str, ...]:
        return "colour" if facts.rgb else "grey" if len(facts.channels) == 1 else facts.channels

    kinds = Counter(key(facts) for _, facts in images)
    if len(kinds) < 2:
        return
    said = ", ".join(
        f"{many(count, 'image')} {'in ' + kind if isinstance(kind, str) else 'of channels ' + ', '.join(kind)}"
        for kind, count in kinds.most_common()
    )
    rare = kinds.most_common()[-1][0]
    chosen = [e for e, f in images if key(f) == rare]
    plain = set(kinds) <= {"colour", "grey"}
    yield finding(
        "channels-differ", said, severity="note" if plain else None, image=chosen[0].sample.name,
        file=chosen[0].sample.image_path, value=len(chosen),
        todo="let the model take colour (mode rgb: grey is repeated) or grey (colour is turned into luminance)"
        if plain else None,
    )  # fmt: skip


def _pixel_sizes(examined: Sequence[Examined]) -> Iterator[Finding]:
    known = [(e, f.pixel_size) for e, f in _readable(examined) if f.pixel_size is not None]
    if not known:
        return
    means = np.array([np.sqrt(size[0] * size[1]) for _, size in known])
    ratio = float(means.max() / means.min())
    if ratio > PIXEL_RATIO:
        e = known[int(abs(np.log(means / np.median(means))).argmax())][0]
        yield finding(
            "pixel-size-differs", f"pixel sizes from {means.min():.4g} to {means.max():.4g} µm ({ratio:.2f} times)",
            severity="warning" if ratio > 1.3 else "note", image=e.sample.name, file=e.sample.image_path, value=ratio,
        )  # fmt: skip


def _inverted(examined: Sequence[Examined]) -> Iterator[Finding]:
    for colour in (False, True):
        judged = [(e, f) for e, f in _readable(examined) if abs(f.contrast) >= CONTRAST and f.colour == colour]
        signs = np.array([np.sign(f.contrast) for _, f in judged])
        if len(judged) < 8:
            continue
        usual = 1 if signs.sum() > 0 else -1
        odd = np.flatnonzero(signs != usual)
        if not 0 < len(odd) <= max(1, FEW * len(judged)):
            continue
        for k in odd:
            e, facts = judged[k]
            if _explained(e, [one for one, _ in judged], signs == usual):
                continue
            words = ("brighter", "darker") if usual > 0 else ("darker", "brighter")
            yield finding(
                "inverted",
                f"objects are {words[1]} than their surroundings (by {abs(facts.contrast):.1f} standard deviations), "
                f"in {int((signs == usual).sum())} of {len(judged)} images {words[0]}",
                image=e.sample.name, file=e.sample.image_path, split=e.sample.split, value=abs(facts.contrast),
            )  # fmt: skip


def _explained(one: Examined, judged: Sequence[Examined], usual: np.ndarray) -> bool:
    """Whether a column of the table sets such images apart: there, they are not in the minority."""
    for column, value in one.sample.group.items():
        same = np.array([other.sample.group.get(column) == value for other in judged])
        if same.sum() >= 3 and usual[same].mean() < 0.5:
            return True
    return False


def _foreign(examined: Sequence[Examined]) -> Iterator[Finding]:
    judged = [(e, e.alignment) for e in examined if e.alignment is not None and e.alignment.objects >= FOREIGN_OBJECTS]
    if len(judged) < 4 or float(np.median([a.fit for _, a in judged])) < FITS:
        return
    for e, a in judged:
        if a.fit < FOREIGN and not is_shifted(a):
            yield finding(
                "foreign-labels",
                f"the outlines of {many(a.objects, 'object')} lie on edges no more than by chance "
                f"({a.fit:.1f} standard errors; the median image has {np.median([b.fit for _, b in judged]):.0f})",
                image=e.sample.name, file=e.sample.label_path, split=e.sample.split, value=FOREIGN - a.fit,
            )  # fmt: skip


def _crowded(examined: Sequence[Examined]) -> Iterator[Finding]:
    for limit, whose in ((DETECTION_LIMIT, "many detectors keep"), (COCO_LIMIT, "COCO's own metrics count")):
        chosen = [e for e in examined if e.n_objects > limit]
        if chosen:
            most = max(chosen, key=lambda e: e.n_objects)
            yield finding(
                "crowded",
                f"{many(len(chosen), 'image has', 'images have')} more than {limit:,} objects (up to "
                f"{most.n_objects:,}); {whose} {limit:,} of them",
                image=most.sample.name, file=most.sample.label_path, split=most.sample.split, value=most.n_objects,
            )  # fmt: skip
            return


def _ids(examined: Sequence[Examined]) -> Iterator[Finding]:
    chosen = [
        e for e in examined
        if e.sample.annotation is None and e.anatomy is not None and len(e.anatomy)
        and int(e.anatomy.ids.max()) != len(e.anatomy)
    ]  # fmt: skip
    yield from _told_of("ids-not-contiguous", chosen, f"{many(len(chosen), 'label image')} with gaps between ids")


def _empty(examined: Sequence[Examined]) -> Iterator[Finding]:
    read = [e for e in examined if e.anatomy is not None]
    if read and not any(e.n_objects for e in read):
        yield finding("no-objects", f"none of {many(len(read), 'image')} has any object", severity="error",
                      todo="annotate something, or name the right labels", value=len(read))  # fmt: skip


def _sizes(examined: Sequence[Examined]) -> Iterator[Finding]:
    sizes = diameters(examined)
    if len(sizes) < 20:
        return
    low, median, high = (float(v) for v in np.percentile(sizes, [5, 50, 95]))
    if high > WIDE * low:
        yield finding("size-range", f"diameters from {low:.1f} px (5th percentile) to {high:.1f} px (95th); median "
                      f"{median:.1f} px", value=high / low)  # fmt: skip
    share = float((sizes < TINY).mean())
    if share > TINY_SHARE:
        yield finding("tiny-objects", f"{share:.0%} of the objects are less than {TINY:g} px across", value=share)
    by_split = {
        split: median_of
        for split, members in _by(examined, lambda e: e.sample.split).items()
        if split is not None and len(members) >= SPLIT_IMAGES and (median_of := _median_diameter(members)) is not None
    }
    if len(by_split) > 1:
        least, most = min(by_split, key=by_split.__getitem__), max(by_split, key=by_split.__getitem__)
        ratio = by_split[most] / by_split[least]
        if ratio > 1.4:
            yield finding(
                "sizes-differ",
                f"the median diameter is {by_split[most]:.1f} px in {most}, {by_split[least]:.1f} px in {least}",
                value=ratio,
            )


def _median_diameter(members: Sequence[Examined]) -> float | None:
    sizes = diameters(members)
    return float(np.median(sizes)) if len(sizes) >= 50 else None


def _by(examined: Sequence[Examined], key: Callable[[Examined], str | None]) -> dict[str | None, list[Examined]]:
    groups: dict[str | None, list[Examined]] = defaultdict(list)
    for one in examined:
        groups[key(one)].append(one)
    return groups


def class_counts(examined: Sequence[Examined], class_names: Sequence[str]) -> np.ndarray:
    """Objects of each class, int64 ``(classes,)``; crowd regions are left out."""
    counts = np.zeros(len(class_names), np.int64)
    for one in examined:
        counts += np.bincount(one.classes[one.single] - 1, minlength=len(class_names))[: len(class_names)]
    return counts


def _classes(examined: Sequence[Examined], class_names: Sequence[str]) -> Iterator[Finding]:
    counts = class_counts(examined, class_names)
    if len(class_names) < 2 or not counts.sum():
        return
    used = {int(c) for one in examined for c in np.unique(one.classes)}
    unused = [name for k, name in enumerate(class_names, start=1) if k not in used]
    if unused:
        yield finding("unused-category", f"no object of {', '.join(unused)}", value=len(unused))
    some = counts[counts > 0]
    if some.max() > RARE * some.min():
        rare, common = int(np.where(counts > 0, counts, counts.max() + 1).argmin()), int(counts.argmax())
        yield finding(
            "class-imbalance",
            f"{many(int(counts[common]), 'object')} of {class_names[common]}, {int(counts[rare]):,} of "
            f"{class_names[rare]}", value=float(some.max() / some.min()),
        )  # fmt: skip
    for split, members in _by(examined, lambda e: e.sample.split).items():
        if split is None or not any(e.n_objects for e in members):
            continue
        lacking = [k for k in np.flatnonzero(class_counts(members, class_names) == 0).tolist() if counts[k]]
        for k in lacking:
            # That a small split lacks a rare class is no wonder; what training lacks is never learnt.
            yield finding(
                "class-not-in-split", f"{split} has no object of {class_names[k]} (of {int(counts[k]):,} in all)",
                severity="warning" if split == "train" else "note", split=split, value=float(counts[k]),
            )  # fmt: skip
