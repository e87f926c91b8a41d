"""From the pictures of a request to their outcomes, for so many requests at once and no more."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from captioner.captions import Outcome, row
from captioner.decoding.options import DecodingOptions
from captioner.images import ImageSource
from service.problems import Problem
from service.settings import Settings


class Engine(Protocol):
    """What the service needs of a `Captioner`. It is called from many threads at once."""

    @property
    def model(self) -> str:
        """`name@digest`."""

    @property
    def options(self) -> DecodingOptions:
        """The decoding options of the bundle."""

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The bundle's model.json: parsed JSON, hence `Any`."""

    def stream(
        self, sources: Iterable[ImageSource], options: DecodingOptions | None = None, *, batch_size: int = 32
    ) -> Iterator[Outcome]:
        """One outcome a source, in order; a bad picture is an outcome with an error."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of a request: its bytes, the name its sender gave it, and the media type its sender claims."""

    name: str
    data: bytes
    media_type: str


class Captioning:
    """An engine behind a bounded number of places."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self._places = threading.BoundedSemaphore(settings.max_waiting)
        self._retry_after_seconds = settings.retry_after_seconds

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places, or raise a 503 problem at once: a full service says so and never queues more."""
        if not self._places.acquire(blocking=False):
            raise Problem(
                503,
                "All places are taken; try again in a moment.",
                headers={"Retry-After": str(self._retry_after_seconds)},
            )
        try:
            yield
        finally:
            self._places.release()

    def outcomes(self, pictures: Sequence[Picture], options: DecodingOptions) -> list[Outcome]:
        """One outcome a picture, in order."""
        return list(self.engine.stream([picture.data for picture in pictures], options))

    def rows(self, pictures: Sequence[Picture], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
        """The rows as JSON and the page show them."""
        return [
            row(outcome, image=picture.name, model=self.engine.model)
            for picture, outcome in zip(pictures, outcomes, strict=True)
        ]
