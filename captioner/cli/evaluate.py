"""`captioner evaluate`: a model's scores on a split of a data set, with what is needed to compare them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from captioner.cli.decoding_options import chosen_options, decoding_options
from captioner.cli.model_options import model_options
from captioner.cli.output import WholeFile
from captioner.cli.progress import with_progress

TOKENISER = "PTB, as coco-caption has it"


@click.command
@click.option(
    "--data", metavar="FOLDER", required=True, type=click.Path(path_type=Path), help="A data set in the Flickr layout."
)
@click.option("--split", default="dev", show_default=True, help="Which split of it: train, dev or test.")
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write scores as JSON.")
@click.option(
    "--captions",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the captions as COCO results JSON; an image_id is the picture's file name.",
)
@model_options(precision="float32")
@decoding_options
def evaluate(
    data: Path,
    split: str,
    output: Path | None,
    captions: Path | None,
    bundle: Path | None,
    device: str,
    precision: str,
    batch_size: int,
    **decoding: Any,  # a number or None for each field of DecodingOptions
) -> None:
    """Caption a split of a data set and score the captions.

    The scores are those of coco-caption (pycocoevalcap), from 0 to 100, CIDEr-D from 0 to 1000. A picture that cannot
    be read ends the evaluation: a score over fewer pictures would be another score.
    """
    for file in (output, captions):
        if file is not None and not file.parent.is_dir():
            raise click.UsageError(f"The folder of {file} does not exist: create it first.")

    from captioner.datasets.flickr import load_split
    from captioner.prediction import Captioner

    records = load_split(data, split)
    with Captioner.from_bundle(bundle, device=device, precision=precision) as captioner:
        options = chosen_options(captioner.options, decoding)
        outcomes = captioner.stream([record.image for record in records], options, batch_size=batch_size)
        texts: list[str] = []
        for record, outcome in zip(records, with_progress(outcomes, total=len(records)), strict=True):
            if outcome.caption is None:
                raise click.ClickException(f"{record.image}: {outcome.error} No scores: they would miss this picture.")
            texts.append(outcome.caption.text)
        references = [record.captions for record in records]
        signature = {
            "tokeniser": TOKENISER,
            "images": len(records),
            "references": sum(map(len, references)),
            "split": split,
            "model": captioner.model,
            "precision": captioner.precision,
            **options.to_dict(),
        }
    scores = score(texts, references)
    for line in table(scores, signature):
        click.echo(line)
    if output is not None:
        _write_json(output, {"scores": scores, "signature": signature})
    if captions is not None:
        pairs = zip(records, texts, strict=True)
        _write_json(captions, [{"image_id": record.image.name, "caption": text} for record, text in pairs])


def score(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """The scores of N captions against the references of each, and how varied the captions are."""
    from captioner.evaluation import diversity, metrics, ptb

    words = [ptb.tokenize(caption) for caption in captions]
    of_references = [[ptb.tokenize(reference) for reference in group] for group in references]
    bleu = metrics.bleu(words, of_references)
    return {
        **{f"BLEU-{order}": value for order, value in enumerate(bleu, start=1)},
        "CIDEr-D": float(metrics.CiderD(of_references).score(words).mean()),
        "ROUGE-L": float(metrics.rouge_l(words, of_references).mean()),
        "distinct captions": diversity.distinct(captions).number,
        "vocabulary used": diversity.vocabulary_used(captions),
    }


def table(scores: Mapping[str, float], signature: Mapping[str, object]) -> list[str]:
    """The lines that are printed: one a score, and the signature by which scores can be compared."""
    lines = [
        f"{name:<18} {value:>8.2f}" if isinstance(value, float) else f"{name:<18} {value:>8}"
        for name, value in scores.items()
    ]
    return [*lines, "signature: " + " | ".join(f"{name} {value}" for name, value in signature.items())]


def _write_json(path: Path, content: object) -> None:
    with WholeFile(path) as file:
        file.write(json.dumps(content, ensure_ascii=False, indent=2) + "\n")
