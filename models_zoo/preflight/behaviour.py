"""How a network behaves: its two modes, the kind of its output, and whether it treats images one by one."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn

from harness.attacks.checks import behaviour, outputs
from harness.attacks.physical import FIXED, probe
from harness.errors import ModelError
from models_zoo.checkpoints import Checkpoint
from models_zoo.model import ZooModel
from models_zoo.preflight.report import Finding, share
from models_zoo.preflight.sample import Sample, differ

if TYPE_CHECKING:
    from harness.types import Bits

_MODE_ROWS = 64
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_FIRST = 3


def statistics(network: nn.Module, checkpoint: Checkpoint) -> Finding:
    """Are the running statistics of batch normalisation those of a trained network?

    Args:
        network: with its weights.
        checkpoint: where they came from; many published files have no batch counters, which is fine.
    """
    layers = {name: module for name, module in network.named_modules() if isinstance(module, _NORMS)}
    if not layers:
        return Finding(check="statistics", level="ok", found="no batch normalisation", facts={"layers": 0})
    kept = {
        name: (module.running_mean, module.running_var)
        for name, module in layers.items()
        if module.running_mean is not None and module.running_var is not None
    }
    without = [name for name in layers if name not in kept]
    negative = [name for name, (_, spread) in kept.items() if bool((spread < 0).any())]
    zero = [name for name, (_, spread) in kept.items() if bool((spread == 0).any())]
    fresh = [name for name, (mean, spread) in kept.items() if bool((mean == 0).all()) and bool((spread == 1).all())]
    counters = [tensor for name, tensor in checkpoint.state.items() if name.endswith("num_batches_tracked")]
    never = bool(counters) and all(int(tensor.sum()) == 0 for tensor in counters)
    facts = {
        "layers": len(layers), "without": without, "negative": negative, "zero": zero, "fresh": fresh,
        "counters": len(counters), "counters_all_zero": never,
    }  # fmt: skip
    if without:
        found = f"{_some(without)} keep no running statistics: a verdict depends on the other images of the batch"
        return Finding(check="statistics", level="problem", found=found, advice="train with statistics", facts=facts)
    if negative:
        found = f"the running variance of {_some(negative)} is negative"
        return Finding(check="statistics", level="problem", found=found, advice="save the weights again", facts=facts)
    if fresh or never:
        found = f"{_some(fresh or list(kept))} look untrained: " + (
            "mean 0 and variance 1 throughout" if fresh else "their batch counters are 0"
        )
        advice = "pass over the training images in train mode, so that the statistics settle, and save again"
        return Finding(check="statistics", level="warning", found=found, advice=advice, facts=facts)
    if zero:
        found = f"the running variance of {_some(zero)} has zeros: units that never fire, scaled up when they do"
        return Finding(check="statistics", level="warning", found=found, advice="check these layers", facts=facts)
    note = "" if counters else "; the file has no batch counters, which evaluation does not need"
    found = f"{len(layers)} layers of batch normalisation, all variances above 0{note}"
    return Finding(check="statistics", level="ok", found=found, facts=facts)


def modes(model: ZooModel, sample: Sample, right: Bits, logits: torch.Tensor) -> Finding:
    """Does evaluation mode do what it should, and is it as good as train mode?

    Statistics that were saved before they had settled make a network better in train mode, where it uses those of the
    batch.

    Args:
        model: in eval mode; left as it is.
        sample: the images.
        right: its verdicts in eval mode.
        logits: those of eval mode.
    """
    training = [name or "the network" for name, module in model.named_modules() if module.training]
    if training:
        found = f"{_some(training)} stay in training mode after eval()"
        return Finding(check="modes", level="problem", found=found, advice="mend the architecture's train()")
    twin = copy.deepcopy(model).train()
    device = sample.images.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(0)  # of dropout; the global state is put back
        other = torch.cat([twin(part) for part in sample.images.tensor_split(-(-len(sample) // _MODE_ROWS))]).float()
    apart = float((other - logits).abs().max())
    verdicts = sample.right(other)
    n = len(sample)
    facts = {
        "difference": apart if np.isfinite(apart) else None,
        "right_eval": int(right.sum()),
        "right_train": int(verdicts.sum()),
        "images": n,
    }
    if apart == 0.0:
        return Finding(check="modes", level="ok", found="the same logits in eval and train mode", facts=facts)
    found = f"accuracy {share(int(right.sum()), n)} in eval mode, {share(int(verdicts.sum()), n)} in train mode"
    if int(verdicts.sum()) > int(right.sum()) and differ(verdicts, right):
        return Finding(
            check="modes",
            level="warning",
            found=f"{found}: the running statistics do not fit the weights",
            advice="pass over the training images in train mode, so that the statistics settle, and save again",
            facts=facts,
        )
    return Finding(check="modes", level="ok", found=f"{found}; logits differ by up to {apart:.3g}", facts=facts)


def output_kind(logits: torch.Tensor) -> Finding:
    """Are these logits?"""
    evidence = outputs(logits).get("probabilities")
    facts = {"probabilities": evidence is not None, "smallest": float(logits.min()), "largest": float(logits.max())}
    if evidence is None:
        found = f"finite logits, from {facts['smallest']:.3g} to {facts['largest']:.3g}"
        return Finding(check="output", level="ok", found=found, facts=facts)
    advice = "leave the softmax out of the architecture: attacks on its output see gradients that vanish"
    return Finding(check="output", level="warning", found=f"probabilities: {evidence}", advice=advice, facts=facts)


def determinism(model: ZooModel, sample: Sample) -> Finding:
    """Does a forward pass draw, change the model, or compute gradients?"""
    found = behaviour(model, sample.images[:16])
    if not found:
        return Finding(check="determinism", level="ok", found="two passes over the same images give the same logits")
    advice = "boards can show it, with a flag; attacks that average over draws are meant for such models"
    text = "; ".join(f"{flag}: {evidence}" for flag, evidence in found.items())
    return Finding(check="determinism", level="warning", found=text, advice=advice, facts=found)


def batches(model: ZooModel, sample: Sample) -> Finding:
    """Are logits and gradients bit-identical in batches of 16 and 64 rows (promise A)?

    Raises:
        ModelError: non-finite logits.
    """
    result = probe(model, sample.images[:FIXED])
    no_gradient = not np.isfinite(result.gradient_difference)
    facts = {
        "identical": result.identical,
        "logits_difference": result.logits_difference,
        "gradient_difference": None if no_gradient else result.gradient_difference,
        "fixed_batch": result.fixed_batch,
    }
    if no_gradient:
        found = "the logits carry no gradient with respect to the images"
        advice = "white-box attacks cannot run; take out what detaches (numpy, .data, rounding, no_grad)"
        return Finding(check="batches", level="warning", found=found, advice=advice, facts=facts)
    if result.identical:
        return Finding(check="batches", level="ok", found="bit-identical in batches of 16 and 64 rows", facts=facts)
    found = (
        f"logits differ by {result.logits_difference:.2g} and gradients by {result.gradient_difference:.2g} between "
        f"batches of 16 and 64 rows: it will run at a fixed batch of {result.fixed_batch}"
    )
    return Finding(check="batches", level="warning", found=found, advice="nothing needs to be done", facts=facts)


def guarded(check: str, error: ModelError) -> Finding:
    """A check that the model made impossible."""
    return Finding(check=check, level="problem", found=str(error), advice="mend the model, then check again")


def _some(names: Iterable[str]) -> str:
    """The first names of layers, and how many there are."""
    listed = cast("list[str]", list(names))
    return ", ".join(listed[:_FIRST]) + (f" and {len(listed) - _FIRST} more layers" if len(listed) > _FIRST else "")
