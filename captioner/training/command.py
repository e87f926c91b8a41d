"""`captioner train`: a LightningCLI whose runs end by writing a bundle."""

from __future__ import annotations

import sys
import time
import warnings
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger

from captioner.bundle import save_bundle
from captioner.card import licence_text, model_card
from captioner.errors import ConfigurationError
from captioner.pictures.curves import draw_curves
from captioner.training.data import CaptionDataModule
from captioner.training.module import CaptionModule

# In place of a hundred lines of options before each message; --help lists them.
USAGE = "captioner train [--config FILE] [--output FOLDER] [--init-from BUNDLE] [--ckpt_path FILE] [--help] [options]"


class DrawCurves(Callback):
    """Redraw curves.png after every validation, so that a long run can be watched."""

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lightning's hook."""
        if trainer.sanity_checking or not isinstance(trainer.logger, CSVLogger):
            return
        trainer.logger.save()
        log = Path(trainer.logger.log_dir) / "metrics.csv"
        if log.is_file():
            draw_curves([*earlier_logs(log.parent), log], log.with_name("curves.png"))


def earlier_logs(output: Path) -> list[Path]:
    """The logs of the runs that this one resumes, oldest first."""
    return sorted(output.glob("metrics.*.csv"))


def set_aside(output: Path, *, resumes: bool) -> None:
    """Keep the log of the run that is resumed, which Lightning would delete; a new run needs no earlier logs."""
    earlier, log = earlier_logs(output), output / "metrics.csv"
    if not resumes:
        for file in earlier:
            file.unlink()
    elif log.is_file():
        log.rename(output / f"metrics.{len(earlier) + 1:03}.csv")


class TrainCommand(LightningCLI):
    """Lightning's command line, with an output folder and a bundle to start from."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what is ours, and the callbacks that every run has."""
        parser.add_argument("--output", type=str, default="runs/train", help="folder of logs, checkpoints and bundle")
        parser.add_argument("--init-from", type=str | None, default=None, help="bundle whose weights to start from")
        parser.link_arguments("init_from", "model.init_from")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.set_defaults(
            {
                "early_stopping.monitor": "cider",
                "early_stopping.mode": "max",
                "early_stopping.patience": 5,
                "trainer.gradient_clip_val": 5.0,
                "trainer.gradient_clip_algorithm": "norm",
            }
        )

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        """Every file of a run goes to the output folder."""
        output = Path(self.config[self.subcommand]["output"])
        trainer, resumed = self.config_init[self.subcommand]["trainer"], self.config[self.subcommand]["ckpt_path"]
        if resumed is not None and resumed not in ("best", "last", "hpc") and not Path(resumed).is_file():
            raise ConfigurationError(f"checkpoint {resumed} does not exist; look in OUTPUT/checkpoints")
        if trainer["logger"] is None:
            set_aside(output, resumes=resumed is not None)
            kwargs.setdefault("logger", CSVLogger(output, name="", version=""))
        kwargs.setdefault("default_root_dir", str(output))
        kwargs["callbacks"] = [
            *(trainer["callbacks"] or []),
            ModelCheckpoint(output / "checkpoints", "best", monitor="cider", mode="max", save_last=True),
            DrawCurves(),
        ]
        if trainer["enable_progress_bar"] is not False:
            # a log file is no terminal: one line now and then is enough
            kwargs["callbacks"].append(TQDMProgressBar(refresh_rate=1 if sys.stderr.isatty() else 50))
        return super().instantiate_trainer(**kwargs)


def main(arguments: list[str]) -> None:
    """Train as `arguments` say, and write the bundle of the best checkpoint.

    Raises:
        CaptionerError: the data, the encoder's weights or the bundle to start from cannot be used.
        SystemExit: unknown or contradictory arguments (2).
        KeyboardInterrupt: somebody pressed Ctrl-C; the last checkpoint stays.
    """
    start = time.monotonic()
    with warnings.catch_warnings():
        # advice on the number of workers, and notices about others' internals: nothing that a user can act on
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*WeightAveraging callback with a model that overrides.*")
        warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter.*")
        warnings.filterwarnings("ignore", message=".*Found .* in eval mode at the start of training.*")
        # the bundle, the checkpoints and the earlier logs are there on purpose
        warnings.filterwarnings("ignore", message=".*Experiment logs directory .* exists and is not empty.*")
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=r"(pytorch_lightning|jsonargparse)\.")
        try:
            command = TrainCommand(
                CaptionModule,
                CaptionDataModule,
                args=["fit", *arguments],
                parser_kwargs={"prog": "captioner train", "fit": {"usage": USAGE}},
                save_config_kwargs={"overwrite": True},
                seed_everything_default=1,
            )
        except SystemExit as ended:
            if isinstance(ended.__context__, KeyboardInterrupt):  # Lightning ends an interrupted run by sys.exit(1)
                raise KeyboardInterrupt from None
            raise
    write_bundle(command, seconds=time.monotonic() - start)


def write_bundle(command: TrainCommand, *, seconds: float) -> None:
    """Write the best weights of the run to OUTPUT/bundle, with card and provenance."""
    trainer, module = command.trainer, command.model
    checkpoint = trainer.checkpoint_callback
    if not trainer.is_global_zero or not isinstance(checkpoint, ModelCheckpoint) or not checkpoint.best_model_path:
        return
    state = torch.load(checkpoint.best_model_path, map_location="cpu", weights_only=True)
    module.load_state_dict(state["state_dict"])
    best = checkpoint.best_model_score
    phase = {
        "data": module.data.root.name,
        "date": date.today().isoformat(),
        "settings": module.settings,
        "augmentation": module.data.augmentation.to_dict(),
        "epochs": int(state["epoch"]) + 1,
        "steps": int(state["global_step"]),
        "minutes": round(seconds / 60, 1),
        "dev_cider": None if best is None else round(float(best), 2),
        "versions": {name: version(name) for name in ("torch", "torchvision", "pytorch-lightning")},
    }
    bundle = module.to_bundle(phase)
    directory = Path(command.config["fit"]["output"]) / "bundle"
    digest = save_bundle(bundle, directory, card=model_card(bundle), licence_text=licence_text(module.data.root.name))
    click.echo(f"bundle {bundle.name}@{digest} written to {directory}", err=True)
