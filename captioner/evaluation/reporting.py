"""From an evaluation to the report that people look at: the numbers in the drawing's own terms."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from captioner.captions import Caption
from captioner.datasets.records import Record
from captioner.errors import DatasetError, ImageError
from captioner.evaluation import scores
from captioner.evaluation.calibration import EVENT, Floats
from captioner.evaluation.scorecard import Scorecard
from captioner.geometry import Geometry
from captioner.pictures.cards import DISPLAY_SIZE, DisplayPicture, Example
from captioner.pictures.charts import Curve, CurveChart, Reliability, ReliabilityBin
from captioner.pictures.report import Fact, FactGroup, Report, ReportScore
from captioner.reader import Reader

_CHARTS = (
    ("Loss", "nats a word", {"train_loss_epoch": "training", "val_loss": "development"}),
    ("Development split", "points", {"cider": "CIDEr-D", "bleu4": "BLEU-4"}),
)


def make_report(
    title: str,
    records: Sequence[Record],
    captions: Sequence[Caption],
    scorecard: Scorecard,
    cider: Floats,
    *,
    geometry: Geometry,
    run: Path | None,
) -> Report:
    """The report of N captions of N records.

    Args:
        cider: (N,) CIDEr-D of each caption.
        geometry: the model's, which says what part of a picture it saw.
        run: the folder of a training, whose log is drawn.

    Raises:
        DatasetError: the folder of the run has no log.
    """
    official = [ReportScore(name=name, value=v) for name, v in scorecard.official.items() if isinstance(v, float)]
    return Report(
        title=title,
        scores=(
            *(
                ReportScore(
                    name=name,
                    value=value,
                    low=scorecard.intervals[name].low,
                    high=scorecard.intervals[name].high,
                )
                for name, value in scorecard.values.items()
            ),
            *official,
        ),
        scores_note=f"The bands are {scores.LEVEL:.0%} intervals of a bootstrap over the pictures.",
        signature={name: str(value) for name, value in scorecard.signature.items()},
        facts=(
            FactGroup(
                title="The captions",
                facts=tuple(Fact(name=n, value=v, explanation=e) for n, v, e in scorecard.portrait.facts()),
            ),
        ),
        reliability=_reliability(scorecard),
        curves=() if run is None else tuple(_curves(run)),
        examples=_examples(records, captions, cider, geometry),
    )


def _examples(
    records: Sequence[Record], captions: Sequence[Caption], cider: Floats, geometry: Geometry
) -> Iterator[Example]:
    """One example at a time; the pictures are read once more, now for showing."""
    with Reader(Geometry(resize="fit", size=DISPLAY_SIZE)) as reader:
        pictures = reader.stream([record.image for record in records], ahead=32)
        for record, caption, score, pixels in zip(records, captions, cider.tolist(), pictures, strict=True):
            if isinstance(pixels, ImageError):
                raise DatasetError(f"{record.image}: {pixels} It could be read a moment ago: leave the data in peace.")
            picture = DisplayPicture.of(pixels)
            yield Example(
                name=record.image.name,
                picture=picture,
                caption=caption,
                seen=geometry.seen(picture.width, picture.height),
                references=record.captions,
                cider=score,
            )


def _reliability(scorecard: Scorecard) -> Reliability | None:
    found = scorecard.reliability
    if found is None:
        return None
    return Reliability(
        bins=tuple(
            ReliabilityBin(predicted=predicted, observed=observed, count=count)
            for predicted, observed, count in zip(
                found.predicted.tolist(), found.observed.tolist(), found.counts.tolist(), strict=True
            )
        ),
        predicted_label="confidence in a word",
        observed_label=f"how often {EVENT}",
        explanation=f"The calibration error is {found.calibration_error:.3f}, the Brier score {found.brier:.3f}.",
    )


def check_run(run: Path) -> None:
    """Refuse, before any work is done, a folder that is none of a training.

    Raises:
        DatasetError: it has no log.
    """
    if not (run / "metrics.csv").is_file():
        raise DatasetError(f"{run} has no metrics.csv: name the folder that a training wrote")


def _curves(run: Path) -> Iterator[CurveChart]:
    logs = [*sorted(run.glob("metrics.*.csv")), run / "metrics.csv"]
    rows: list[dict[str, str]] = []
    for log in logs:
        try:
            with log.open(encoding="utf-8", newline="") as lines:
                rows += csv.DictReader(lines)
        except OSError as error:
            raise DatasetError(f"{log} cannot be read: {error.strerror}; name the folder of a training") from error
    for title, label, series in _CHARTS:
        curves = tuple(
            Curve(name=name, points=points)
            for column, name in series.items()
            if (points := tuple((float(row["epoch"]) + 1, float(row[column])) for row in rows if row.get(column)))
        )
        if curves:
            yield CurveChart(title=title, x_label="epoch", y_label=label, curves=curves)
