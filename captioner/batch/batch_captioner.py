"""What a job asks of a model, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from captioner.captions import Outcome
from captioner.decoding.options import DecodingOptions
from captioner.images import ImageSource


class BatchCaptioner(Protocol):
    """What a job asks of a `Captioner`."""

    @property
    def precision(self) -> str:
        """In which the encoder runs."""

    def stream_batches(
        self, batches: Iterable[Sequence[ImageSource]], options: DecodingOptions | None = None
    ) -> Iterator[list[Outcome]]:
        """The outcomes of each batch, in order; a batch may be empty."""

    def close(self) -> None:
        """End what it has started."""


# From a bundle, a device, a precision, and the number of reading children (None: its own choice).
OpenCaptioner = Callable[[Path, str, str, int | None], BatchCaptioner]


def open_captioner(bundle: Path, device: str, precision: str, processes: int | None) -> BatchCaptioner:
    """The Captioner of a bundle; its module takes seconds to import."""
    from captioner.prediction import Captioner

    return Captioner.from_bundle(bundle, device=device, precision=precision, processes=processes)
