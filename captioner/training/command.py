"""`captioner train`: a LightningCLI whose runs end by writing a bundle."""

from __future__ import annotations

import difflib
import json
import logging
import re
import sys
import warnings
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import click
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from captioner.bundle import load_bundle, save_bundle
from captioner.card import licence_text, model_card
from captioner.errors import ConfigurationError
from captioner.evaluation.captioning import calibrated
from captioner.pictures.curves import draw_curves
from captioner.training.averaging import better_average
from captioner.training.checkpoints import WholeFiles, find_checkpoint
from captioner.training.clipping import WatchGradients
from captioner.training.data import CaptionDataModule
from captioner.training.initialisation import settings_of_bundle
from captioner.training.module import CaptionModule, engine_device
from captioner.training.precision import automatic_precision
from captioner.training.resume import Checkpoints
from captioner.training.samples import ShowSamples

# In place of a hundred lines of options before each message; --help lists them.
USAGE = "captioner train [--config FILE] [--output FOLDER] [--init-from BUNDLE] [--resume] [--help] [options]"
DESCRIPTION = (
    "Train a model and write its bundle to OUTPUT/bundle. Without --trainer.precision, training is in mixed precision "
    "where the device has units for it: bf16-mixed on a GPU or a processor with bfloat16, 16-mixed on an older GPU."
)

# What a run that starts from a bundle takes if it is told nothing else: its words need no more than a push.
FINE_TUNING_RATE = 5e-4
FINE_TUNING_EPOCHS = 10


class DrawCurves(Callback):
    """Redraw curves.png after every validation, so that a long run can be watched."""

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lightning's hook."""
        if trainer.sanity_checking or not trainer.is_global_zero or not isinstance(trainer.logger, CSVLogger):
            return
        trainer.logger.save()
        log = Path(trainer.logger.log_dir) / "metrics.csv"
        if log.is_file():
            draw_curves([*earlier_logs(log.parent), log], log.with_name("curves.png"))


class KeptCheckpoints(ModelCheckpoint):
    """Several of the best: a class of its own, because Lightning tells the states of callbacks apart by their class."""


def earlier_logs(output: Path) -> list[Path]:
    """The logs of the runs that this one resumes, oldest first."""
    return sorted(output.glob("metrics.*.csv"))


@rank_zero_only
def set_aside(output: Path, *, resumes: bool) -> None:
    """Keep the log of the run that is resumed, which Lightning would delete.

    A new run needs no earlier logs. It takes `last.ckpt` out of the way, too: what resumes it must not go on with
    another run.
    """
    earlier, log, last = earlier_logs(output), output / "metrics.csv", output / "checkpoints" / "last.ckpt"
    if not resumes:
        for file in [*earlier, *(output / "tensorboard").glob("events.out.tfevents.*")]:
            file.unlink()
        if last.is_file():
            before = last.replace(last.with_name("previous.ckpt"))
            click.echo(f"this is a new run; where an earlier one ended is kept as {before}", err=True)
    elif log.is_file():
        log.rename(output / f"metrics.{len(earlier) + 1:03}.csv")


def _has_no_end(trainer: Any) -> bool:
    """Whether the settings name no last step. `max_time` names none: nobody knows which step that will be."""
    return trainer["max_epochs"] in (None, -1) and trainer["max_steps"] == -1


def _refuse_half_a_run(trainer: Any) -> None:
    """Refuse the settings of a run without an end (Lightning's is after 1,000 epochs), or without whole validations.

    Raises:
        ConfigurationError: there are such settings.
    """
    if _has_no_end(trainer) and trainer["max_time"] is not None:
        raise ConfigurationError(
            "trainer.max_time alone does not say which step is the last, and the learning rate falls towards it: give "
            "--trainer.max_epochs as well, such as 20"
        )
    if _has_no_end(trainer):
        raise ConfigurationError("nothing says when the run ends: give --trainer.max_epochs, such as 20")
    limit = trainer["limit_val_batches"]
    if limit is not None:  # also 1: one batch if it is read as a whole number, all of them if not
        raise ConfigurationError(
            f"trainer.limit_val_batches is {limit:g}, but validation chooses the weights by all of the development "
            "split: leave it out"
        )


def _listed(value: Any) -> list[Any]:
    """What the trainer takes as nothing, one thing or a list of them."""
    return value if isinstance(value, list) else [] if value is None else [value]


class TrainParser(LightningArgumentParser):
    """A parser whose messages are one sentence and name what one types, without Lightning's subcommand `fit`."""

    @property
    def prog(self) -> str:
        """What argparse calls the command."""
        return "captioner train"

    @prog.setter
    def prog(self, name: str) -> None:
        """Another name is not taken."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with 2 and a sentence for what jsonargparse says of a wrong argument in several lines."""
        if not self.exit_on_error:  # somebody catches it
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", self)
        options = [option for option in parser._option_string_actions if option.startswith("--")]
        self.exit(2, f"usage: {USAGE}\ncaptioner: {wrong_argument(message, options)} See captioner train --help.\n")


def wrong_argument(message: str, options: list[str]) -> str:
    """What jsonargparse says of a wrong argument, in one sentence; `options` are all there are."""
    if given := re.match(r"unrecognized arguments: (--[^\s=]+)", message):
        meant = difflib.get_close_matches(given[1], options, n=1)
        return f"there is no option {given[1]}." + (f" Did you mean {meant[0]}?" if meant else "")
    if missing := re.match(r"the following arguments are required: (.+)", message):
        return "give " + ", ".join(f"--{name.removeprefix('fit.')}" for name in missing[1].split(", ")) + "."
    key = re.search(r'[Pp]arser key "(?:fit\.)?([^"]+)"', message)
    value = re.search(r"(?:Given|Got) value: (.+)", message)
    if key and value:
        return f"--{key[1]} cannot be {value[1]}."
    if key:
        message = f"--{key[1]}{message[key.end() :]}"
    return " ".join(message.split()).removesuffix(".") + "."


class TrainCommand(LightningCLI):
    """Lightning's command line, with an output folder, a bundle to start from, and a precision that fits the device.

    Attributes:
        checkpoint: writes the best weights.
        kept: writes several of the best, where their average is asked for.
    """

    checkpoint: ModelCheckpoint
    kept: ModelCheckpoint | None

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's `fit` alone: the parsers of its other subcommands take three times as long again to build."""
        return {"fit": LightningCLI.subcommands()["fit"]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what is ours, and the callbacks that every run has."""
        parser.add_argument("--output", type=str, default="runs/train", help="folder of logs, checkpoints and bundle")
        parser.add_argument("--init-from", type=str | None, default=None, help="bundle whose weights to start from")
        parser.add_argument(
            "--resume", action="store_true", help="go on from OUTPUT/checkpoints/last.ckpt; begin where there is none"
        )
        parser.link_arguments("init_from", "model.init_from")
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.set_defaults(
            {
                "early_stopping.monitor": "cider",
                "early_stopping.mode": "max",
                "early_stopping.patience": 5,
                # at the validation's end, as all that a checkpoint of this moment must know
                "early_stopping.check_on_train_epoch_end": False,
                "trainer.use_distributed_sampler": False,  # the data module shares the batches among the devices
                "trainer.gradient_clip_val": 5.0,
                "trainer.gradient_clip_algorithm": "norm",
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Where nothing else is given, the settings are those of the bundle to start from; a checkpoint is looked at.

        Raises:
            CaptionerError: the bundle or the checkpoint cannot be used.
        """
        super().parse_arguments(parser, args)
        start, resumed = self.config["fit"]["init_from"], self.config["fit"]["ckpt_path"]
        if start is not None and isinstance(args, list):
            settings: dict[str, Any] = settings_of_bundle(load_bundle(start))
            settings["model"]["learning_rate"] = FINE_TUNING_RATE
            if self.config["fit"]["trainer"]["max_epochs"] is None and _has_no_end(self.config["fit"]["trainer"]):
                settings["trainer"] = {"max_epochs": FINE_TUNING_EPOCHS}
            given = [args[0], f"--config={json.dumps(settings)}", *args[1:]]  # what comes later wins
            super().parse_arguments(parser, given)
        output = Path(self.config["fit"]["output"])
        if self.config["fit"]["resume"] and resumed is None and (output / "checkpoints" / "last.ckpt").is_file():
            resumed = "last"
        if resumed not in (None, "hpc"):
            self.config["fit"]["ckpt_path"] = str(find_checkpoint(resumed, output))

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        """Every file of a run goes to the output folder.

        Raises:
            ConfigurationError: the trainer's settings cannot work.
        """
        output = Path(self.config["fit"]["output"])
        trainer, resumes = self.config_init["fit"]["trainer"], self.config["fit"]["ckpt_path"] is not None
        if not trainer["fast_dev_run"]:
            _refuse_half_a_run(trainer)
        # config.yaml says what was asked for, and not where this process begins: with it, another run can begin
        self.config["fit"]["ckpt_path"], self.config["fit"]["resume"] = None, False
        if resumes or trainer["fast_dev_run"]:  # these write over nothing; a new run tells that it does
            warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
        if not trainer["fast_dev_run"]:
            set_aside(output, resumes=resumes)
        if trainer["logger"] is None:
            loggers = [CSVLogger(output, name="", version=""), TensorBoardLogger(output, "tensorboard", version="")]
            kwargs.setdefault("logger", loggers)
        if trainer["precision"] is None and not trainer["plugins"]:
            kwargs.setdefault("precision", automatic_precision(str(trainer["accelerator"])))
        kwargs.setdefault("default_root_dir", str(output))
        plugins = _listed(trainer["plugins"])
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs.setdefault("plugins", [*plugins, WholeFiles()])
        # without Lightning's counter: best.ckpt is always the best one, also where an earlier run left its own
        self.checkpoint = ModelCheckpoint(
            output / "checkpoints",
            "best",
            monitor="cider",
            mode="max",
            enable_version_counter=False,
            save_on_train_epoch_end=False,
        )
        self.kept = None
        checkpoints = [self.checkpoint]
        keep = self.config["fit"]["checkpoints"]["keep"]
        if keep > 1:
            self.kept = KeptCheckpoints(
                output / "checkpoints",
                "kept-{step:06d}",
                monitor="cider",
                mode="max",
                save_top_k=keep,
                auto_insert_metric_name=False,
                enable_version_counter=False,
                save_on_train_epoch_end=False,
            )
            checkpoints.append(self.kept)
        callbacks = [*_listed(trainer["callbacks"]), WatchGradients(), *checkpoints, DrawCurves(), ShowSamples()]
        kwargs["callbacks"] = callbacks
        if trainer["enable_progress_bar"] is not False:
            # a log file is no terminal: one line now and then is enough
            kwargs["callbacks"].append(TQDMProgressBar(refresh_rate=1 if sys.stderr.isatty() else 50))
        try:
            return super().instantiate_trainer(**kwargs)
        except ValueError as error:
            raise ConfigurationError(f"these trainer settings cannot work: {error}") from error


def _is_of_use(record: logging.LogRecord) -> bool:
    """Whether a user can act on what Lightning logs, or learn from it."""
    said = record.getMessage()
    return not any(start in said for start in ("Seed set to", "litlogger", "`weights_only` was not set"))


def main(arguments: list[str]) -> None:
    """Train as `arguments` say, and write the bundle of the best checkpoint.

    The precision is the trainer's if it is given, otherwise mixed where the device has units for it
    (`automatic_precision`).

    Raises:
        CaptionerError: the data, the encoder's weights, the bundle to start from, the checkpoint to resume or the
            trainer's settings cannot be used.
        SystemExit: unknown or contradictory arguments (2), or the run was asked to end by SIGTERM (143).
        KeyboardInterrupt: somebody pressed Ctrl-C. A checkpoint was written at either signal.
    """
    for name in (
        "lightning_fabric.utilities.seed",
        "pytorch_lightning.utilities.rank_zero",
        "pytorch_lightning.trainer.connectors.checkpoint_connector",
    ):
        logging.getLogger(name).addFilter(_is_of_use)  # a second time it is not added
    with warnings.catch_warnings():
        # advice on the number of workers, and notices about others' internals: nothing that a user can act on
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # cuDNN takes a copy of a decoder's matrices for a step: cells and whole sequences share their parameters
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk.*")
        warnings.filterwarnings("ignore", message=".*WeightAveraging callback with a model that overrides.*")
        warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter.*")
        warnings.filterwarnings("ignore", message=".*Found .* in eval mode at the start of training.*")
        warnings.filterwarnings("ignore", message="Precision .* is not supported by the model summary.*")
        # a short epoch has few lines in its log; its means and its validation are there all the same
        warnings.filterwarnings("ignore", message="The number of training batches .* logging interval.*")
        # the bundle, the checkpoints and the earlier logs are there on purpose
        warnings.filterwarnings("ignore", message=".*Experiment logs directory .* exists and is not empty.*")
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=r"(pytorch_lightning|jsonargparse)\.")
        try:
            write_bundle(
                TrainCommand(
                    CaptionModule,
                    CaptionDataModule,
                    args=["fit", *arguments],
                    parser_class=TrainParser,
                    parser_kwargs={"allow_abbrev": False, "fit": {"usage": USAGE, "description": DESCRIPTION}},
                    save_config_kwargs={"overwrite": True},
                    seed_everything_default=1,
                )
            )
        except MisconfigurationException as error:
            raise ConfigurationError(f"these trainer settings cannot work: {error}") from error
        except SystemExit as ended:
            if isinstance(ended.__context__, KeyboardInterrupt):  # Lightning ends an interrupted run by sys.exit(1)
                raise KeyboardInterrupt from None
            raise


def write_bundle(command: TrainCommand) -> None:
    """Write the best weights of the run to OUTPUT/bundle, with card and provenance.

    A run that ended before its first validation is validated now, and its last weights are the best ones.
    """
    trainer, module = command.trainer, command.model
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            click.echo("trainer.fast_dev_run tries a few batches only: no bundle is written", err=True)
        return
    best = Path(command.checkpoint.best_model_path)
    found = trainer.strategy.broadcast(best.is_file())  # other machines need not see the disk of the first
    if not found:  # by all processes together
        trainer.validate(module, datamodule=module.data, verbose=False)
    if not trainer.is_global_zero:
        return
    if found:
        state = torch.load(best, map_location="cpu", weights_only=True)
        module.load_state_dict(state["state_dict"])
        epochs, steps, cider = int(state["epoch"]) + 1, int(state["global_step"]), command.checkpoint.best_model_score
    else:
        epochs, steps, cider = trainer.current_epoch, trainer.global_step, trainer.callback_metrics["cider"]
    averaged = 0
    if command.kept is not None and cider is not None:
        averaged, score = better_average(module, list(command.kept.best_k_models), float(cider))
        cider = torch.tensor(score)
    settings = json.loads(command.parser.dump(command.config, format="json"))["fit"]
    phase = {
        "data": module.data.dataset_name,
        "date": date.today().isoformat(),
        "start": module.origin,
        "seed": settings["seed_everything"],
        "settings": {**module.settings, **module.data.settings},
        "augmentation": module.data.augmentation.to_dict(),
        "precision": trainer.precision,
        "callbacks": _listed(settings["trainer"].get("callbacks")),  # the averaging of weights is one
        "epochs": epochs,
        "steps": steps,
        **({"averaged_checkpoints": averaged} if averaged else {}),
        "minutes": round(module.seconds / 60, 1),  # of all processes, where the run was resumed
        "dev_cider": None if cider is None else round(float(cider), 2),
        "versions": {name: version(name) for name in ("torch", "torchvision", "pytorch-lightning")},
    }
    bundle = module.to_bundle(phase)
    directory = Path(command.config["fit"]["output"]) / "bundle"
    licence = licence_text(module.data.dataset_name)
    save_bundle(bundle, directory, card=model_card(bundle), licence_text=licence)  # before anything else can fail
    bundle = calibrated(bundle, module.data.records("dev"), split="dev", device=engine_device(module.device))
    digest = save_bundle(bundle, directory, card=model_card(bundle), licence_text=licence)
    click.echo(f"bundle {bundle.name}@{digest} written to {directory}", err=True)
