"""Captioner: the one way from pictures to captions, shared by the service, the folder job and evaluation."""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captioner.bundle import Bundle, default_bundle, load_bundle
from captioner.decoding.options import DecodingOptions
from captioner.decoding.search import Hypothesis, search
from captioner.errors import ImageError
from captioner.images import ImageLimits, ImageSource
from captioner.model.engine import TorchEngine
from captioner.reader import Reader
from captioner.text import tokenizer
from captioner.text.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of a caption and the probability that the model gave it after the words before."""

    word: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """Another caption of the n-best; score, log_probability and confidence are those of a `Caption`."""

    caption: str
    score: float
    log_probability: float
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Caption:
    """The best caption of a picture.

    Attributes:
        score: the length-normalised log-probability (natural logarithm), which search ranks by.
        log_probability: of the whole sentence, its end included.
        confidence: exp(log_probability / (words + 1)), the geometric mean of the probabilities of the words and the
            end, between 0 and 1.
        alternatives: the rest of the n-best, best first.
        attention: (T, rows, columns), where the model looked for each of the T words; None without attention.
    """

    text: str
    score: float
    log_probability: float
    confidence: float
    words: tuple[Word, ...]
    alternatives: tuple[Alternative, ...]
    attention: npt.NDArray[np.float32] | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one source: either its caption or its error."""

    source: ImageSource
    caption: Caption | None
    error: ImageError | None


def row(outcome: Outcome, *, image: str, model: str) -> dict[str, Any]:
    """The row that every door hands out, as JSON values; numbers have 4 decimals."""
    caption = outcome.caption
    if caption is None:
        return {"image": image, "error": {"type": type(outcome.error).__name__, "detail": str(outcome.error)}}
    return {
        "image": image,
        "caption": caption.text,
        "score": round(caption.score, 4),
        "confidence": round(caption.confidence, 4),
        "alternatives": [
            {
                "caption": other.caption,
                "score": round(other.score, 4),
                "log_probability": round(other.log_probability, 4),
                "confidence": round(other.confidence, 4),
            }
            for other in caption.alternatives
        ],
        "words": [{"word": word.word, "probability": round(word.probability, 4)} for word in caption.words],
        "model": model,
    }


class Captioner:
    """Captions pictures with one model. Any number of threads may use one Captioner."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "cpu",
        precision: str = "auto",
        limits: ImageLimits = ImageLimits(),
        processes: int | None = None,
    ) -> None:
        """Take a loaded `bundle`; `from_bundle` is the usual way.

        Args:
            device: `cpu`, `cuda` or `auto`.
            precision: of the encoder: `auto` (the quicker of the next two), `float32`, `float16` or `bfloat16`.
            limits: what a picture may weigh at most.
            processes: how many children read pictures; by default one a processor.
        """
        self.model = f"{bundle.name}@{bundle.digest}"
        self.manifest = bundle.manifest
        self.options = bundle.decoding
        self._vocabulary = bundle.vocabulary
        self._preprocessing = bundle.preprocessing
        self._engine = TorchEngine(bundle.model, device=device, precision=precision)
        self._limits = limits
        self._processes = processes
        self._reader: Reader | None = None
        self._reader_lock = threading.Lock()
        # torch uses all processors for one batch; two batches at once would only slow each other down
        self._engine_lock = threading.Lock()

    @classmethod
    def from_bundle(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        device: str = "cpu",
        precision: str = "auto",
        limits: ImageLimits = ImageLimits(),
        processes: int | None = None,
    ) -> Self:
        """Load the bundle in the directory `path`, by default the shipped model.

        Raises:
            BundleError: the bundle is missing, incomplete or altered.
        """
        bundle = load_bundle(default_bundle() if path is None else path)
        return cls(bundle, device=device, precision=precision, limits=limits, processes=processes)

    @property
    def precision(self) -> str:
        """In which the encoder runs: `float32`, `float16` or `bfloat16`, whatever was asked for."""
        return self._engine.precision

    def caption(self, images: Sequence[ImageSource], options: DecodingOptions | None = None) -> list[Caption]:
        """The captions of a few pictures, given as paths or bytes.

        Raises:
            ImageError: a picture cannot be used; named, if it was given as a path. `stream` goes on with the others.
        """
        captions: list[Caption] = []
        for outcome in self.stream(images, options):
            if outcome.error is not None:
                if isinstance(outcome.source, bytes):
                    raise outcome.error
                raise type(outcome.error)(f"{os.fspath(outcome.source)}: {outcome.error}") from outcome.error
            if outcome.caption is not None:
                captions.append(outcome.caption)
        return captions

    def stream(
        self, sources: Iterable[ImageSource], options: DecodingOptions | None = None, *, batch_size: int = 32
    ) -> Iterator[Outcome]:
        """Caption any number of pictures, in their order; a picture that cannot be used is an outcome with an error.

        A batch is `batch_size` consecutive sources. While one is captioned, children read the next two.
        """
        waiting: deque[ImageSource] = deque()

        def remember() -> Iterator[ImageSource]:
            for source in sources:
                waiting.append(source)
                yield source

        pictures = self._open_reader().stream(remember(), ahead=2 * batch_size)
        while batch := list(itertools.islice(pictures, batch_size)):
            pixels = [picture for picture in batch if not isinstance(picture, ImageError)]
            captions = iter(self.caption_features(self.encode(np.stack(pixels)), options) if pixels else ())
            for picture in batch:
                source = waiting.popleft()
                if isinstance(picture, ImageError):
                    yield Outcome(source=source, caption=None, error=picture)
                else:
                    yield Outcome(source=source, caption=next(captions), error=None)

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        """The grid features (N, P, C) of `pixels` (N, H, W, 3), which the bundle's geometry has been applied to."""
        with self._engine_lock:
            return self._engine.encode(self._preprocessing.numbers(torch.from_numpy(pixels)))

    def caption_features(self, features: Tensor, options: DecodingOptions | None = None) -> list[Caption]:
        """The captions of grid `features` (N, P, C) that the model's own encoder made."""
        if len(features) == 0:
            return []
        options = options or self.options
        with self._engine_lock:
            found = search(
                self._engine.step,
                self._engine.initial_state(features),
                num_images=len(features),
                start=Vocabulary.start,
                end=Vocabulary.end,
                pad=Vocabulary.pad,
                forbidden=(Vocabulary.pad, Vocabulary.start, Vocabulary.unk),
                options=options,
                device=self._engine.device,
            )
        return [self._to_caption(hypotheses) for hypotheses in found]

    def close(self) -> None:
        """End the reading children; safe to call twice."""
        with self._reader_lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_reader(self) -> Reader:
        with self._reader_lock:
            if self._reader is None:
                geometry = self._preprocessing.geometry
                self._reader = Reader(geometry, limits=self._limits, processes=self._processes)
            return self._reader

    def _to_caption(self, hypotheses: Sequence[Hypothesis]) -> Caption:
        best = hypotheses[0]
        words = self._vocabulary.decode(best.tokens)
        attention: npt.NDArray[np.float32] | None = None
        if best.attention is not None:
            side = math.isqrt(best.attention.shape[1])  # pictures are square, and so are grids
            looked = best.attention[:-1].reshape(len(words), side, side)  # <end> looks at nothing
            attention = looked.float().cpu().numpy()
        return Caption(
            text=tokenizer.join(words),
            score=best.score,
            log_probability=best.log_probability,
            confidence=_confidence(best),
            words=tuple(
                Word(word=word, probability=math.exp(log_probability))
                for word, log_probability in zip(words, best.log_probabilities, strict=False)  # one more, for <end>
            ),
            alternatives=tuple(
                Alternative(
                    caption=tokenizer.join(self._vocabulary.decode(other.tokens)),
                    score=other.score,
                    log_probability=other.log_probability,
                    confidence=_confidence(other),
                )
                for other in hypotheses[1:]
            ),
            attention=attention,
        )


def _confidence(hypothesis: Hypothesis) -> float:
    """The geometric mean of the probabilities of the words and the end."""
    return math.exp(hypothesis.log_probability / len(hypothesis.log_probabilities))
