"""The result of a run: the bundle of its best weights."""

from __future__ import annotations

from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from captioner.bundle import save_bundle
from captioner.card import licence_text, model_card
from captioner.evaluation.captioning import calibrated
from captioner.training.averaging import better_average
from captioner.training.module import CaptionModule, engine_device
from captioner.training.parser import listed


def write_bundle(
    trainer: lightning.Trainer,
    module: CaptionModule,
    checkpoint: ModelCheckpoint,
    kept: ModelCheckpoint | None,
    settings: dict[str, Any],
) -> None:
    """Write the best weights of the run to OUTPUT/bundle, with card and provenance.

    A run that ended before its first validation is validated now, and its last weights are the best ones.

    Args:
        checkpoint: has written the best weights.
        kept: has written several of the best, whose average may be better; None where that is not asked for.
        settings: all those of the run, as config.yaml has them.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            click.echo("trainer.fast_dev_run tries a few batches only: no bundle is written", err=True)
        return
    best = Path(checkpoint.best_model_path)
    found = trainer.strategy.broadcast(best.is_file())  # other machines need not see the disk of the first
    if not found:  # by all processes together
        trainer.validate(module, datamodule=module.data, verbose=False)
    if not trainer.is_global_zero:
        return
    if found:
        state = torch.load(best, map_location="cpu", weights_only=True)
        module.load_state_dict(state["state_dict"])
        epochs, steps, cider = int(state["epoch"]) + 1, int(state["global_step"]), checkpoint.best_model_score
    else:
        epochs, steps, cider = trainer.current_epoch, trainer.global_step, trainer.callback_metrics["cider"]
    averaged = 0
    if kept is not None and cider is not None:
        averaged, score = better_average(module, list(kept.best_k_models), float(cider))
        cider = torch.tensor(score)
    phase = {
        **_how(trainer, module, settings),
        "epochs": epochs,
        "steps": steps,
        **({"averaged_checkpoints": averaged} if averaged else {}),
        "minutes": round(module.seconds / 60, 1),  # of all processes, where the run was resumed
        "dev_cider": None if cider is None else round(float(cider), 2),
        "versions": {name: version(name) for name in ("torch", "torchvision", "pytorch-lightning")},
    }
    bundle = module.to_bundle(phase)
    directory = Path(settings["output"]) / "bundle"
    licence = licence_text(module.data.dataset_name)
    save_bundle(bundle, directory, card=model_card(bundle), licence_text=licence)  # before anything else can fail
    bundle = calibrated(bundle, module.data.records("dev"), split="dev", device=engine_device(module.device))
    if not bundle.calibration:
        click.echo(
            "the captions of the development split have too few words to calibrate the confidence: it is the mean of "
            "the model's own probabilities, which may be far from what one may expect",
            err=True,
        )
    digest = save_bundle(bundle, directory, card=model_card(bundle), licence_text=licence)
    click.echo(f"bundle {bundle.name}@{digest} written to {directory}", err=True)


def _how(trainer: lightning.Trainer, module: CaptionModule, settings: dict[str, Any]) -> dict[str, Any]:
    """What a phase of training was asked to do, for the bundle's history."""
    return {
        "data": module.data.dataset_name,
        "date": date.today().isoformat(),
        "start": module.origin,
        "seed": settings["seed_everything"],
        "settings": {**module.settings, **module.data.settings},
        "augmentation": module.data.augmentation.to_dict(),
        "precision": trainer.precision,
        "callbacks": listed(settings["trainer"].get("callbacks")),  # the averaging of weights is one
    }
