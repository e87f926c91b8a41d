"""Captioner: the one way from pictures to captions, shared by the service, the folder job and evaluation."""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captioner.bundle import Bundle, default_bundle, load_bundle
from captioner.captions import Alternative, Caption, Judged, Outcome, SentenceScore, Word
from captioner.confidence import Calibration, confidence
from captioner.decoding.forced import forced_log_probabilities
from captioner.decoding.options import DecodingOptions
from captioner.decoding.search import Hypothesis, search
from captioner.errors import ImageError
from captioner.images import ImageLimits, ImageSource
from captioner.model.engine import TorchEngine
from captioner.reader import Reader
from captioner.reader_process import Pixels
from captioner.text import tokenizer
from captioner.text.vocabulary import Vocabulary

_CONTRAST = 4  # other pictures that a given sentence is tried on: 1 finds fewer wrong captions, 8 hardly more


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
        self.calibration = Calibration.from_dict(bundle.calibration) if bundle.calibration else None
        self.geometry = bundle.preprocessing.geometry
        self.vocabulary_size = len(bundle.vocabulary.ordinary)
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

        A batch is `batch_size` consecutive sources. While one is captioned, children read the next ones.
        """
        for outcomes in self.stream_batches(_slices(sources, batch_size), options, ahead=2 * batch_size):
            yield from outcomes

    def stream_batches(
        self,
        batches: Iterable[Sequence[ImageSource]],
        options: DecodingOptions | None = None,
        *,
        ahead: int = 64,
    ) -> Iterator[list[Outcome]]:
        """As `stream`, where the caller says which pictures are captioned together; a batch may be empty.

        At most `ahead` pictures are read, or being read, before they are captioned.
        """
        for batch, features in self._batches(batches, ahead):
            captions = iter(self.caption_features(features, options))
            yield [
                Outcome(source=source, caption=None if error is not None else next(captions), error=error)
                for source, error in batch
            ]

    def score(self, pairs: Iterable[tuple[ImageSource, Sequence[str]]], *, batch_size: int = 32) -> Iterator[Judged]:
        """How well given sentences fit given pictures, in their order; each pair is a picture and its sentences.

        A sentence is also tried on some other pictures of its batch or the one before (`SentenceScore.margin`).
        """
        waiting: deque[Sequence[str]] = deque()

        def remember() -> Iterator[ImageSource]:
            for source, sentences in pairs:
                waiting.append(sentences)
                yield source

        others: Tensor | None = None
        for batch, features in self._batches(_slices(remember(), batch_size), 2 * batch_size):
            asked = [waiting.popleft() for _ in batch]
            sentences = [group for group, (_, error) in zip(asked, batch, strict=True) if error is None]
            pool = features if others is None or not len(features) else torch.cat([features, others])
            found = iter(self.score_features(features, sentences, pool=pool))
            others = features if len(features) else others
            for source, error in batch:
                yield Judged(source=source, scores=() if error is not None else next(found), error=error)

    def _batches(
        self, batches: Iterable[Sequence[ImageSource]], ahead: int
    ) -> Iterator[tuple[list[tuple[ImageSource, ImageError | None]], Tensor]]:
        """Each source of each batch with its error or None, and the features (N, P, C) of those that have none."""
        begun: deque[Sequence[ImageSource]] = deque()  # what the children have been given some or all of

        def sources() -> Iterator[ImageSource]:
            for batch in batches:
                begun.append(batch)
                yield from batch

        pictures = self._open_reader().stream(sources(), ahead=ahead)
        for first in itertools.chain(pictures, [None]):  # None: the end, after which only empty batches are left
            while begun and not begun[0]:
                begun.popleft()
                yield [], torch.empty(0, 0, 0)
            if first is None:
                return
            batch = begun.popleft()
            read = [first, *itertools.islice(pictures, len(batch) - 1)]
            pixels = [picture for picture in read if not isinstance(picture, ImageError)]
            features = self.encode(np.stack(pixels)) if pixels else torch.empty(0, 0, 0)
            errors = [picture if isinstance(picture, ImageError) else None for picture in read]
            yield list(zip(batch, errors, strict=True)), features

    def read(self, source: ImageSource) -> Future[Pixels]:
        """Read one picture in the background, in the children that all callers share: pixels (H, W, 3) for `encode`.

        The future raises an ImageError if the picture cannot be used; see `Reader.submit`.
        """
        return self._open_reader().submit(source)

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

    def score_features(
        self, features: Tensor, sentences: Sequence[Sequence[str]], *, pool: Tensor | None = None
    ) -> list[tuple[SentenceScore, ...]]:
        """How well each of the `sentences` of each picture fits it.

        Args:
            features: grid features (N, P, C) that the model's own encoder made.
            sentences: for each of the N pictures, any number of sentences.
            pool: features (M, P, C) of the same N pictures and M - N others, on which sentences are tried as well.
        """
        words = [[tokenizer.tokenize(sentence) for sentence in group] for group in sentences]
        tokens = [[[*self._vocabulary.encode(each), Vocabulary.end] for each in group] for group in words]
        if not any(tokens):
            return [() for _ in sentences]
        shape = len(tokens), max(map(len, tokens)), max(len(each) for group in tokens for each in group)
        padded = torch.full(shape, Vocabulary.pad, device=self._engine.device)  # (N, K, T)
        for image, group in enumerate(tokens):
            for number, each in enumerate(group):
                padded[image, number, : len(each)] = torch.tensor(each)
        pool = features if pool is None else pool
        tries = min(_CONTRAST, len(pool) - 1)
        with self._engine_lock:
            rounds = [
                forced_log_probabilities(
                    self._engine.step,
                    self._engine.initial_state(pool.roll(-turn, dims=0)[: len(features)]),
                    padded,
                    start=Vocabulary.start,
                )
                for turn in range(tries + 1)
            ]
        every = torch.stack(rounds).masked_fill(padded == Vocabulary.pad, 0.0)  # (1 + tries, N, K, T); the first is own
        means = every.double().sum(dim=3) / (padded != Vocabulary.pad).sum(dim=2).clamp(min=1)  # (1 + tries, N, K)
        margins = (means[0] - means[1:].mean(dim=0)).tolist() if tries > 0 else None
        own = every[0].tolist()
        return [
            tuple(
                _sentence_score(
                    sentence,
                    words[image][number],
                    own[image][number],
                    None if margins is None else margins[image][number],
                    self._vocabulary,
                )
                for number, sentence in enumerate(group)
            )
            for image, group in enumerate(sentences)
        ]

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
            confidence=confidence(best.log_probabilities[:-1], self.calibration),  # <end> is no word
            words=tuple(
                Word(word=word, probability=math.exp(log_probability))
                for word, log_probability in zip(words, best.log_probabilities, strict=False)  # one more, for <end>
            ),
            alternatives=tuple(
                Alternative(
                    caption=tokenizer.join(self._vocabulary.decode(other.tokens)),
                    score=other.score,
                    log_probability=other.log_probability,
                    confidence=confidence(other.log_probabilities[:-1], self.calibration),
                )
                for other in hypotheses[1:]
            ),
            attention=attention,
        )


def _slices(sources: Iterable[ImageSource], size: int) -> Iterator[list[ImageSource]]:
    """Consecutive slices of `sources`, the last one as long as what is left."""
    rest = iter(sources)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def _sentence_score(
    sentence: str, words: list[str], log_probabilities: list[float], margin: float | None, vocabulary: Vocabulary
) -> SentenceScore:
    """`log_probabilities`: of the T words, of the end, and then of padding."""
    tokens = vocabulary.encode(words)
    log_probability = math.fsum(log_probabilities[: len(words) + 1])
    return SentenceScore(
        sentence=sentence,
        log_probability=log_probability,
        score=log_probability / (len(words) + 1),
        margin=margin,
        words=tuple(
            Word(word=word, probability=math.exp(value))
            for word, value in zip(words, log_probabilities[: len(words)], strict=True)
        ),
        unknown=tuple(word for word, token in zip(words, tokens, strict=True) if token == vocabulary.unk),
    )
