"""Loss curves of a training run, from its CSV log to a PNG."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path


def draw_curves(logs: Sequence[Path], file: Path) -> None:
    """Draw the losses and the scores by epoch from `logs`, Lightning's metrics.csv of each run, into `file` (PNG)."""
    from matplotlib.figure import Figure  # a second to import, and only the extra `train` brings it

    rows: list[dict[str, str]] = []
    for log in logs:
        with log.open(encoding="utf-8", newline="") as lines:
            rows += csv.DictReader(lines)

    def series(name: str, scale: float = 1.0) -> tuple[list[int], list[float]]:
        points = [(int(row["epoch"]) + 1, scale * float(row[name])) for row in rows if row.get(name)]
        return [epoch for epoch, _ in points], [value for _, value in points]

    rewarded = any(row.get("reward_epoch") for row in rows)  # then the loss that training minimises is no cross-entropy
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for name, label in (
        *(() if rewarded else (("train_loss_epoch", "training"),)),
        ("val_loss", "development"),
        ("val_loss_shuffled", "with wrong pictures"),
    ):
        losses.plot(*series(name), marker="o", markersize=3, label=label)
    for name, label in (("cider", "CIDEr-D"), ("bleu4", "BLEU-4")):
        scores.plot(*series(name), marker="o", markersize=3, label=label)
    if rewarded:
        scores.plot(
            *series("reward_epoch", 100.0), marker="o", markersize=3, label="reward of drawn captions, training"
        )
    smoothed = "" if rewarded else " (training: with label smoothing)"
    losses.set(title="cross-entropy a word", xlabel="epoch", ylabel=f"nats{smoothed}")
    scores.set(title="scores (development split)", xlabel="epoch", ylabel="points")
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
        axes.legend()
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(file, dpi=120)
