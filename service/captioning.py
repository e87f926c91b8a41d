"""From the pictures of a request to their outcomes, together with other requests' and within bounds."""

from __future__ import annotations

import io
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeVar

from flask import has_request_context, request
from PIL import Image

from captioner.captions import Caption, Judged, Outcome, SentenceScore, row
from captioner.decoding.options import DecodingOptions
from captioner.errors import ConfigurationError, ImageError
from captioner.images import ImageSource
from service.batching import DEFAULT_BOUNDS, Batching, BatchReport, Bounds, Encoder, Reason, Shed, Task
from service.problems import Problem
from service.settings import Settings

WARM_UP_PICTURES = 8

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)

DETAILS: dict[Reason, str] = {
    "full": "All places are taken; try again in a moment.",
    "expired": "The service did not come to this request in time; try again in a moment.",
    "gone": "The client has left.",  # so nobody reads this
    "stopping": "The service is stopping.",
}


class Engine(Encoder, Protocol):
    """What the service needs of a `Captioner`. Reading is asked for by many threads, the rest by one at a time."""

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

    def caption_features(self, features: Any, options: DecodingOptions | None = None, /) -> list[Caption]:
        """The captions of `features` (N, ...), which `encode` made."""

    def score_features(
        self, features: Any, sentences: Sequence[Sequence[str]], /
    ) -> Sequence[tuple[SentenceScore, ...]]:
        """How well each of the sentences of each picture fits it."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of a request: its bytes, the name its sender gave it, and the media type its sender claims.

    `error` is of one that never came to bytes; it is not read, and its outcome has this error.
    """

    name: str
    data: bytes
    media_type: str
    error: ImageError | None = None


class _Task(Task[Result_co], Protocol[Result_co]):
    @property
    def engine(self) -> Engine: ...


@dataclass(frozen=True)
class _Describe:
    """Captions with these options. Pictures of all requests with equal options share a search."""

    engine: Engine
    options: DecodingOptions

    def run(self, features: Any, /) -> list[Caption]:  # a tensor
        return self.engine.caption_features(features, self.options)


@dataclass(frozen=True)
class _Judge:
    """Scores for these sentences. Each picture is judged alone: a score shall not depend on other people's pictures."""

    engine: Engine
    sentences: tuple[str, ...]

    def run(self, features: Any, /) -> list[tuple[SentenceScore, ...]]:  # a tensor
        return [
            self.engine.score_features(features[each : each + 1], [self.sentences])[0] for each in range(len(features))
        ]


class Captioning:
    """An engine behind a bounded number of places and one queue. Close it, or let go of it, to end its thread."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        *,
        bounds: Bounds = DEFAULT_BOUNDS,
        on_batch: Callable[[BatchReport], None] = lambda _report: None,
        on_shed: Callable[[Reason], None] = lambda _reason: None,
    ) -> None:
        """Start the thread that will do all the engine's work.

        Args:
            bounds: of the queue and its batches.
            on_batch: called after every batch, by that thread; it must be quick and must not raise.
            on_shed: called for every request that is answered 503, by the request's thread.
        """
        self.engine = engine
        self._places = threading.BoundedSemaphore(settings.max_waiting)
        self._on_shed = on_shed
        self._on_batch = on_batch
        self._batching = Batching(bounds, on_batch=_weakly(self))
        weakref.finalize(self, self._batching.stop)

    @property
    def depth(self) -> int:
        """How many pictures wait or are in the model."""
        return self._batching.depth

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places, or raise a 503 problem at once: a full service says so and never queues more."""
        if not self._places.acquire(blocking=False):
            self._refuse("full")
        try:
            yield
        finally:
            self._places.release()

    def outcomes(self, pictures: Sequence[Picture], options: DecodingOptions) -> list[Outcome]:
        """One outcome a picture, in order.

        Raises:
            Problem: 503, the request was not captioned: see `Shed`.
        """
        found = self._results(pictures, _Describe(self.engine, options))
        return [
            Outcome(source=picture.data, caption=None, error=each)
            if isinstance(each, ImageError)
            else Outcome(source=picture.data, caption=each, error=None)
            for picture, each in zip(pictures, found, strict=True)
        ]

    def judged(self, pictures: Sequence[Picture], sentences: Sequence[str]) -> list[Judged]:
        """How well each of the `sentences` fits each picture, in order; without `margin`, which needs other pictures.

        Raises:
            Problem: as `outcomes`.
        """
        found = self._results(pictures, _Judge(self.engine, tuple(sentences)))
        return [
            Judged(source=picture.data, scores=(), error=each)
            if isinstance(each, ImageError)
            else Judged(source=picture.data, scores=each, error=None)
            for picture, each in zip(pictures, found, strict=True)
        ]

    def warm_up(self) -> None:
        """Caption a few small pictures: what starts at the first caption shall not make its sender wait.

        It takes its time: a busy machine may need more than a request may have.

        Raises:
            ConfigurationError: the model captions nothing.
        """
        data = io.BytesIO()
        Image.new("RGB", (64, 64), "grey").save(data, "PNG")
        picture = Picture(name="warm-up", data=data.getvalue(), media_type="image/png")
        task = _Describe(self.engine, self.engine.options)
        for found in self._results([picture] * WARM_UP_PICTURES, task, patient=True):
            if isinstance(found, ImageError):
                raise ConfigurationError(f"The service cannot caption its own small picture: {found}")

    def rows(self, pictures: Sequence[Picture], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
        """The rows as JSON and the page show them."""
        return [
            row(outcome, image=picture.name, model=self.engine.model)
            for picture, outcome in zip(pictures, outcomes, strict=True)
        ]

    def close(self) -> None:
        """Refuse new requests, answer the accepted ones, and end the thread, or leave it after two seconds.

        The server has answered what it has accepted before it closes this. The engine stays open.
        """
        self._batching.close()

    def _results(
        self, pictures: Sequence[Picture], task: _Task[Result], *, patient: bool = False
    ) -> list[Result | ImageError]:
        sources = [picture.data for picture in pictures if picture.error is None]
        try:
            found = iter(self._batching.results(task.engine, sources, task, gone=_client_watch(), patient=patient))
        except Shed as shed:
            self._refuse(shed.reason)
        return [next(found) if picture.error is None else picture.error for picture in pictures]

    def _refuse(self, reason: Reason) -> NoReturn:
        self._on_shed(reason)
        raise Problem(503, DETAILS[reason], headers={"Retry-After": str(self._batching.retry_after_seconds)})


def _weakly(captioning: Captioning) -> Callable[[BatchReport], None]:
    """Calls its `on_batch` as long as it lives: the thread must not keep it alive, whatever `on_batch` refers to."""
    reference = weakref.ref(captioning)

    def report(batch: BatchReport) -> None:
        if (living := reference()) is not None:
            living._on_batch(batch)

    return report


def _client_watch() -> Callable[[], bool]:
    """Whether the client of the request of this thread has closed its connection, as far as the server says."""
    # Waitress offers this to the application, and answers truly if channel_request_lookahead is at least 1.
    watch: Callable[[], bool] | None = (
        request.environ.get("waitress.client_disconnected") if has_request_context() else None
    )
    return watch or (lambda: False)
