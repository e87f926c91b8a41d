"""`captioner train`: a LightningCLI whose runs end by writing a bundle."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from captioner.bundle import load_bundle
from captioner.errors import ConfigurationError
from captioner.training.checkpoints import KeptCheckpoints, WholeFiles, find_checkpoint
from captioner.training.clipping import WatchGradients
from captioner.training.contradictions import has_no_end, refuse_half_a_run
from captioner.training.data import CaptionDataModule
from captioner.training.devices import lost_contact
from captioner.training.initialisation import settings_of_bundle
from captioner.training.module import CaptionModule
from captioner.training.parser import DESCRIPTION, USAGE, TrainParser, listed
from captioner.training.precision import automatic_precision
from captioner.training.result import write_bundle
from captioner.training.resume import Checkpoints
from captioner.training.run_folder import DrawCurves, SaveLog, set_aside
from captioner.training.same_start import SameStart
from captioner.training.samples import ShowSamples

# What a run that starts from a bundle takes if it is told nothing else: its words need no more than a push.
FINE_TUNING_RATE = 5e-4
FINE_TUNING_EPOCHS = 10


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
            if self.config["fit"]["trainer"]["max_epochs"] is None and has_no_end(self.config["fit"]["trainer"]):
                settings["trainer"] = {"max_epochs": FINE_TUNING_EPOCHS}
            given = [args[0], f"--config={json.dumps(settings)}", *args[1:]]  # what comes later wins
            super().parse_arguments(parser, given)
        output = Path(self.config["fit"]["output"])
        if self.config["fit"]["resume"] and resumed is None and (output / "checkpoints" / "last.ckpt").is_file():
            resumed = "last"
        if resumed not in (None, "hpc"):
            self.config["fit"]["ckpt_path"] = str(find_checkpoint(resumed, output))

    def before_fit(self) -> None:
        """Tell the module which checkpoint it will go on from (LightningCLI's hook)."""
        resumed = self.config_init["fit"]["ckpt_path"]
        self.model.resumed = None if resumed in (None, "hpc") else Path(resumed)

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        """Every file of a run goes to the output folder.

        Raises:
            ConfigurationError: the trainer's settings cannot work.
        """
        output = Path(self.config["fit"]["output"])
        trainer, resumes = self.config_init["fit"]["trainer"], self.config["fit"]["ckpt_path"] is not None
        if not trainer["fast_dev_run"]:
            refuse_half_a_run(trainer)
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
        plugins = listed(trainer["plugins"])
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs.setdefault("plugins", [*plugins, WholeFiles()])
        kwargs["callbacks"] = [*listed(trainer["callbacks"]), SameStart(), WatchGradients()]
        kwargs["callbacks"] += [*self._checkpoints(output), SaveLog(), DrawCurves(), ShowSamples()]
        if trainer["enable_progress_bar"] is not False:
            # a log file is no terminal: one line now and then is enough
            kwargs["callbacks"].append(TQDMProgressBar(refresh_rate=1 if sys.stderr.isatty() else 50))
        try:
            return super().instantiate_trainer(**kwargs)
        except (ValueError, RuntimeError) as error:  # a RuntimeError: what a Slurm script asks for
            raise ConfigurationError(f"these trainer settings cannot work: {error}") from error

    def _checkpoints(self, output: Path) -> list[ModelCheckpoint]:
        """What writes the best weights, and several of the best where their average is asked for."""
        keep = self.config["fit"]["checkpoints"]["keep"]
        best: dict[str, Any] = {
            "dirpath": output / "checkpoints",
            "monitor": "cider",
            "mode": "max",
            # without Lightning's counter: best.ckpt is always the best one, also where an earlier run left its own
            "enable_version_counter": False,
            "save_on_train_epoch_end": False,
        }
        self.checkpoint = ModelCheckpoint(filename="best", **best)
        self.kept = None
        if keep <= 1:
            return [self.checkpoint]
        self.kept = KeptCheckpoints(filename="kept-{step:06d}", save_top_k=keep, auto_insert_metric_name=False, **best)
        return [self.checkpoint, self.kept]


def _is_of_use(record: logging.LogRecord) -> bool:
    """Whether a user can act on what Lightning logs, or learn from it."""
    said = record.getMessage()
    return not any(
        start in said for start in ("Seed set to", "litlogger", "`weights_only` was not set", "SLURM auto-requeue")
    )


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
        "pytorch_lightning.trainer.connectors.signal_connector",  # what it has set, `Checkpoints` replaces
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
        # where Slurm is installed, one may train without it
        warnings.filterwarnings("ignore", message="The `srun` command is available on your system.*")
        # the bundle, the checkpoints and the earlier logs are there on purpose
        warnings.filterwarnings("ignore", message=".*Experiment logs directory .* exists and is not empty.*")
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=r"(pytorch_lightning|jsonargparse)\.")
        try:
            command = TrainCommand(
                CaptionModule,
                CaptionDataModule,
                args=["fit", *arguments],
                parser_class=TrainParser,
                parser_kwargs={"allow_abbrev": False, "fit": {"usage": USAGE, "description": DESCRIPTION}},
                save_config_kwargs={"overwrite": True},
                seed_everything_default=1,
            )
            settings = json.loads(command.parser.dump(command.config, format="json"))["fit"]
            write_bundle(command.trainer, command.model, command.checkpoint, command.kept, settings)
        except MisconfigurationException as error:
            raise ConfigurationError(f"these trainer settings cannot work: {error}") from error
        except RuntimeError as error:
            if said := lost_contact(error):
                raise ConfigurationError(said) from error
            raise
        except SystemExit as ended:
            if isinstance(ended.__context__, KeyboardInterrupt):  # Lightning ends an interrupted run by sys.exit(1)
                raise KeyboardInterrupt from None
            raise
