"""How long a step of training takes on this machine, by doing one."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cytomask.data.sample import Sample
from cytomask.workflows.experiment import Experiment

#: So many images are read for it.
_IMAGES = 3
#: A first batch that took longer, in seconds, is not followed by another: warming up is little of it.
_LONG = 4.0


def seconds_per_step(experiment: Experiment, train: Sequence[Sample]) -> float:
    """Measure one step of the optimiser: patches are drawn, and losses and gradients computed.

    The first batch warms up and is not counted, unless it takes long; the second is. Without a GPU it is of two
    patches, and time grows with their number; what other programs take of the processors meanwhile does not count.
    Weights are random, and nothing is fetched.

    Parameters
    ----------
    experiment
        With all settings of the model.
    train
        Training samples, of which a few are read.

    Returns
    -------
    float
        Seconds.
    """
    import torch
    from lightning.fabric.utilities import move_data_to_device

    from cytomask.models.devices import choose_device
    from cytomask.training.module import split_batch
    from cytomask.workflows.trainings.preparation import build_network, family_settings, training_images

    family, settings = family_settings(experiment)
    settings["in_channels"] = experiment.data.channels.count
    device = choose_device(experiment.training.device)
    segmenter = build_network(family, settings, experiment).to(device).train()
    chosen = list(train[:: max(1, len(train) // _IMAGES)])[:_IMAGES]
    batch_size = experiment.training.batch_size
    # A GPU computes a batch in less time than its patches one by one; batch norms want two.
    size = batch_size if device.type == "cuda" else min(2, batch_size)
    section = experiment.data.model_copy(update={"balance": None})
    items = training_images(experiment.model_copy(update={"data": section}), chosen, segmenter)
    passed = 0.0
    torch.manual_seed(experiment.training.seed)
    for k in range(2):
        begin, computed = time.perf_counter(), time.process_time()
        batch = segmenter.collate([items[k * size + i] for i in range(size)])
        images, targets = split_batch(move_data_to_device(batch, device))
        torch.stack(list(segmenter.losses(images, targets).values())).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        passed = time.perf_counter() - begin
        if device.type == "cpu":
            passed = min(passed, time.process_time() - computed)
        if passed > _LONG:
            break
    return passed * batch_size / size * experiment.training.accumulate
