"""Examples of a report: scenes of the toy data set, with made-up captions, attention and scores."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np

from captioner.captions import Alternative, Caption, Word
from captioner.datasets import shapes
from captioner.pictures.cards import DisplayPicture, Example

GRID = 7


def toy_caption(text: str, *, confidence: float = 0.5, others: Sequence[str] = (), attention: bool = True) -> Caption:
    """A caption whose model looks at one place for each word: the first for the first word, and so on."""
    words = text.split()
    maps = np.zeros((len(words), GRID, GRID), dtype=np.float32)
    for number in range(len(words)):
        maps[number, number // GRID % GRID, number % GRID] = 1.0
    return Caption(
        text=text,
        score=-1.0,
        log_probability=-5.0,
        confidence=confidence,
        words=tuple(Word(word=word, probability=0.5**number) for number, word in enumerate(words)),
        alternatives=tuple(
            Alternative(caption=other, score=-2.0, log_probability=-9.0, confidence=0.1) for other in others
        ),
        attention=maps if attention else None,
    )


def toy_examples(count: int) -> Iterator[Example]:
    """So many examples, always the same; CIDEr-D rises from 0 by 1 a picture, and confidence falls from 1."""
    chance = random.Random(1)
    meanings = [meaning for family in shapes.all_meanings().values() for meaning in family]
    for number in range(count):
        meaning = chance.choice(meanings)
        picture = shapes.draw(shapes.compose(meaning, chance)).resize((192, 144))
        yield Example(
            name=f"toy_{number:05}.png",
            picture=DisplayPicture.of(np.asarray(picture)),
            caption=toy_caption(
                shapes.caption(meaning), confidence=1 - number / count, others=[shapes.caption(chance.choice(meanings))]
            ),
            seen=(0.125, 0.0, 0.875, 1.0),
            references=tuple(shapes.caption(chance.choice(meanings)) for _ in range(5)),
            cider=float(number),
        )
