"""The model's captions of a whole data set, as evaluation, calibration and the report need them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from captioner.captions import Caption, Outcome
from captioner.datasets.records import Record
from captioner.decoding.options import DecodingOptions
from captioner.errors import DatasetError
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
