"""Search on hand-written tables, against searches that are too simple to be wrong."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captioner.decoding.options import DecodingOptions
from captioner.errors import DecodingError
from tests.decoding.tables import (
    END,
    FORBIDDEN,
    PAD,
    START,
    Prefix,
    Prefixes,
    TableStep,
    attention_of,
    decode,
    exhaustive,
    plain_beam,
    plain_greedy,
    random_table,
    run,
    score_of,
    teacher_forced,
    tied_table,
)


@st.composite
def some_options(draw: st.DrawFn, *, max_beam_size: int = 6, max_max_length: int = 6) -> DecodingOptions:
    beam_size = draw(st.integers(1, max_beam_size))
    max_length = draw(st.integers(1, max_max_length))
    return DecodingOptions(
        beam_size=beam_size,
        num_captions=draw(st.integers(1, beam_size)),
        length_penalty=draw(st.sampled_from([0.0, 0.5, 1.0, 2.0])),
        min_length=draw(st.integers(0, max_length)),
        max_length=max_length,
    )


SEEDS = st.integers(0, 10**6)
quick = settings(max_examples=40)


@quick
@given(SEEDS, some_options(max_beam_size=1), st.integers(5, 9))
def test_beam_size_1_is_an_argmax_loop(seed: int, options: DecodingOptions, vocabulary_size: int) -> None:
    table = random_table(seed, vocabulary_size)
    found = run(table, options, 0, 1, 2)
    assert [each.tokens for (each,) in found] == [plain_greedy(table, i, options, vocabulary_size) for i in range(3)]


@pytest.mark.parametrize("length_penalty", [0.0, 0.5, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("min_length", [0, 2])
@pytest.mark.parametrize("seed", range(3))
def test_full_width_is_exhaustive_search(seed: int, min_length: int, length_penalty: float) -> None:
    options = DecodingOptions(
        beam_size=50, num_captions=50, length_penalty=length_penalty, min_length=min_length, max_length=3
    )
    table = random_table(seed, 7)  # three words: 1 + 3 + 9 + 27 captions
    for image, found in enumerate(run(table, options, 0, 1)):
        expected = exhaustive(table, image, options, 7)
        assert [each.tokens for each in found] == [tokens for _, tokens in expected]
        assert [each.score for each in found] == pytest.approx([score for score, _ in expected])


@quick
@given(SEEDS, some_options(max_max_length=3))
def test_nothing_beats_full_width(seed: int, options: DecodingOptions) -> None:
    table = random_table(seed, 7)
    best = exhaustive(table, 0, options, 7)[0][0]
    ((first, *_),) = run(table, options, 0)
    assert first.score <= best + 1e-12


@quick
@given(SEEDS, some_options(), st.integers(5, 9), st.booleans())
def test_equal_to_a_plain_beam_search_even_with_ties(
    seed: int, options: DecodingOptions, vocabulary_size: int, ties: bool
) -> None:
    table = (tied_table if ties else random_table)(seed, vocabulary_size)
    expected = [plain_beam(table, image, options, vocabulary_size) for image in range(3)]
    if not all(expected):  # every way was barred by -inf
        with pytest.raises(DecodingError, match="no possible caption"):
            run(table, options, 0, 1, 2)
        return
    found = run(table, options, 0, 1, 2)
    assert [[(each.score, each.tokens) for each in captions] for captions in found] == expected


@quick
@given(SEEDS, some_options(), st.integers(1, 6))
def test_a_batch_is_exactly_its_images_one_by_one(seed: int, options: DecodingOptions, num_images: int) -> None:
    table = random_table(seed, 8)
    together = run(table, options, *range(num_images))
    assert together == [run(table, options, image)[0] for image in range(num_images)]


@quick
@given(SEEDS, some_options())
def test_score_is_the_one_of_teacher_forcing(seed: int, options: DecodingOptions) -> None:
    table = random_table(seed, 8)
    for image, captions in enumerate(run(table, options, 0, 1, 2)):
        for each in captions:
            assert list(each.log_probabilities) == teacher_forced(table, image, each.tokens)
            assert each.log_probability == pytest.approx(sum(each.log_probabilities), abs=1e-12)
            assert each.score == pytest.approx(score_of(table, image, each.tokens, options.length_penalty), abs=1e-12)


@quick
@given(SEEDS, some_options(), st.integers(5, 8))
def test_captions_are_distinct_sorted_allowed_and_of_the_right_length(
    seed: int, options: DecodingOptions, vocabulary_size: int
) -> None:
    for captions in run(random_table(seed, vocabulary_size), options, 0, 1, 2):
        assert 1 <= len(captions) <= options.num_captions
        assert len({each.tokens for each in captions}) == len(captions)
        assert [each.score for each in captions] == sorted((each.score for each in captions), reverse=True)
        for each in captions:
            assert options.min_length <= len(each.tokens) <= options.max_length
            assert len(each.log_probabilities) == len(each.tokens) + 1
            assert not {*FORBIDDEN, END} & set(each.tokens)
            assert math.isfinite(each.score)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_model_that_never_wants_to_end_is_made_to(beam_size: int) -> None:
    def table(image: int, prefix: Prefix) -> list[float]:
        return [-9.0, -9.0, -50.0, -9.0, -0.5, -1.0]

    ((found, *_),) = run(table, DecodingOptions(beam_size=beam_size, max_length=4), 0)
    assert found.tokens == (4, 4, 4, 4)
    assert found.log_probabilities == (-0.5, -0.5, -0.5, -0.5, -50.0)


def test_forbidden_tokens_never_come_out_though_the_model_wants_nothing_else() -> None:
    def table(image: int, prefix: Prefix) -> list[float]:
        return [-0.1, -0.1, -20.0, -0.1, -30.0, -31.0]

    (captions,) = run(table, DecodingOptions(beam_size=5, num_captions=5, max_length=3), 0)
    assert captions[0].log_probabilities == (-30.0, -20.0)  # nothing is renormalised
    assert all(set(each.tokens) <= {4, 5} for each in captions)


def test_slots_that_cannot_be_filled_do_not_come_out() -> None:
    options = DecodingOptions(beam_size=40, num_captions=40, max_length=2, min_length=0)
    (captions,) = run(random_table(0, 5), options, 0)  # one word only
    assert sorted(each.tokens for each in captions) == [(), (4,), (4, 4)]


def test_a_hypothesis_that_has_ended_gives_way_only_to_a_better_one() -> None:
    def table(image: int, prefix: Prefix) -> list[float]:
        if prefix == ():
            return [-9.0, -9.0, -1.0, -9.0, -1.2, -9.0]
        return [-9.0, -9.0, -8.0 if image == 0 else -0.1, -9.0, -0.3, -9.0]

    options = DecodingOptions(beam_size=1, min_length=0, max_length=3)
    assert [captions[0].tokens for captions in run(table, options, 0, 1)] == [(), ()]
    options = DecodingOptions(beam_size=2, min_length=0, max_length=3)
    # Image 1: <end> scores -1.0, but (4, 4, 4, <end>) -1.9 / 4.
    assert [captions[0].tokens for captions in run(table, options, 0, 1)] == [(), (4, 4, 4)]


def test_images_that_have_stopped_leave_the_batch_and_slots_that_have_ended_are_fed_pad() -> None:
    lengths = [1, 4, 2]

    def table(image: int, prefix: Prefix) -> list[float]:
        ends = len(prefix) >= lengths[image]
        return [
            -9.0,
            -9.0,
            -0.01 if ends else -math.inf,
            -9.0,
            -math.inf if ends else -0.5,
            -math.inf if ends else -1.0,
        ]

    step = TableStep(table)
    options = DecodingOptions(beam_size=2, max_length=6)
    found = decode(step, options, 0, 1, 2)
    assert [len(captions[0].tokens) for captions in found] == lengths
    assert [len(fed) for fed in step.fed] == [3, 3, 2, 1, 1]
    assert step.fed[0] == [[START]] * 3

    def sooner(image: int, prefix: Prefix) -> list[float]:  # slot 0 ends, slot 1 goes on
        return [-9.0, -9.0, -0.1, -9.0, -0.2, -math.inf] if len(prefix) < 2 else [-9.0, -9.0, -0.1, -9.0, -9.0, -9.0]

    step = TableStep(sooner)
    options = DecodingOptions(beam_size=2, min_length=0, max_length=6)
    decode(step, options, 0)
    assert step.fed[1] == [[PAD, 4]]


@quick
@given(SEEDS, some_options())
def test_attention_is_the_one_of_its_hypothesis(seed: int, options: DecodingOptions) -> None:
    table = random_table(seed, 8)
    step = TableStep(table, attention=True)
    found = decode(step, options, 0, 1, 2)
    assert found == run(table, options, 0, 1, 2)  # attention changes nothing
    for each in itertools.chain(*found):
        assert each.attention is not None
        assert each.attention.tolist() == [attention_of(each.tokens[:t]) for t in range(len(each.tokens) + 1)]


def test_without_attention_there_is_none() -> None:
    ((found, *_),) = run(random_table(0, 6), DecodingOptions(), 0)
    assert found.attention is None


def test_float32_stays_close_to_float64() -> None:
    table, options = random_table(3, 30), DecodingOptions(beam_size=4, num_captions=4, max_length=8)
    for exact, rounded in zip(
        run(table, options, 0, 1), decode(TableStep(table, torch.float32), options, 0, 1), strict=True
    ):
        assert [each.tokens for each in exact] == [each.tokens for each in rounded]
        assert [each.score for each in exact] == pytest.approx([each.score for each in rounded], abs=1e-5)


def test_bfloat16_is_summed_in_float32() -> None:
    def table(image: int, prefix: Prefix) -> list[float]:
        return [-9.0, -9.0, -9.0, -9.0, -0.09375]  # exact in bfloat16, but 9 + 20 times as much is not

    options = DecodingOptions(beam_size=1, length_penalty=0.0, max_length=20)
    ((found,),) = decode(TableStep(table, torch.bfloat16), options, 0)
    assert found.score == -9.0 - 20 * 0.09375


@pytest.mark.parametrize("value", [math.nan, math.inf, 5.0])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_what_is_no_log_probability_is_refused(value: float, beam_size: int) -> None:
    def table(image: int, prefix: Prefix) -> list[float]:
        broken = image == 1 and len(prefix) == 2
        return [-9.0, -9.0, -9.0, -9.0, value if broken else -1.0, -2.0, -3.0]

    with pytest.raises(DecodingError, match="no log-probabilities"):
        run(table, DecodingOptions(beam_size=beam_size), 0, 1)


def test_what_a_slot_that_has_ended_returns_does_not_matter() -> None:
    def table(image: int, prefix: Prefix) -> Sequence[float]:
        if PAD in prefix:
            return [math.nan] * 6
        return random_table(1, 6)(image, prefix)

    options = DecodingOptions(beam_size=4, num_captions=4, min_length=0, max_length=6)
    assert run(table, options, 0, 1) == run(random_table(1, 6), options, 0, 1)


def test_an_image_without_a_possible_caption_is_named() -> None:
    def table(image: int, prefix: Prefix) -> list[float]:
        return [-1.0, -1.0, -1.0, -1.0, -math.inf if image == 1 else -1.0]

    with pytest.raises(DecodingError, match="Image 1 "):
        run(table, DecodingOptions(), 0, 1)


@pytest.mark.parametrize(
    ("forbidden", "message"),
    [([END], "end token 2 is forbidden"), ([6], "no token 6: .* has 6"), ([-1], "no token -1")],
)
def test_wrong_tokens_are_refused(forbidden: list[int], message: str) -> None:
    with pytest.raises(DecodingError, match=message):
        decode(TableStep(random_table(0, 6)), DecodingOptions(), 0, forbidden=forbidden)


@pytest.mark.parametrize(
    ("log_probabilities", "attention", "message"),
    [
        (torch.zeros(1, 6), None, r"log_probabilities of shape \(1, 6\)"),
        (torch.zeros(2, 1, 6), None, r"log_probabilities of shape \(2, 1, 6\)"),
        (torch.zeros(1, 1, 6), torch.zeros(1, 6), r"attention of shape \(1, 6\)"),
        (torch.zeros(1, 1, 6, dtype=torch.int64), None, "torch.int64"),
    ],
)
def test_wrong_shapes_are_refused(log_probabilities: Tensor, attention: Tensor | None, message: str) -> None:
    def step(tokens: Tensor, state: Prefixes, /) -> tuple[Tensor, Tensor | None, Prefixes]:
        return log_probabilities, attention, state

    with pytest.raises(DecodingError, match=message):
        decode(step, DecodingOptions(), 0)


def test_no_images_no_captions() -> None:
    assert run(random_table(0, 6), DecodingOptions()) == []


def test_no_gradients_are_recorded() -> None:
    weight = torch.zeros(6, requires_grad=True)

    def step(tokens: Tensor, state: Prefixes, /) -> tuple[Tensor, Tensor | None, Prefixes]:
        assert not torch.is_grad_enabled()
        return weight.log_softmax(0).expand(*tokens.shape, 6), None, state

    found = decode(step, DecodingOptions(beam_size=1), 0)
    assert len(found) == 1
