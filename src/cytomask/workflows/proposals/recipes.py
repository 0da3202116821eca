"""What of a recipe must differ for a data set and a machine."""

from __future__ import annotations

from cytomask.models.registry import family_class
from cytomask.workflows.experiment import Experiment, read_experiment
from cytomask.workflows.proposals.facts import DataFacts
from cytomask.workflows.proposals.rules import (
    Machine,
    Proposal,
    batch_sizes,
    channel_proposals,
    split_proposals,
)


def differing(recipe: str, facts: DataFacts, machine: Machine) -> list[Proposal]:
    """Propose only what differs from a recipe.

    Parameters
    ----------
    recipe
        Its name.
    facts, machine
        What there is.

    Returns
    -------
    list of Proposal
        Splits of other names, channels that the recipe's do not fit, classes, columns that the data have not, and for
        patches a batch for the memory at hand.
    """
    base = read_experiment(recipe)
    section = base.data
    names = {"train": section.train, "validation": section.validation, "test": section.test}
    found = [one for one in split_proposals(facts) if one.value != names[one.place[1]]]
    found += _channels(base, facts)
    columns = {name for sample in facts.train for name in sample.group}
    if section.balance is not None and section.balance not in columns:
        found.append(Proposal(("data", "balance"), None, f"these data have no column {section.balance}"))
    return found + _classes(base, facts) + _sizes(base, facts) + _batch(base, machine)


def _channels(base: Experiment, facts: DataFacts) -> list[Proposal]:
    mode, (low, high) = base.data.channels.mode, facts.n_channels
    fits = {"gray": high in (1, 3), "rgb": high in (1, 3) and low in (1, 3)}
    if mode == "program":
        return [] if high > 3 else [Proposal(
            ("data", "channels", "program"), list(facts.channels)[:3],
            f"the recipe's are of stacks of 16 channels; these have {', '.join(facts.channels)}",
        )]  # fmt: skip
    if fits.get(mode, False):
        return []
    proposed = channel_proposals(facts)
    count = len(proposed[0].value.get("names", ())) or 1
    if base.model.get("in_channels") not in (None, count):
        proposed.append(Proposal(("model", "in_channels"), count, "follows from the channels"))
    return proposed


def _classes(base: Experiment, facts: DataFacts) -> list[Proposal]:
    """The data's own classes, where they say more than that there are objects."""
    known = tuple(base.model.get("classes", ()))
    if not known or facts.classes == known or (len(known) == 1 and facts.classes == ("object",)):
        return []
    return [Proposal(("model", "classes"), list(facts.classes), f"the recipe's is {', '.join(known)}")]


def _sizes(base: Experiment, facts: DataFacts) -> list[Proposal]:
    """Tell where the recipe's network was made for other sizes."""
    large, size = facts.sizes["diameter_p95"], base.patches.size
    if base.patches.mode == "image" or base.data.resize is not None:
        return []
    found = []
    if large * 2 > size and size < facts.shapes[1]:
        wanted = min(512, 64 * -(-int(2 * large) // 64))
        if wanted > size:
            said = f"large objects are {large:.0f} px across, more than half of the recipe's {size} px"
            found.append(Proposal(("patches", "size"), wanted, said))
    family = str(base.model.get("family", "star"))
    if family == "star":
        settings, reasons = family_class("star").propose_from_data(facts.sizes)
        for name, reason in zip(settings, reasons):
            given = base.model.get(name)
            if name in ("grid", "rays") and given is not None and settings[name] > given:
                found.append(Proposal(("model", name), settings[name], f"{reason}; the recipe has {given}"))
    return found


def _batch(base: Experiment, machine: Machine) -> list[Proposal]:
    if base.patches.mode == "image":
        return []
    batch, _ = batch_sizes(str(base.model.get("family", "star")), machine, base.patches.size)
    training = base.training
    if batch >= training.batch_size:
        return []
    parts = -(-training.batch_size * training.accumulate // batch)
    return [
        Proposal(("training", "batch_size"), batch, f"for {machine.words()}; the recipe has {training.batch_size}"),
        Proposal(("training", "accumulate"), parts, "a step sees as many patches as the recipe's"),
    ]
