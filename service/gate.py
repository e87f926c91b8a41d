"""A gate before the model's work, which is closed while another model is loaded.

Loading traces the encoder (torchvision's create_feature_extractor), and torch.fx puts its own functions in place of
`torch.nn.Module.__call__` for that time, in the whole process: a model that works meanwhile fails. Reading goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from captioner.captions import Caption, Outcome, SentenceScore
from captioner.decoding.options import DecodingOptions
from captioner.images import ImageSource
from service.batching import Pixels
from service.captioning import Engine


class Gate:
    """Lets one piece of work through at a time. Whoever closes it waits for no more than the piece inside."""

    def __init__(self) -> None:
        self._door = threading.Lock()  # a lock alone would let a busy model take it again and again
        self._work = threading.Lock()

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Work while it is open."""
        with self._door:
            pass
        with self._work:
            yield

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Keep all work waiting."""
        with self._door, self._work:
            yield


class Gated:
    """An engine whose work goes through a gate."""

    def __init__(self, engine: Engine, gate: Gate) -> None:
        self._engine = engine
        self._gate = gate

    @property
    def model(self) -> str:
        """As the engine."""
        return self._engine.model

    @property
    def options(self) -> DecodingOptions:
        """As the engine."""
        return self._engine.options

    @property
    def manifest(self) -> Mapping[str, Any]:
        """As the engine."""
        return self._engine.manifest

    def read(self, source: bytes, /) -> Future[Pixels]:
        """As the engine, whether the gate is open or not: the children that read know no torch."""
        return self._engine.read(source)

    def stream(
        self, sources: Iterable[ImageSource], options: DecodingOptions | None = None, *, batch_size: int = 32
    ) -> Iterator[Outcome]:
        """As the engine; the gate is passed for each outcome."""
        outcomes = self._engine.stream(sources, options, batch_size=batch_size)
        while True:
            with self._gate.passed():
                outcome = next(outcomes, None)
            if outcome is None:
                return
            yield outcome

    def encode(self, pixels: Pixels, /) -> Any:  # a tensor
        """As the engine."""
        with self._gate.passed():
            return self._engine.encode(pixels)

    def caption_features(self, features: Any, options: DecodingOptions | None = None, /) -> list[Caption]:
        """As the engine."""
        with self._gate.passed():
            return self._engine.caption_features(features, options)

    def score_features(
        self, features: Any, sentences: Sequence[Sequence[str]], /
    ) -> Sequence[tuple[SentenceScore, ...]]:
        """As the engine."""
        with self._gate.passed():
            return self._engine.score_features(features, sentences)
