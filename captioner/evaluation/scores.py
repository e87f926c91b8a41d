"""The scores of captions, how far chance reaches in them, and what must agree before two of them are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from captioner.errors import DatasetError
from captioner.evaluation import metrics, ptb
from captioner.evaluation.bootstrap import Interval, intervals, randomisation_test, resample
from captioner.evaluation.ngrams import Floats

METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D")
RESAMPLES = 1000
SHUFFLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One score less the other, on the metric's scale; its interval; and the p-value of there being no difference."""

    difference: float
    interval: Interval
    p_value: float


class Scores:
    """The scores of the captions of N images, tokenised and scored once, here.

    ``values``: each of METRICS, of the whole corpus, 0 to 100; CIDEr-D 0 to 1000.
    ``by_image``: ROUGE-L and CIDEr-D of each image, (N,); BLEU is of a corpus only.
    """

    def __init__(self, captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """``captions``: a sentence for each image. ``references``: for each image, its sentences.

        Raises:
            DatasetError: there are not as many captions as images, no images, or an image has no reference.
        """
        words = [ptb.tokenize(caption) for caption in captions]
        self.references = [[ptb.tokenize(sentence) for sentence in group] for group in references]
        cider = metrics.CiderD(self.references)
        self.by_image = {"ROUGE-L": metrics.rouge_l(words, self.references), "CIDEr-D": cider.score(words)}
        # (N, S) what the corpus's scores are made of, by sums
        bleu = metrics.bleu_statistics(words, cider.references)
        self._statistics = np.column_stack([bleu, *self.by_image.values()])
        self.values = dict(zip(METRICS, self._value(self._statistics.sum(axis=0)).tolist(), strict=True))

    def intervals(self, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL) -> dict[str, Interval]:
        """The interval of each metric: how its value would vary with other pictures of the same kind.

        Percentiles of a bootstrap over images. CIDEr-D's weights stay those of all references: a resample draws its
        images' scores and does not weigh words anew.
        """
        values = self._value(resample(self._statistics, resamples, seed))
        return dict(zip(METRICS, intervals(values, level), strict=True))

    def signature(self, split: str | None) -> Mapping[str, str | int]:
        """What must agree before two scores are compared, save for what the model was told; it cannot be changed.

        `split` is the data set's own name for these images, if it has one.
        """
        sizes = [len(group) for group in self.references]
        least, most = min(sizes), max(sizes)
        return MappingProxyType(
            {
                "tokeniser": "PTB, as coco-caption has it",
                "metrics": f"coco-caption's, version {metrics.VERSION}",
                "scale": "0 to 100, CIDEr-D 0 to 1000",
                **({} if split is None else {"split": split}),
                "images": len(sizes),
                "references": sum(sizes),
                "references an image": str(least) if least == most else f"{least} to {most}",
                # Two sets of one name and one size need not be one set.
                "digest of references": self._digest(),
            }
        )

    def _digest(self) -> str:
        """12 hexadecimal digits that differ when a reference does, or the order of the images."""
        text = "\n\n".join("\n".join(" ".join(words) for words in group) for group in self.references)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]

    def _value(self, sums: Floats) -> Floats:
        """The metrics (..., M) of sums (..., S) over as many images as here."""
        bleu = metrics.bleu_of(sums[..., : metrics.BLEU_STATISTICS])
        return np.concatenate([bleu, sums[..., metrics.BLEU_STATISTICS :] / len(self._statistics)], axis=-1)


def compare(
    one: Scores,
    other: Scores,
    *,
    resamples: int = RESAMPLES,
    shuffles: int = SHUFFLES,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Difference]:
    """``one`` less ``other``, two systems' captions of the same images, for each metric.

    The interval is that of a bootstrap that draws the same images for both; the p-value is of a two-sided paired
    randomisation test (:func:`captioner.evaluation.bootstrap.randomisation_test`).

    Raises:
        DatasetError: the two are not of the same images with the same references, in the same order.
    """
    if len(one.references) != len(other.references):
        raise DatasetError(
            f"The scores are of {len(one.references)} and of {len(other.references)} images: compare two systems' "
            "captions of the same images."
        )
    for image, (ours, theirs) in enumerate(zip(one.references, other.references, strict=True)):
        if ours != theirs:
            raise DatasetError(
                f"Image {image} (counted from 0) has other references in the one than in the other: compare two "
                "systems' captions of the same images, in the same order."
            )
    sums_of_one, sums_of_other = np.hsplit(
        resample(np.hstack([one._statistics, other._statistics]), resamples, seed), 2
    )
    spans = intervals(one._value(sums_of_one) - one._value(sums_of_other), level)
    p_values = randomisation_test(one._statistics, other._statistics, one._value, shuffles, seed)
    return {
        name: Difference(difference=one.values[name] - other.values[name], interval=span, p_value=float(p_value))
        for name, span, p_value in zip(METRICS, spans, p_values, strict=True)
    }
