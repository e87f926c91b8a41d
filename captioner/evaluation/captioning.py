"""A model on a whole data set: its captions, what they score, and what its confidence is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from captioner.bundle import Bundle
from captioner.captions import Caption, Outcome
from captioner.datasets.coco import warnings_of
from captioner.datasets.records import Record
from captioner.decoding.options import DecodingOptions
from captioner.errors import DatasetError
from captioner.evaluation.calibration import calibrate, judge, word_outcomes
from captioner.evaluation.diversity import portrait
from captioner.evaluation.official import Name
from captioner.evaluation.official import official as run_official
from captioner.evaluation.scorecard import Scorecard
from captioner.evaluation.scores import Scores, compare
from captioner.prediction import Captioner

Watch = Callable[[Iterable[Outcome]], Iterable[Outcome]]


def caption_records(
    captioner: Captioner,
    records: Sequence[Record],
    options: DecodingOptions | None = None,
    *,
    batch_size: int = 32,
    watch: Watch = iter,
) -> list[Caption]:
    """The caption of each of N records, in order.

    Args:
        watch: passes the outcomes on, such as a progress bar.

    Raises:
        DatasetError: a picture cannot be read. A score over fewer pictures would be another score.
    """
    captions: list[Caption] = []
    outcomes = captioner.stream([record.image for record in records], options, batch_size=batch_size)
    for record, outcome in zip(records, watch(outcomes), strict=True):
        if outcome.caption is None:
            raise DatasetError(f"{record.image}: {outcome.error} No scores: they would miss this picture.")
        captions.append(outcome.caption)
    return captions


def measure(
    captioner: Captioner,
    records: Sequence[Record],
    captions: Sequence[Caption],
    *,
    split: str,
    about: Mapping[str, object],
    training: Sequence[str] | None,
    official: Sequence[Name] = (),
    others: Sequence[str] | None = None,
) -> tuple[Scorecard, Scores]:
    """The scorecard of a captioner's `captions` of N `records`, and the scores image by image.

    Args:
        about: what the signature says beside the data: the model and how it decoded.
        training: the captions that it may have learnt by heart.
        official: which official scorers to run as well.
        others: (N,) captions to compare with.
    """
    texts = [caption.text for caption in captions]
    references = [record.captions for record in records]
    scores = Scores(texts, references)
    several = any(caption.alternatives for caption in captions)
    scorecard = Scorecard(
        values=scores.values,
        intervals=scores.intervals(),
        official=run_official(official, texts, references),
        portrait=portrait(
            texts,
            training=training,
            n_best=[[each.text, *(o.caption for o in each.alternatives)] for each in captions] if several else None,
            vocabulary_size=captioner.vocabulary_size,
            cider=scores.by_image["CIDEr-D"],
            names=[record.image.name for record in records],
        ),
        signature={**scores.signature(split), **about},
        reliability=judge(word_outcomes(captions, references), captioner.calibration),
        differences=None if others is None else compare(scores, Scores(others, references)),
        warnings=warnings_of(references),
    )
    return scorecard, scores


def calibrated(bundle: Bundle, records: Sequence[Record], *, split: str, device: str = "cpu") -> Bundle:
    """The bundle with a calibration measured on the `records`, captioned as the bundle itself decodes.

    Raises:
        DatasetError: a picture cannot be read.
    """
    with Captioner(bundle, device=device, precision="float32") as captioner:
        captions = caption_records(captioner, records)
    about = {"split": split, "pictures": len(records), **bundle.decoding.to_dict()}
    references = [record.captions for record in records]
    return replace(bundle, calibration=calibrate(captions, references, about=about))
