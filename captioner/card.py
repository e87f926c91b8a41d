"""The model card and the licence text that a new bundle starts with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from captioner.bundle import Bundle


def model_card(bundle: Bundle) -> str:
    """README.md of a bundle, from what is known about it."""
    encoder, decoder = bundle.model.encoder.configuration, bundle.model.decoder.configuration
    parameters = sum(parameter.numel() for parameter in bundle.model.parameters())
    attention = "gated soft attention over the grid" if decoder.attention else "no attention"
    lines = [
        f"# {bundle.name}",
        "",
        "A model that writes one English sentence about a photo.",
        "",
        f"- Encoder: {encoder.name} ({encoder.padding} padding), a grid of {bundle.model.encoder.channels} channels.",
        f"- Decoder: {decoder.num_layers} x {decoder.cell}, hidden size {decoder.hidden_size}, {attention}.",
        f"- Vocabulary: {len(bundle.vocabulary.ordinary)} words. Parameters: {parameters / 1e6:.1f} million.",
        f"- Licence: {bundle.licence} (the file LICENSE).",
        "",
        "## Training",
        "",
    ]
    for number, phase in enumerate(bundle.training.get("phases", []), start=1):
        if "average_of" in phase:
            lines.append(
                f"{number}. The average of the weights of {len(phase['average_of'])} models, each further trained:"
            )
            each = (one for phases in phase["phases_of_each"] for one in phases)
            lines += [f"   - {_told(one)}" for one in each if "average_of" not in one]
        else:
            lines.append(f"{number}. {_told(phase)}")
    if scores := bundle.scores.get("scores"):
        lines += ["", "## Scores", "", "| score | value |", "|---|---|"]
        lines += [f"| {name} | {round(value, 2)} |" for name, value in scores.items()]
        signature = "; ".join(f"{name} {value}" for name, value in bundle.scores.get("signature", {}).items())
        lines += ["", f"Signature: {signature}"]
    if calibration := bundle.calibration:
        lines += [
            "",
            "## Confidence",
            "",
            "The confidence of a caption is the share of its words that one may expect in people's captions of the",
            f"picture. Fitted on half of the {calibration['split']} pictures and judged on the other half: the",
            (
                f"calibration error is {calibration['calibration_error']:.3f} "
                f"({calibration['calibration_error_before']:.3f} before), the Brier score {calibration['brier']:.3f} "
                f"({calibration['brier_before']:.3f} before)."
            ),
        ]
    lines += [
        "",
        "## Limits",
        "",
        "It knows only what its training pictures show, in the words of their captions. It makes mistakes with full",
        "confidence on pictures of another kind, and repeats the biases of its data. Do not use it where a wrong",
        "sentence does harm.",
        "",
    ]
    return "\n".join(lines)


def _told(phase: Mapping[str, Any]) -> str:
    """One phase of a training, in a sentence."""
    return (
        f"{phase['data']}, {phase['date']}: {phase['epochs']} epochs ({phase['steps']} steps) in {phase['minutes']} "
        f"minutes; CIDEr-D {phase['dev_cider']} on the development split."
    )


def licence_text(data: str) -> str:
    """LICENSE of a bundle that was just trained on `data`: its rights are the user's to settle."""
    return (
        f"This model was trained on the data set '{data}'.\n\n"
        "No licence has been chosen for it yet. The rights in the data set, and in the weights that training\n"
        "started from, may restrict how it can be used and passed on. Replace this text by your own choice.\n"
    )
