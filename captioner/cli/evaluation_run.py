"""A model on a split of a data set, as `captioner evaluate` and `captioner report` both need it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from captioner.captions import Caption
from captioner.cli.decoding_options import chosen_options
from captioner.cli.progress import with_progress
from captioner.datasets.kinds import load_data_set
from captioner.datasets.records import DataSet, Record, told_of
from captioner.decoding.options import DecodingOptions
from captioner.evaluation.captioning import caption_records, measure
from captioner.evaluation.scorecard import Scorecard
from captioner.evaluation.scores import Scores
from captioner.prediction import Captioner


@dataclass(frozen=True, kw_only=True)
class EvaluationRun:
    """A loaded model, the records of a split, and its captions of them."""

    captioner: Captioner
    options: DecodingOptions
    data: DataSet
    split: str
    records: list[Record]
    captions: list[Caption]

    def measure(
        self, official: Sequence[Literal["METEOR", "SPICE"]], others: Sequence[str] | None = None
    ) -> tuple[Scorecard, Scores]:
        """What the captions score, alone and (with `others`) compared."""
        captioner = self.captioner
        return measure(
            captioner,
            self.records,
            self.captions,
            split=self.split,
            about={"model": captioner.model, "precision": captioner.precision, **self.options.to_dict()},
            training=self.data.training_captions,
            official=official,
            others=others,
        )


@contextmanager
def evaluation_run(
    data: Path,
    split: str,
    *,
    bundle: Path | None,
    device: str,
    precision: str,
    batch_size: int,
    decoding: Mapping[str, Any],
) -> Iterator[EvaluationRun]:
    """Load the model and caption the split; the model is closed at the end of the block.

    Raises:
        CaptionerError: the data set or the bundle cannot be used, or a picture cannot be read.
    """
    data_set = load_data_set(data)
    for note in [*data_set.notes, *([told_of(data_set.left_out)] if data_set.left_out else [])]:
        click.echo(note, err=True)
    records = data_set.split(split)
    with Captioner.from_bundle(bundle, device=device, precision=precision) as captioner:
        options = chosen_options(captioner.options, decoding)
        captions = caption_records(
            captioner,
            records,
            options,
            batch_size=batch_size,
            watch=lambda outcomes: with_progress(outcomes, total=len(records)),
        )
        yield EvaluationRun(
            captioner=captioner, options=options, data=data_set, split=split, records=records, captions=captions
        )
