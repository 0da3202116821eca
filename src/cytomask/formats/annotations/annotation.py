"""What annotation formats are read into and written from: the objects of every image of a set, one image at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cytomask.instances import Instances


@dataclass(frozen=True, eq=False)
class Annotation:
    """The annotation of one image.

    Attributes
    ----------
    name
        The image's name: its path below the images' folder with ``/`` between folders, without the suffix.
    instances
        The objects; their ``class_names`` are those of the whole set. Ids are the annotation's own where it has any.
    crowd
        Ids of regions that hold many objects under one outline.
    file_name
        The image's file name as the annotation tells it, such as ``a.tif``; None where it does not.
    image
        The image's file, where it was found.
    facts
        What else is told of the image, as text: its split, tissue, modality …
    """

    name: str
    instances: Instances
    crowd: frozenset[int] = frozenset()
    file_name: str | None = None
    image: Path | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class AnnotationSet:
    """The annotations of a set of images; nothing but names and classes is held before :meth:`read` is asked.

    Attributes
    ----------
    classes
        Names of the classes, ``("object",)`` where the format has none.
    names
        Names of the images, each once, in order. Images without objects are among them, where the format tells them.
    read
        Reads the annotation of one image by its name. It must pickle: loaders call it in worker processes.
    told
        Sentences about what was understood or passed over when the set was opened, for the log and the record.
    facts
        What is told of each image, by name, as far as it is known before anything is read; see :class:`Annotation`.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    read: Callable[[str], Annotation]
    told: tuple[str, ...] = ()
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Annotation]:
        for name in self.names:
            yield self.read(name)
