"""The gradient flow of several decoders on the same captions: whole models, and cells as they are before training."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from captioner.bundle import Bundle
from captioner.datasets.kinds import load_split
from captioner.datasets.records import Record
from captioner.datasets.shapes import ShapesOptions, write
from captioner.errors import DatasetError, ImageError
from captioner.model.decoder import Decoder
from captioner.prediction import Captioner
from captioner.reader_process import Pixels
from captioner.text.tokenizer import tokenize
from captioner.text.vocabulary import Vocabulary
from captioner.training.gradient_flow import SHOWN, Matrix, Point, gradient_flow, recurrent_matrices, scale_to_radius

PICTURES = 32  # enough for a steady mean


@dataclass(frozen=True)
class Subject:
    """A decoder to measure, and what it reads.

    Attributes:
        model: `name@digest` of a bundle, or `fresh`: as it is before training.
        radius: the spectral radius that its recurrent matrices were scaled to; None if they were not.
        features: (N, P, C), the grids of N pictures.
        tokens: (N, 1, T + 1), a caption of each: `<start>`, words, `<end>`, then `<pad>`.
    """

    model: str
    decoder: Decoder
    radius: float | None
    features: Tensor
    tokens: Tensor

    @property
    def cell(self) -> str:
        """`rnn`, `gru` or `lstm`."""
        return self.decoder.configuration.cell

    @property
    def layers(self) -> int:
        """How many."""
        return self.decoder.configuration.num_layers

    @property
    def name(self) -> str:
        """What it is called in the summary."""
        scaled = "" if self.radius is None else f", radius {self.radius:g}"
        return f"{self.model}: {self.cell}, {self.layers} layer{'s' if self.layers > 1 else ''}{scaled}"


@dataclass(frozen=True)
class Studied:
    """A subject and what was measured of it."""

    subject: Subject
    points: list[Point]
    matrices: list[Matrix]


def generated(folder: Path) -> list[Record]:
    """Generated pictures of shapes with their captions, written to `folder`."""
    write(folder, ShapesOptions(train=8, dev=PICTURES + 6, test=8))
    return load_split(folder, "dev")


def subject_of(bundle: Bundle, records: Sequence[Record], *, steps: int | None = None) -> Subject:
    """The decoder of `bundle` with the first pictures of `records`, each with its first caption.

    Args:
        steps: so many words a caption: what is missing is taken from the next captions, what is more is cut off.

    Raises:
        DatasetError: a picture cannot be read, or no caption has a word.
    """
    chosen = records[:PICTURES]
    words = [bundle.vocabulary.encode(tokenize(record.captions[0])) for record in chosen]
    if not any(words):
        raise DatasetError("none of the captions has a word: give other data")
    if steps is not None:
        words = [_joined(words, first, steps) for first in range(len(words))]
    tokens = torch.full((len(words), 1, max(map(len, words)) + 2), Vocabulary.pad)  # (N, 1, T + 1)
    for row, ids in enumerate(words):
        if ids:
            tokens[row, 0, : len(ids) + 2] = torch.tensor([Vocabulary.start, *ids, Vocabulary.end])
    with Captioner(bundle, precision="float32") as captioner:
        reading = [captioner.read(record.image) for record in chosen]
        pixels: list[Pixels] = []
        for record, picture in zip(chosen, reading, strict=True):
            try:
                pixels.append(picture.result())
            except ImageError as error:
                raise DatasetError(f"picture {record.image} of the data set cannot be used: {error}") from error
        features = captioner.encode(np.stack(pixels))
    return Subject(f"{bundle.name}@{bundle.digest}", bundle.model.decoder, None, features, tokens)


def _joined(words: Sequence[Sequence[int]], first: int, steps: int) -> list[int]:
    joined: list[int] = []
    while len(joined) < steps:
        joined += words[first % len(words)]
        first += 1
    return joined[:steps]


def fresh_subjects(
    like: Subject, *, cells: Sequence[str], layers: Sequence[int], radii: Sequence[float]
) -> Iterator[Subject]:
    """Decoders as training begins with them, of the sizes of `like`, which read what it reads.

    Of each of `cells` with each number of `layers`; then rnn cells whose matrices are scaled to each of `radii`.
    """
    for depth in layers:
        for cell in cells:
            yield replace(like, model="fresh", decoder=fresh_decoder(like.decoder, cell=cell, num_layers=depth))
    for depth in layers:
        for radius in radii:
            decoder = fresh_decoder(like.decoder, cell="rnn", num_layers=depth)
            scale_to_radius(decoder, radius)
            yield replace(like, model="fresh", decoder=decoder, radius=radius)


def fresh_decoder(like: Decoder, *, cell: str, num_layers: int) -> Decoder:
    """An untrained decoder of the sizes of `like`; always the same one."""
    configuration = replace(like.configuration, cell=cell, num_layers=num_layers)
    channels = next(like.project.parameters()).shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Decoder(configuration, vocabulary_size=len(like.bias), channels=channels)


def study(subject: Subject) -> Studied:
    """Measure the decoder of `subject` on its captions."""
    points = gradient_flow(subject.decoder, subject.features, subject.tokens)
    return Studied(subject, points, recurrent_matrices(subject.decoder))


def write_tables(found: Sequence[Studied], folder: Path) -> None:
    """Write gradients.csv, a line for every norm, and matrices.csv, a line for every matrix, into `folder`."""
    _write(folder / "gradients.csv", Point, [(each.subject, each.points) for each in found])
    _write(folder / "matrices.csv", Matrix, [(each.subject, each.matrices) for each in found])


def _write(
    file: Path, kind: type[Point] | type[Matrix], rows: Sequence[tuple[Subject, Sequence[Point] | Sequence[Matrix]]]
) -> None:
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(["model", "cell", "layers", "radius", *(field.name for field in fields(kind))])
        for subject, values in rows:
            for value in values:
                about = [subject.model, subject.cell, subject.layers, subject.radius]
                writer.writerow([*about, *asdict(value).values()])


def summary(found: Sequence[Studied]) -> Iterator[str]:
    """The norms of the last word's loss and the figures of the matrices, as one would paste them into a message."""
    captions = max(point.captions for each in found for point in each.points)
    longest = max(point.step for each in found for point in each.points if point.loss == "last word")
    steps = [step for step in SHOWN if step <= longest]
    yield f"Norm of dL/dh, L being the loss of the last word, so many steps before it: means of {captions} captions."
    yield "`a step` is the mean factor from one step to the one before."
    yield f"{'':<16}" + "".join(f"{step:>9}" for step in steps) + f"{'a step':>9}"
    for each in found:
        yield each.subject.name
        for layer in range(1, each.subject.layers + 1):
            for state in ("hidden", "memory"):
                norms = _curve(each.points, layer, state)
                shown = "".join(f"{norms[step]:>9.1e}" if step < len(norms) else " " * 9 for step in steps)
                if norms:
                    yield f"  layer {layer} {state:<6} {shown}{_factor(norms):>9}"
    yield ""
    yield "Recurrent matrices: spectral radius / largest singular value."
    for each in found:
        yield each.subject.name
        for layer in range(1, each.subject.layers + 1):
            figures = (
                f"{matrix.gate} {matrix.spectral_radius:.2f} / {matrix.largest_singular_value:.2f}"
                for matrix in each.matrices
                if matrix.layer == layer
            )
            yield f"  layer {layer} {', '.join(figures)}"


def _curve(points: Sequence[Point], layer: int, state: str) -> list[float]:
    """The norms of the last word's loss by steps before it."""
    return [point.norm for point in points if (point.loss, point.layer, point.state) == ("last word", layer, state)]


def _factor(norms: Sequence[float]) -> str:
    """By what a step back multiplies the norm, as the geometric mean over all steps."""
    if len(norms) < 2 or norms[0] == 0:
        return "-"
    return f"{(norms[-1] / norms[0]) ** (1 / (len(norms) - 1)):.3f}"
