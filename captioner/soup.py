"""The average of several bundles: one model, as quick as each of them and often better than the best.

Runs that begin with the same weights and see the data in another order end in one valley: the mean of their weights
lies in it too, where what each has learnt by heart has cancelled out (model soups, arXiv:2203.05482; of rewarded
models arXiv:2406.16768).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import torch
from torch import Tensor

from captioner.bundle import Bundle, load_bundle
from captioner.errors import BundleError


def mean_of(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of the numbers in `states`, computed in float64; what is no float is that of the first."""
    first = states[0]
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else value.clone()
        for name, value in first.items()
    }


def average_bundles(paths: Sequence[str | os.PathLike[str]]) -> Bundle:
    """The model whose weights are the mean of those in the bundles at `paths`; one that is named twice counts twice.

    It decodes as the first one does. It has no scores, and its confidence is not calibrated.

    Raises:
        BundleError: there are fewer than two, one cannot be used, or they were not trained from the same start.
    """
    if len(paths) < 2:
        raise BundleError("an average needs two bundles or more")
    bundles = [load_bundle(path) for path in paths]
    first = bundles[0]
    for path, bundle in zip(paths[1:], bundles[1:], strict=True):
        if difference := _difference(first, bundle):
            raise BundleError(
                f"{os.fspath(paths[0])} and {os.fspath(path)} differ in {difference}: only models that were trained "
                "from the same start, on the same data set, have an average"
            )
    histories = [list(bundle.training.get("phases", [])) for bundle in bundles]
    shared = _shared(histories)
    if not shared:
        named = ", ".join(os.fspath(path) for path in dict.fromkeys(paths))
        raise BundleError(
            f"{named} were not trained from the same start (the first phase of their training is not the same), so the "
            "mean of their weights is no model: begin the runs with --init-from the same bundle"
        )
    first.model.load_state_dict(mean_of([bundle.model.state_dict() for bundle in bundles]))
    average = {
        "data": shared[-1]["data"],
        "date": date.today().isoformat(),
        "average_of": [f"{bundle.name}@{bundle.digest}" for bundle in bundles],
        "phases_of_each": [history[len(shared) :] for history in histories],
    }
    return dataclasses.replace(
        first, training={"phases": [*shared, average]}, scores={}, calibration={}, digest="unsaved", manifest={}
    )


def _difference(one: Bundle, other: Bundle) -> str | None:
    """In what two bundles differ that must be the same, if in anything."""
    networks = [
        (asdict(bundle.model.encoder.configuration), asdict(bundle.model.decoder.configuration) | {"dropout": 0})
        for bundle in (one, other)
    ]
    if networks[0] != networks[1]:
        return "their networks"
    if one.vocabulary != other.vocabulary:
        return "their words"
    if one.preprocessing != other.preprocessing:
        return "their preprocessing"
    return None


def _shared(histories: Sequence[Sequence[Any]]) -> list[Any]:
    """The phases that all `histories` begin with."""
    shared: list[Any] = []
    for phases in zip(*histories, strict=False):
        if any(phase != phases[0] for phase in phases):
            break
        shared.append(phases[0])
    return shared
