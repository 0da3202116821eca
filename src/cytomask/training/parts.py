"""The network's groups of layers as the optimiser and the phases of a training see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from cytomask.errors import ConfigError
from cytomask.models.segmenter import Segmenter
from cytomask.progress import say
from cytomask.training.config import Optimiser, Phase, TrainingConfig

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def make_optimiser(segmenter: Segmenter, config: TrainingConfig) -> torch.optim.Optimizer:
    """Make the optimiser of all parameters that learn in any phase.

    Without phases the network is one group of layers, else it has those of :meth:`Segmenter.layer_groups`.
    """
    settings = config.optimiser
    parts: Sequence[Sequence[nn.Module]] = segmenter.layer_groups() if config.phases else [[segmenter]]
    groups: list[dict[str, Any]] = []
    seen: set[Tensor] = set()
    for number, modules in enumerate(parts):
        groups += [{**group, "part": number} for group in parameter_groups(modules, settings, seen)]
    missed = [n for n, p in segmenter.named_parameters() if p.requires_grad and p not in seen]
    assert not missed, f"{type(segmenter).__name__}.layer_groups leaves out {missed[0]}"
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.learning_rate, betas=settings.betas)


def parameter_groups(
    modules: Sequence[nn.Module], settings: Optimiser, seen: set[Tensor] | None = None
) -> list[dict[str, Any]]:
    """Weight decay for weights, and biases if so set: on biases and norms it does harm (He et al. 2019).

    Parameters
    ----------
    modules
        Whose parameters are wanted; those that do not learn are left out.
    settings
        What is decayed, and how much.
    seen
        Parameters that have a group already; it grows.
    """
    decayed: list[Tensor] = []
    plain: list[Tensor] = []
    seen = set() if seen is None else seen
    for module in (inner for outer in modules for inner in outer.modules()):
        weight = getattr(module, "weight", None)
        # Weights of norms are one number for each channel.
        is_norm = isinstance(weight, Tensor) and weight.ndim <= 1
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                decays = parameter.ndim > 1 or (settings.decay_biases and not is_norm)
                (decayed if decays else plain).append(parameter)
    return [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]


class FrozenParts:
    """Freezes all but the last group of layers, and lets them learn again.

    What the family itself has frozen stays so.

    Raises
    ------
    ConfigError
        If a phase freezes, and the network is of one part only.
    """

    def __init__(self, segmenter: Segmenter, phases: Sequence[Phase]) -> None:
        parts = segmenter.layer_groups()
        if len(parts) < 2 and any(phase.freeze for phase in phases):
            raise ConfigError(
                "a phase freezes layers, but this network has no parts of which one could be frozen",
                where="training.phases",
                fix="leave freeze out, or choose another family",
            )
        self._frozen = nn.ModuleList(module for part in parts[:-1] for module in part)
        norms = {p for m in self._frozen.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)}
        learning = [p for p in self._frozen.parameters() if p.requires_grad]
        self._norms = [p for p in learning if p in norms]
        self._others = [p for p in learning if p not in norms]
        self._quiet: list[nn.Module] = []

    def apply(self, phase: Phase) -> None:
        """Make the network learn what it shall in a phase."""
        for parameter in self._others:
            parameter.requires_grad_(not phase.freeze)
        still = phase.freeze and phase.frozen_norms == "eval"
        for parameter in self._norms:
            parameter.requires_grad_(not still)
        for module in self._quiet:
            module.train()
        self._quiet = [m for m in self._frozen.modules() if isinstance(m, NORMS) and m.training] if still else []
        for module in self._quiet:
            module.eval()


class Phases(pl.Callback):
    """Begins each phase of a training: what is frozen, and an optimiser that has forgotten what was before.

    All follows from the epoch, so that a resumed run goes on as if it had not been interrupted.
    """

    def __init__(self, segmenter: Segmenter, config: TrainingConfig) -> None:
        self.phases = config.resolved_phases()
        self.parts = FrozenParts(segmenter, self.phases)
        self._applied = -1

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        number, begins = phase_of(self.phases, trainer.current_epoch)
        if begins and number:
            for optimiser in trainer.optimizers:
                optimiser.state.clear()
        if number != self._applied:
            self._applied = number
            self.parts.apply(self.phases[number])
            say(_told(self.phases, number))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        self.parts.apply(Phase(epochs=1))


def phase_of(phases: Sequence[Phase], epoch: int) -> tuple[int, bool]:
    """The number of an epoch's phase, both from 0, and whether it begins with this epoch.

    Examples
    --------
    >>> phases = [Phase(epochs=2), Phase(epochs=3)]
    >>> [phase_of(phases, epoch) for epoch in (0, 1, 2, 4)]
    [(0, True), (0, False), (1, True), (1, False)]
    """
    first = 0
    for number, phase in enumerate(phases):
        if epoch < first + phase.epochs:
            return number, epoch == first
        first += phase.epochs
    return len(phases) - 1, False


def _told(phases: Sequence[Phase], number: int) -> str:
    phase = phases[number]
    rate, schedule = phase.learning_rate, phase.schedule
    assert schedule is not None
    rates = f"{rate[0]:g} to {rate[1]:g}" if isinstance(rate, tuple) else f"{rate:g}"
    learns = "only the last layers learn" if phase.freeze else "all layers learn"
    epochs = "1 epoch" if phase.epochs == 1 else f"{phase.epochs} epochs"
    return f"phase {number + 1} of {len(phases)}: {epochs}, {learns}, learning rate {rates}, {schedule.name}"
