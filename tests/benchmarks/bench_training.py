"""Training tokens a second of the decoder, and their share of what its matrix products alone reach at the same batch.

    python tests/benchmarks/bench_training.py [--batch 32] [--captions 5] [--rounds 10] [--precision bf16] [--output F]

A step is the loss of teacher forcing, its gradient and the optimiser, on generated grids, as `captioner train` does it
on cached features. The captions are as long as those of Flickr8k (10.7 words, deviation 3.6, at most 20). A token is a
word or an `<end>` that the loss asks for: padding counts for nothing, so a step that computes it loses by it. The
matrix products are those of one step with the same captions, forward and for both gradients, without anything between
them and without padding: at each time step, those of the captions that have not ended. Both are timed in turns, and the
medians are compared. On a processor the seconds are those of processor time, of all threads together.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captioner.model.configuration import DecoderConfiguration
from captioner.model.decoder import Decoder
from captioner.text.vocabulary import Vocabulary
from captioner.training.losses import CrossEntropyOptions
from captioner.training.teacher_forcing import TeacherForcing
from captioner.training.truncation import Truncation

PLACES, CHANNELS, VOCABULARY = 49, 1280, 3000
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


def captions(batch: int, per_image: int) -> Tensor:
    """Ids (N, K, T + 1) of generated captions."""
    tokens = torch.full((batch, per_image, 22), Vocabulary.pad)
    for n in range(batch):
        for k in range(per_image):
            words = min(max(round(float(torch.randn(()) * 3.6 + 10.7)), 3), 20)
            tokens[n, k, 0], tokens[n, k, words + 1] = Vocabulary.start, Vocabulary.end
            tokens[n, k, 1 : words + 1] = torch.randint(4, VOCABULARY, (words,))
    return tokens[:, :, : int((tokens != Vocabulary.pad).any(dim=1).any(dim=0).sum())]


def products(configuration: DecoderConfiguration, targets: Tensor) -> list[tuple[int, ...]]:
    """The matrix products (count, batch, rows, inner, columns) of a forward pass for `targets` (N, K, T)."""
    batch, per_image, _ = targets.shape
    asked = targets != Vocabulary.pad
    words, at_step = int(asked.sum()), asked.sum(dim=(0, 1)).tolist()
    hidden, embedding = configuration.hidden_size, configuration.embedding_size
    width = GATES[configuration.cell] * hidden
    states = configuration.num_layers * (2 if configuration.cell == "lstm" else 1)
    found = [
        (1, 1, batch * PLACES, CHANNELS, hidden),  # the grid
        (1, 1, batch, hidden, states * hidden),  # the first state
        (1, 1, words, hidden, embedding),  # from state to output
        (1, 1, words, embedding, VOCABULARY),  # all words
    ]
    for rows in at_step:
        found.append((configuration.num_layers, 1, rows, hidden, width))  # the recurrence
        found.append((configuration.num_layers - 1, 1, rows, hidden, width))  # from layer to layer
    if not configuration.attention:
        return [*found, (1, 1, words, embedding, width)]
    size = configuration.attention_size
    for rows in at_step:
        found.append((1, 1, rows, embedding + hidden, width))
        found.append((1, 1, rows, hidden, size))  # query
        found.append((1, 1, rows, hidden, hidden))  # gate
        found.append((1, 1, rows * PLACES, size, 1))  # energies
    return [
        *found,
        (1, 1, batch * PLACES, hidden, size),  # keys
        (len(at_step), batch, per_image, PLACES, hidden),  # contexts
        (1, 1, words, hidden, embedding),  # from context to output
    ]


def multiply(shapes: list[tuple[int, ...]], dtype: torch.dtype, device: str) -> Callable[[], None]:
    """A function that computes all of `shapes`, and the two products that the gradients of each take."""
    made: list[tuple[int, Tensor, Tensor, Tensor]] = []
    for count, batch, rows, inner, columns in shapes:
        drawn = [torch.rand(batch, *sides) for sides in ((rows, inner), (inner, columns), (rows, columns))]
        left, right, gradient = ((matrix[0] if batch == 1 else matrix).to(device, dtype) for matrix in drawn)
        made.append((count, left, right, gradient))

    def run() -> None:
        for count, left, right, gradient in made:
            for _ in range(count):
                torch.matmul(left, right)
                torch.matmul(gradient, right.mT)
                torch.matmul(left.mT, gradient)

    return run


def measure(
    configuration: DecoderConfiguration, batch: int, per_image: int, rounds: int, precision: str
) -> dict[str, Any]:
    """The tokens a second of one configuration, and their share."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    decoder = Decoder(configuration, vocabulary_size=VOCABULARY, channels=CHANNELS).to(device)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-6)
    forcing = TeacherForcing(options=CrossEntropyOptions(), truncation=Truncation())
    features, tokens = torch.rand(batch, PLACES, CHANNELS, device=device), captions(batch, per_image).to(device)
    inputs, targets = tokens[:, :, :-1], tokens[:, :, 1:]

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = forcing.loss(decoder, features, inputs, targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    alone = multiply(products(configuration, targets), PRECISIONS[precision], device)
    clock = time.perf_counter if device == "cuda" else time.process_time
    seconds: dict[str, list[float]] = {"step": [], "products": []}
    for number in range(rounds + 1):
        for name, function in (("step", step), ("products", alone)):
            start = clock()
            function()
            if device == "cuda":
                torch.cuda.synchronize()
            if number > 0:  # the first is for warming up
                seconds[name].append(clock() - start)
    words = int((targets != Vocabulary.pad).sum())
    step_seconds, product_seconds = (statistics.median(seconds[name]) for name in ("step", "products"))
    return {
        "cell": configuration.cell,
        "layers": configuration.num_layers,
        "attention": configuration.attention,
        "words": words,
        "asked_share": round(words / targets.numel(), 3),
        "tokens_per_second": round(words / step_seconds),
        "share_of_products": round(product_seconds / step_seconds, 3),
    }


def main() -> None:
    """All configurations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--captions", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = []
    for attention, cell in itertools.product((True, False), ("lstm", "gru", "rnn")):
        configuration = DecoderConfiguration(cell=cell, attention=attention)
        row = measure(configuration, options.batch, options.captions, options.rounds, options.precision)
        rows.append(row)
        print(
            f"{cell}{', attention' if attention else ''}: {row['tokens_per_second']} tokens a second, "
            f"{row['share_of_products']:.0%} of what the matrix products alone reach"
        )
    if options.output:
        settings = {"batch": options.batch, "captions": options.captions, "precision": options.precision}
        options.output.write_text(json.dumps({**settings, "threads": torch.get_num_threads(), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
