"""The one way from an image to instances, for every model and every door."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

import numpy as np
import torch

from cytomask.data.channels import ChannelExpectation
from cytomask.data.normalise import Normalisation
from cytomask.data.working_size import ImageSize
from cytomask.errors import ConfigError, CytomaskError
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.models.assembling import AssemblingSegmenter
from cytomask.models.bundle import Bundle
from cytomask.models.devices import choose_device
from cytomask.models.proposals import Proposals
from cytomask.models.segmenter import Postprocess, Segmenter
from cytomask.prediction.blending import blended
from cytomask.prediction.devices import choose_precision, give_back_memory, out_of_memory
from cytomask.prediction.diameter import estimate_diameter
from cytomask.prediction.prepare import PreparedImage, prepare_image, scale_to_diameter, scale_to_size, unknown_diameter
from cytomask.prediction.spool import Spool
from cytomask.prediction.tiles import DEFAULT_TILE, Tile, check_tile, equal_batches, plan_tiles
from cytomask.progress import say, track, warn

T = TypeVar("T")

#: Tiles on a GPU: larger, since memory is there and small ones leave it idle.
DEFAULT_TILE_CUDA = 2048
#: Pixels of one batch on a GPU where no batch size is asked for.
BATCH_PIXELS_CUDA = 2**22
#: Overlap for families that must see an object whole, where neither an overlap nor the objects' size is known.
DEFAULT_OVERLAP = 128


class Predictor:
    """Segment images of any size with one network.

    An image is read by windows, each with the surroundings that can influence it; a proposal is kept by the one tile
    in whose core its point lies; conflicts are resolved once, for the whole image. **So tiles and batches change
    memory and time, not the result**: for families that must see an object whole, as long as it is smaller than the
    overlap (a warning tells when one is not). A network with self-attention sees all of a tile at once: a warning tells
    when an image takes several.

    Parameters
    ----------
    segmenter
        The network; it is moved to the device.
    channels, normalisation
        What the model expects of an image.
    postprocess
        Its thresholds; the family's defaults if None.
    pixel_size
        µm per pixel that it was trained at.
    resize
        Size that it sees whole images at; goes before the pixel size.
    diameter
        Median object diameter that it was trained with, in network pixels.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` …
    precision
        ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    batch_size
        Tiles that go through the network together; None chooses.
    tile, overlap
        Side of a tile, and what neighbours share, in network pixels; None chooses.
    blend
        Tiles see only so many network pixels beyond their core, and the maps of neighbours pass into one another
        there: faster than seeing all that may influence a pixel, but not exactly as from the whole image. For families
        that make objects of maps. None: tiles see all.

    Raises
    ------
    ConfigError
        If there is no such device or precision, the tile is too small, the family makes no maps to blend, or they are
        to be blended over less than nothing.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        channels: ChannelExpectation,
        normalisation: Normalisation,
        postprocess: Postprocess | None = None,
        pixel_size: float | None = None,
        resize: ImageSize | None = None,
        diameter: float | None = None,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        blend: int | None = None,
    ) -> None:
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        # Channels last is what the convolution kernels of both CPU and GPU are fastest with.
        self.segmenter = segmenter.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.channels, self.normalisation = channels, normalisation
        self.postprocess = postprocess if postprocess is not None else segmenter.postprocess_class.model_validate({})
        self.pixel_size, self.resize, self.diameter = pixel_size, resize, diameter
        self.batch_size = batch_size
        self.overlap = overlap if overlap is not None else self._default_overlap()
        if tile is None:
            tile = DEFAULT_TILE_CUDA if self.device.type == "cuda" else DEFAULT_TILE
            tile = max(tile, 4 * self.overlap)
        if blend is not None and not isinstance(segmenter, AssemblingSegmenter):
            raise ConfigError(
                f"only maps of pixels can be blended, and the family {segmenter.family} finds objects one by one",
                where="--blend", found=blend, fix="leave --blend out",
            )  # fmt: skip
        if blend is not None and blend < 0:
            raise ConfigError(
                "tiles cannot be blended over less than nothing", where="--blend", found=blend, expected="0 or more"
            )
        self.blend = blend
        self._told_of_tiles = False
        check_tile(tile, self.overlap, self._alignment)
        self.tile = tile

    @classmethod
    def from_bundle(
        cls,
        bundle: Bundle,
        *,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        blend: int | None = None,
    ) -> Predictor:
        """Predict with a saved model; all that concerns the images comes from the bundle."""
        spec = bundle.spec
        return cls(
            bundle.segmenter,
            channels=spec.channels,
            normalisation=spec.normalisation,
            postprocess=bundle.postprocess,
            pixel_size=spec.pixel_size,
            resize=spec.resize,
            diameter=spec.diameter,
            device=device,
            precision=spec.precision if precision == "auto" else precision,
            batch_size=batch_size,
            tile=tile,
            overlap=overlap,
            blend=blend,
        )

    def predict(
        self,
        image: Image,
        *,
        diameter: float | Literal["auto"] | None = None,
        channels: Sequence[str | int] | None = None,
        postprocess: Postprocess | None = None,
    ) -> Instances:
        """Segment one image.

        Parameters
        ----------
        image
            Any size; read by windows.
        diameter
            Diameter of the objects in native pixels, or ``"auto"`` to estimate it from the image: the image is scaled
            so that they are as large as those that the model was trained with. None: scaled by the pixel size where
            both the image's and the model's are known, else not at all.
        channels
            Which of the image's channels to use, by name or number.
        postprocess
            Other thresholds than the model's.

        Returns
        -------
        Instances
            In native pixels.

        Raises
        ------
        ChannelError
            If the image's channels do not fit the model.
        ConfigError
            If the diameter cannot be used.
        """
        prepared = self.prepare(image, diameter=diameter, channels=channels, postprocess=postprocess)
        return self.segment(prepared, postprocess)

    def prepare(
        self,
        image: Image,
        *,
        diameter: float | Literal["auto"] | None = None,
        channels: Sequence[str | int] | None = None,
        postprocess: Postprocess | None = None,
    ) -> PreparedImage:
        """Settle channels, normalisation and scale of an image, the first half of :meth:`predict`."""
        prepared = prepare_image(
            image,
            channels=self.channels,
            normalisation=self.normalisation,
            chosen=channels,
            # A diameter says more about this image than the pixel size does.
            model_pixel_size=self.pixel_size if diameter is None and self.resize is None else None,
        )
        if diameter is None:
            return prepared if self.resize is None else prepared.at_scale(*scale_to_size(image.shape, self.resize))
        if diameter == "auto":
            if self.diameter is None:
                raise unknown_diameter()
            estimate, told = estimate_diameter(prepared, lambda part: self.segment(part, postprocess), self.diameter)
            say(told)
            prepared = prepared.at_scale((1.0, 1.0), told)
            if estimate is None:
                return prepared
            diameter = estimate
        return prepared.at_scale(*scale_to_diameter(diameter, self.diameter))

    def segment(self, prepared: PreparedImage, postprocess: Postprocess | None = None) -> Instances:
        """Segment a prepared image, the second half of :meth:`predict`.

        Raises
        ------
        CytomaskError
            If memory runs out even with the smallest tile.
        """
        postprocess = postprocess if postprocess is not None else self.postprocess
        proposals = self.propose(prepared, postprocess)
        instances = self.segmenter.resolve(proposals, postprocess, prepared.native_shape, prepared.scale)
        windows = instances.windows
        self.warn_of_cut_objects(windows[:, 2:] - windows[:, :2], prepared)
        return instances

    def propose(self, prepared: PreparedImage, postprocess: Postprocess | None = None) -> Proposals:
        """Run the network only: what it proposes for the whole image, in network pixels, sorted by row and column.

        Raises
        ------
        CytomaskError
            If memory runs out even with the smallest tile.
        """
        postprocess = postprocess if postprocess is not None else self.postprocess

        def collect(tiles: list[Tile]) -> Proposals:
            parts = [found for _, found in self._kept(prepared, postprocess, tiles)]
            return Proposals.concatenate(parts).in_canonical_order()

        return self._with_memory(prepared, collect)

    def begin_spool(self, spool: Spool, prepared: PreparedImage, failed: str | None = None) -> list[int]:
        """Plan the batches of tiles that are to be put on disk, and say which are missing there.

        A spool that has been begun is gone on with, with its own plan.

        Parameters
        ----------
        spool
            Takes the plan.
        prepared
            The image.
        failed
            That memory ran out with the spool's plan, in the words of whoever said so: smaller tiles begin anew, so
            that all proposals come from one plan.

        Raises
        ------
        CytomaskError
            If memory ran out even with the smallest tile.
        OutputError
            If the spool cannot be written.
        """
        tiles = self._adopt(spool, prepared)
        if failed is not None:
            self._shrink(tiles, failed)
            tiles = self.tiles(prepared.shape)
        self._tell_of_tiles(tiles)
        spool.begin(tiles, self.tile, self._batch(tiles))
        finished = spool.finished()
        if finished:
            say(f"going on: {len(finished)} of {len(tiles)} tiles are there from an earlier run")
        places = {tile: place for place, tile in enumerate(tiles)}
        return [
            number
            for number, batch in enumerate(equal_batches(tiles, self._batch(tiles)))
            if not all(places[tile] in finished for tile in batch)
        ]

    def join_spool(self, spool: Spool, prepared: PreparedImage) -> None:
        """Take up the plan of a spool that another process has begun."""
        spool.join(self._adopt(spool, prepared))

    def _adopt(self, spool: Spool, prepared: PreparedImage) -> list[Tile]:
        """The tiles of the spool's plan if it has one, else of our own; batches and tiles stay of that size."""
        plan = spool.plan()
        if plan is not None and (plan["tile"], plan["batch"]) != (self.tile, self._batch(self.tiles(prepared.shape))):
            self.tile, self.batch_size = plan["tile"], plan["batch"]
        return self.tiles(prepared.shape)

    def fill_spool(
        self, spool: Spool, prepared: PreparedImage, postprocess: Postprocess, batches: Sequence[int]
    ) -> Iterator[int]:
        """Run the network as :meth:`propose`, and put what the tiles of some batches propose on disk.

        Parameters
        ----------
        spool
            Begun or joined.
        prepared
            The image.
        postprocess
            Thresholds.
        batches
            Of the plan.

        Yields
        ------
        int
            Each batch when it is done.
        """
        tiles, training = list(spool.tiles), self.segmenter.training
        self.segmenter.eval()
        try:
            places = {tile: place for place, tile in enumerate(tiles)}
            of_tile = {
                places[tile]: number
                for number, batch in enumerate(equal_batches(tiles, self._batch(tiles)))
                for tile in batch
            }
            left = Counter(of_tile.values())
            for number, found in self._kept(prepared, postprocess, tiles, batches):
                if self.blend is None:
                    found = found.take(found.scores > postprocess.score_threshold)
                spool.add(number, found, self.segmenter.bounds(found))
                batch = of_tile[number]
                left[batch] -= 1
                if not left[batch]:
                    yield batch
        finally:
            self.segmenter.train(training)

    def _with_memory(self, prepared: PreparedImage, work: Callable[[list[Tile]], T]) -> T:
        """Do some work with the image's tiles, with smaller ones when memory runs out."""
        training = self.segmenter.training
        self.segmenter.eval()
        try:
            while True:
                tiles = self.tiles(prepared.shape)
                self._tell_of_tiles(tiles)
                try:
                    return work(tiles)
                except Exception as error:
                    if not out_of_memory(error):
                        raise
                    reason = str(error).splitlines()[0] if str(error) else "out of memory"
                # Only here have the failed batch's arrays been let go.
                self._shrink(tiles, reason)
        finally:
            self.segmenter.train(training)

    def _tell_of_tiles(self, tiles: list[Tile]) -> None:
        if self._told_of_tiles or len(tiles) < 2 or self.blend is not None or not self.segmenter.sees_all:
            return
        self._told_of_tiles = True
        warn(
            f"an image takes {len(tiles)} tiles, and this network's self-attention looks at all of a tile at once: the "
            "result is not exactly that of the whole image; a larger --tile avoids this, if there is memory for it"
        )

    def tiles(self, shape: tuple[int, int]) -> list[Tile]:
        """Plan the tiles of an image of this height and width (network pixels)."""
        return plan_tiles(
            shape,
            tile=self.tile,
            overlap=self.overlap,
            stride=self.segmenter.stride,
            halo=self.segmenter.halo if self.blend is None else self.blend,
            needs_whole_objects=self.segmenter.needs_whole_objects,
            alignment=self._alignment,
        )

    @property
    def _alignment(self) -> int:
        # What is blended is not exact in any case.
        return self.segmenter.alignment if self.blend is None else self.segmenter.stride

    def _kept(
        self,
        prepared: PreparedImage,
        postprocess: Postprocess,
        tiles: list[Tile],
        wanted: Sequence[int] | None = None,
    ) -> Iterator[tuple[int, Proposals]]:
        """What each tile proposes and owns, in the frame of the whole image, with the tile's place in the list.

        Batches that are not wanted are left out; the others are made of the same tiles in any case, since the last bits
        of a network's output may depend on how many images go through it together.
        """
        places = {tile: place for place, tile in enumerate(tiles)}
        batches = list(equal_batches(tiles, self._batch(tiles)))
        if wanted is not None:
            batches = [batches[number] for number in wanted]
        if not batches:
            return

        def load(batch: list[Tile]) -> np.ndarray:
            return np.stack([prepared.window(*tile.read) for tile in batch])

        # The next windows are read and scaled while the network is busy with the present ones.
        with ThreadPoolExecutor(1) as pool:
            pending = pool.submit(load, batches[0])
            for index, batch in enumerate(track(batches, "predicting") if wanted is None else batches):
                windows = pending.result()
                if index + 1 < len(batches):
                    pending = pool.submit(load, batches[index + 1])
                sizes = [_picture(tile, prepared.shape) for tile in batch]
                for tile, found in zip(batch, self._run(windows, postprocess, sizes)):
                    found = found.shifted(*tile.read[:2])
                    if self.blend is None:
                        yield places[tile], found.take(tile.owns(found.points))
                    else:
                        yield places[tile], blended(found, tile, self.segmenter.boxes(found), self.blend)
                if len(batches) > 1:
                    give_back_memory()

    def _run(self, windows: np.ndarray, postprocess: Postprocess, sizes: list[tuple[int, int]]) -> list[Proposals]:
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision != torch.float32),
        ):
            images = torch.from_numpy(windows).to(self.device, memory_format=torch.channels_last)
            if self.blend is not None:
                # A mean needs all that tiles say, also where one of them sees nothing.
                postprocess = postprocess.model_copy(update={"score_threshold": 0.0})
            return self.segmenter.propose(images, postprocess, sizes)

    def _batch(self, tiles: list[Tile]) -> int:
        if self.batch_size is not None:
            return self.batch_size
        if self.device.type == "cpu":
            return 1
        return max(1, BATCH_PIXELS_CUDA // max(t.shape[0] * t.shape[1] for t in tiles))

    def _shrink(self, tiles: list[Tile], reason: str) -> None:
        """Halve the batch, or the tile when the batch is one; for this and all later images."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        batch = min(self._batch(tiles), len(tiles))
        if batch > 1:
            self.batch_size = batch // 2
            warn(f"memory ran out; going on with batches of {self.batch_size} ({reason})")
            return
        side = max(max(t.shape) for t in tiles)
        smaller = min(self.tile, side) // 2
        if smaller < self.overlap + max(self._alignment, 64):
            raise CytomaskError(
                "memory ran out, even with a small tile",
                found=f"{reason}; tile {self.tile}, overlap {self.overlap}, batch 1",
                fix="use --device cpu, a smaller overlap, or a machine with more memory",
            )
        self.tile = smaller
        warn(f"memory ran out; going on with tiles of {self.tile} ({reason})")

    def _default_overlap(self) -> int:
        if not self.segmenter.needs_whole_objects:
            return 0
        if self.diameter is None:
            return DEFAULT_OVERLAP
        # Few objects are larger than four times the median.
        return -(-int(4 * self.diameter) // 32) * 32

    def warn_of_cut_objects(self, sizes: np.ndarray, prepared: PreparedImage) -> None:
        """Warn where an object may have been cut at the border of a tile; sizes are ``(N, 2)``, in native pixels."""
        if not self.segmenter.needs_whole_objects or not len(sizes) or len(self.tiles(prepared.shape)) < 2:
            return
        # A piece of a cut object is owned only if its middle lies in the core; it then reaches from half an overlap
        # before the core's end to half an overlap behind it. So whatever was cut is at least as long as the overlap.
        longest = float(max((sizes[:, axis] * prepared.scale[axis]).max() for axis in range(2)))
        if longest < self.overlap:
            return
        needed = -(-int(1.25 * longest) // 32) * 32
        warn(
            f"an object is {longest:.0f} px long or longer at the network's scale, not shorter than the overlap of "
            f"{self.overlap} px: it may have been cut at the border of a tile; use --overlap {needed}"
            + (f" --tile {4 * needed}" if self.tile < 2 * needed else "")
        )


def _picture(tile: Tile, shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a tile's window that lie in the image."""
    y0, x0, y1, x1 = tile.read
    return max(1, min(y1, shape[0]) - y0), max(1, min(x1, shape[1]) - x0)
