"""A captioner that needs no model: it reads the pictures for real and makes its sentences up."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from captioner.captions import Alternative, Caption, Outcome, SentenceScore, Word
from captioner.decoding.options import DecodingOptions
from captioner.errors import ImageError
from captioner.geometry import Geometry
from captioner.images import ImageSource, read_image
from service.batching import Pixels

WORDS = (("a", 0.91), ("<b>dog</b>", 0.62), ("runs", 0.48), ("on", 0.8), ("grass", 0.004))


def make_caption(num_captions: int, attention: npt.NDArray[np.float32] | None = None) -> Caption:
    """A caption with markup in it, which a page must not obey; `num_captions` - 1 alternatives."""
    probabilities = [probability for _, probability in WORDS] + [0.9]  # the last one is for the end
    log_probability = sum(math.log(probability) for probability in probabilities)
    return Caption(
        text=" ".join(word for word, _ in WORDS),
        score=log_probability / len(probabilities),
        log_probability=log_probability,
        confidence=math.exp(log_probability / len(probabilities)),
        words=tuple(Word(word=word, probability=probability) for word, probability in WORDS),
        alternatives=tuple(
            Alternative(
                caption=f"another dog number {number}",
                score=-1.0 - number,
                log_probability=-5.0 - 5 * number,
                confidence=0.4 / (number + 1),  # does not follow from the number of words in the sentence
            )
            for number in range(num_captions - 1)
        ),
        attention=attention,
    )


class FakeCaptioner:
    """Satisfies `service.captioning.Engine`. `gate` lets a test hold every batch inside the model."""

    def __init__(self) -> None:
        self.model = "fake@0123456789ab"
        self.options = DecodingOptions(beam_size=3)
        self.manifest: dict[str, Any] = {
            "licence": "CC-BY-4.0",
            "scores": {"CIDEr-D": 50.0},
            "training": {"path": "/x"},
            "preprocessing": {"geometry": Geometry().to_dict()},  # the whole picture, squashed
        }
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Semaphore(0)  # released for every picture, before it is read
        self.inside = threading.Semaphore(0)  # released for every batch, before it waits for the gate
        self.asked: list[DecodingOptions | None] = []  # of every search
        self.captioned = 0  # pictures
        self.failure: Exception | None = None  # of every batch
        self.attention: npt.NDArray[np.float32] | None = None  # of every caption: (5, rows, columns)

    def read(self, source: ImageSource) -> Future[Pixels]:
        """The picture's own pixels, read before this returns."""
        self.arrived.release()
        future: Future[Pixels] = Future()
        try:
            future.set_result(np.array(read_image(source).resize((4, 4))))
        except ImageError as error:
            future.set_exception(error)
        return future

    def encode(self, pixels: Pixels) -> Pixels:
        """The pixels as their own features; waits for the gate, and raises `failure` when a test has set one."""
        self.inside.release()
        assert self.gate.wait(120)
        if self.failure is not None:
            raise self.failure
        return pixels

    def caption_features(self, features: Pixels, options: DecodingOptions | None = None) -> list[Caption]:
        """One caption for all."""
        self.asked.append(options)
        self.captioned += len(features)
        return [make_caption((options or self.options).num_captions, self.attention) for _ in features]

    def score_features(self, features: Pixels, sentences: Sequence[Sequence[str]]) -> list[tuple[SentenceScore, ...]]:
        """A sentence of many words has a low score."""
        return [tuple(make_score(sentence) for sentence in each) for _, each in zip(features, sentences, strict=True)]

    def stream(
        self, sources: Iterable[ImageSource], options: DecodingOptions | None = None, *, batch_size: int = 32
    ) -> Iterator[Outcome]:
        """One outcome a source."""
        for source in sources:
            try:
                pixels = self.read(source).result()
            except ImageError as error:
                yield Outcome(source=source, caption=None, error=error)
            else:
                (caption,) = self.caption_features(self.encode(pixels[None]), options)
                yield Outcome(source=source, caption=caption, error=None)


def make_score(sentence: str) -> SentenceScore:
    """Every word, and the end, has the probability 1/e."""
    words = sentence.split()
    return SentenceScore(
        sentence=sentence,
        log_probability=-1.0 * (len(words) + 1),
        score=-1.0,
        margin=None,
        words=tuple(Word(word=word, probability=math.exp(-1)) for word in words),
        unknown=(),
    )


def make_picture(colour: str = "teal", kind: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    """The bytes of a small picture."""
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, kind)
    return stream.getvalue()
