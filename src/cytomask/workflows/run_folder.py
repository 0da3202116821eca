"""The folder of a run: which file lies where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: Where a training run keeps its bundle.
BUNDLE_IN_RUN = "bundle"


@dataclass(frozen=True)
class RunFolder:
    """Places in the folder that `cytomask run` fills, stage by stage. Each stage writes its own places only.

    A folder of `cytomask train` alone has its table of epochs, its record and its model at the top; :meth:`trained`
    finds either.

    Examples
    --------
    >>> RunFolder(Path("runs/nuclei")).report.as_posix()
    'runs/nuclei/report.html'
    """

    path: Path

    @property
    def experiment(self) -> Path:
        """The experiment as it was resolved, with all defaults (written by the runner)."""
        return self.path / "experiment.yaml"

    @property
    def state(self) -> Path:
        """What each stage was last done with (written by the runner)."""
        return self.path / "stages.json"

    @property
    def data(self) -> Path:
        """prepare: `data.json` (fingerprint, licence, counts, sizes), example pictures."""
        return self.path / "data"

    @property
    def train(self) -> Path:
        """train: a folder as `cytomask train` makes it, whose model is not tuned."""
        return self.path / "train"

    @property
    def bundle(self) -> Path:
        """tune: the model that the run leads to; tuned, if the experiment says so."""
        return self.path / BUNDLE_IN_RUN

    @property
    def tuning(self) -> Path:
        """tune: what was tried, and what it scored."""
        return self.path / "tuning.json"

    @property
    def predictions(self) -> Path:
        """evaluate: a folder as `cytomask predict` makes it, of the test images."""
        return self.path / "predictions"

    @property
    def evaluation(self) -> Path:
        """evaluate: a folder as `cytomask evaluate` makes it, and pictures of the best and worst images."""
        return self.path / "evaluation"

    @property
    def pictures(self) -> Path:
        """visualise: overlays of chosen images, plots."""
        return self.path / "pictures"

    @property
    def report(self) -> Path:
        """report: the page."""
        return self.path / "report.html"

    def trained(self) -> Path:
        """The folder with `metrics.csv`, `steps.csv` and `run.yaml`: that of the stage, or this one itself."""
        return self.train if self.train.is_dir() else self.path
