"""What a run writes for TensorBoard: numbers, and pictures with their captions."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as lightning
from PIL import Image
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger

from captioner.datasets.shapes import ShapesOptions, write
from captioner.geometry import Geometry
from captioner.model.configuration import DecoderConfiguration, EncoderConfiguration
from captioner.preprocessing import Preprocessing
from captioner.training.data import CaptionDataModule
from captioner.training.module import CaptionModule
from captioner.training.samples import SHOWN, ShowSamples, with_caption
from tests.training.running import column


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own reader
def test_tensorboard_shows_numbers_and_pictures(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(finished / "tensorboard"))
    log.Reload()
    for name in ("val_loss", "val_loss_shuffled", "cider", "distinct"):
        (event,) = log.Scalars(name)
        assert event.value == pytest.approx(column(finished, name)[0], rel=1e-5), name
    assert log.Tags()["images"] == [f"samples/{number}" for number in range(1, min(SHOWN, 7) + 1)]
    (event,) = log.Images("samples/1")
    assert Image.open(io.BytesIO(event.encoded_image_string)).size[0] == 256


class Lose(Callback):
    """Deletes a picture of the development split when a validation is over."""

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, CaptionModule)
        pl_module.data.images("dev")[1].unlink()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own reader
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*in eval mode at the start of training.*")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")
def test_a_sample_that_has_gone_is_left_out(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write(tmp_path / "shapes", ShapesOptions(train=8, dev=3, test=2))
    preprocessing = Preprocessing(geometry=Geometry(size=32))
    data = CaptionDataModule(
        str(tmp_path / "shapes"), preprocessing, batch_size=4, min_count=1, cache=str(tmp_path), num_workers=0
    )
    module = CaptionModule(
        EncoderConfiguration(name="squeezenet1_1", cut="features.3"),
        DecoderConfiguration(embedding_size=8, hidden_size=12, attention_size=6),
        train_encoder_from="all",
    )
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=TensorBoardLogger(tmp_path, "tensorboard", version=""),
        callbacks=[Lose(), ShowSamples()],
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(tmp_path),
    )
    trainer.fit(module, data)
    log = EventAccumulator(str(tmp_path / "tensorboard"))
    log.Reload()
    count = len(data.images("dev"))
    assert log.Tags()["images"] == [f"samples/{number}" for number in range(1, count + 1) if number != 2]


def test_a_sample_is_the_picture_between_two_texts(tmp_path: Path) -> None:
    file = tmp_path / "red.png"
    Image.new("RGB", (100, 60), "red").save(file)
    sheet = with_caption(file, "a red wall " * 10, "A wall.")
    bare = with_caption(file, "", "")
    red = np.array([255, 0, 0])
    assert (bare[:, :100] == red).all()
    assert int((sheet == red).all(axis=2).sum()) == 100 * 60  # the texts cover nothing of it
    assert (sheet[: (sheet.shape[0] - 60) // 2] != 255).any()  # something is written above
