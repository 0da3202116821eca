"""The path data of SVG, ``M 10 10 h 5 v 5 z``, as lines and cubic curves; and curves as many short lines."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np

#: A straight line of two points ``(x, y)``, or a cubic curve of four.
Segment = np.ndarray
_NUMBER = re.compile(r"[\s,]*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)", re.ASCII)
_FLAG = re.compile(r"[\s,]*([01])")
_COMMAND = re.compile(r"[\s,]*([MLHVCSQTAZmlhvcsqtaz])")
_BLANK = re.compile(r"[\s,]*")
#: How many numbers follow each command; of an arc, the fourth and fifth are flags.
_COUNTS = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7, "Z": 0}
#: Coordinates beyond this are not meant.
LARGEST = 1e7
_MOST_PIECES = 2000
#: A ring of more points is not meant.
_MOST_POINTS = 5_000_000


class PathError(ValueError):
    """Path data that cannot be read."""


def read_path(data: str) -> list[list[Segment]]:
    """Read path data.

    Parameters
    ----------
    data
        The value of the attribute ``d``.

    Returns
    -------
    list of list of numpy.ndarray
        For each subpath its segments, float64 ``(2, 2)`` or ``(4, 2)`` as ``(x, y)``. Arcs are cubic curves.

    Raises
    ------
    PathError
        If there is an unknown command, a number is missing or out of all bounds, or it does not begin with a move.

    Examples
    --------
    >>> [[segment.tolist() for segment in part] for part in read_path("M1 2h3 V5z")]
    [[[[1.0, 2.0], [4.0, 2.0]], [[4.0, 2.0], [4.0, 5.0]]]]
    """
    parts: list[list[Segment]] = []
    place = start = np.zeros(2)
    handle = np.zeros(2)  # the last control point, which S and T mirror
    last = ""
    for letter, numbers in _commands(data):
        command, base = letter.upper(), (place if letter.islower() else np.zeros(2))
        if command == "M":
            place = start = base + numbers
            parts.append([])
        elif not parts:
            raise PathError(f"it begins with {letter}, not with a move")
        elif command == "Z":
            place = start
            parts.append([])
        elif command in "LHV":
            target = base + numbers if command == "L" else place.copy()
            if command != "L":
                axis = "HV".index(command)
                target[axis] = base[axis] + numbers[0]
            parts[-1].append(np.array([place, target]))
            place = target
        elif command == "A":
            target = base + numbers[5:]
            parts[-1] += _arc(place, target, numbers)
            place = target
        else:
            points = base + np.reshape(numbers, (-1, 2))
            if command in "ST":
                mirrors = last != "" and last in ("CS" if command == "S" else "QT")
                mirrored = 2 * place - handle if mirrors else place
                points = np.concatenate([[mirrored], points])
            if command in "QT":
                control, target = points
                points = np.array([place + 2 / 3 * (control - place), target + 2 / 3 * (control - target), target])
                handle = control
            else:
                handle = points[1]
            parts[-1].append(np.concatenate([[place], points]))
            place = points[-1]
        last = command
        if not np.abs(place).max() < LARGEST:
            raise PathError(f"a coordinate is beyond {LARGEST:.0e}")
    return [part for part in parts if part]


def flatten(segments: list[Segment], tolerance: float = 0.1) -> np.ndarray:
    """Turn the segments of a subpath into a ring ``(V, 2)`` of points, nowhere further than ``tolerance`` away.

    Raises
    ------
    PathError
        If that takes more than 5 million points.

    Examples
    --------
    >>> quarter = read_path("M0 0 C0 5.52 4.48 10 10 10")[0]
    >>> flatten(quarter).shape[0], flatten(quarter, 0.001).shape[0] > 20
    (7, True)
    """
    points = [segments[0][:1]]
    count = 0
    for segment in segments:
        if len(segment) == 2:
            points.append(segment[1:])
            continue
        # A chord over the n-th part of a curve is nowhere further from it than |second derivative| / 8 n².
        bend = 6 * np.hypot(*np.diff(segment, 2, axis=0).T).max()
        n = min(_MOST_PIECES, max(1, math.ceil(math.sqrt(bend / (8 * tolerance)))))
        count += n
        if count > _MOST_POINTS:
            raise PathError(f"its curves need more than {_MOST_POINTS} points")
        t = np.linspace(0, 1, n + 1)[1:, None]
        a, b, c, d = segment
        points.append((1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d)
    return np.concatenate(points)


def _commands(data: str) -> Iterator[tuple[str, np.ndarray]]:
    """Commands with their numbers, one set at a time: further pairs after a move are lines."""
    at, letter = 0, ""
    while True:
        at = _BLANK.match(data, at).end()  # type: ignore[union-attr] # it matches everywhere
        if at == len(data):
            return
        if found := _COMMAND.match(data, at):
            letter, at = found[1], found.end()
        elif letter in ("", "Z", "z"):
            raise PathError(f"there is {data[at : at + 10]!r} where a command should be")
        else:
            letter = {"M": "L", "m": "l"}.get(letter, letter)
        numbers = []
        for k in range(_COUNTS[letter.upper()]):
            pattern = _FLAG if letter in "Aa" and k in (3, 4) else _NUMBER
            found = pattern.match(data, at)
            if found is None:
                raise PathError(f"there is {data[at : at + 10].strip()!r} where a number of {letter} should be")
            numbers.append(float(found[1]))
            at = found.end()
        if numbers and not max(map(abs, numbers)) < LARGEST:
            raise PathError(f"a coordinate is beyond {LARGEST:.0e}")
        yield letter, np.array(numbers)


def _arc(begin: np.ndarray, end: np.ndarray, numbers: np.ndarray) -> list[Segment]:
    """An elliptic arc as cubic curves of at most a quarter turn each (SVG 1.1, appendix F.6)."""
    rx, ry, degrees = (float(n) for n in numbers[:3])
    large, sweep = (bool(n) for n in numbers[3:5])
    rx, ry = abs(rx), abs(ry)
    if rx == 0 or ry == 0 or (begin == end).all():
        return [np.array([begin, end])] if (begin != end).any() else []
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[cos, -sin], [sin, cos]])
    # In the frame where the ellipse is a circle of radius 1.
    half = turn.T @ (begin - end) / 2 / (rx, ry)
    far = float(half @ half)
    if far < 1e-24:
        return [np.array([begin, end])]
    if far > 1:
        rx, ry, half, far = rx * math.sqrt(far), ry * math.sqrt(far), half / math.sqrt(far), 1.0
    offset = math.sqrt(max(0.0, 1 / far - 1)) * (1 if large != sweep else -1)
    middle = np.array([half[1], -half[0]]) * offset
    first, last = half - middle, -half - middle
    angle = math.atan2(first[1], first[0])
    swept = math.atan2(last[1], last[0]) - angle
    swept += 2 * math.pi * (sweep and swept < 0) - 2 * math.pi * (not sweep and swept > 0)
    n = max(1, math.ceil(abs(swept) / (math.pi / 2) - 1e-9))
    step = swept / n
    reach = 4 / 3 * math.tan(step / 4)
    centre = (begin + end) / 2 + turn @ (middle * (rx, ry))
    curves = []
    for k in range(n):
        a, b = angle + k * step, angle + (k + 1) * step
        p, q = np.array([math.cos(a), math.sin(a)]), np.array([math.cos(b), math.sin(b)])
        corners = np.array([p, p + reach * np.array([-p[1], p[0]]), q - reach * np.array([-q[1], q[0]]), q])
        curves.append(corners * (rx, ry) @ turn.T + centre)
    curves[0][0], curves[-1][-1] = begin, end
    return curves
