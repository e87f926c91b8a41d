"""Intervals and the paired test, against what chance is known to do."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from captioner.evaluation.bootstrap import Floats, intervals, randomisation_test, resample


def ratio(sums: Floats) -> Floats:
    """A score that is no mean, as BLEU is none: a ratio of sums."""
    return np.asarray(sums[..., :1] / sums[..., 1:])


def corpus(chance: np.random.Generator, num_images: int) -> Floats:
    """Words and matches among them, of each image."""
    lengths = chance.integers(5, 15, num_images)
    return np.column_stack([chance.binomial(lengths, 0.6), lengths]).astype(np.float64)


def test_resamples_are_sums_of_as_many_images() -> None:
    values = np.random.default_rng(0).normal(size=5000)
    sums = resample(np.column_stack([np.ones(5000), values]), 2000, seed=1)  # more than one block
    assert sums.shape == (2000, 2)
    assert (sums[:, 0] == 5000).all()
    assert sums[:, 1].mean() == pytest.approx(values.sum(), abs=4 * np.sqrt(5000 / 2000))
    assert sums[:, 1].std() == pytest.approx(np.sqrt(5000) * values.std(), rel=0.06)


def test_resamples_of_three_images_are_as_often_as_they_should_be() -> None:
    sums = resample(np.array([[1.0], [10.0], [100.0]]), 27_000, seed=2)[:, 0]
    expected = [sum(draw) for draw in itertools.product([1, 10, 100], repeat=3)]
    for value in set(expected):
        assert (sums == value).sum() == pytest.approx(1000 * expected.count(value), rel=0.12)


def test_the_same_seed_draws_the_same() -> None:
    statistics = corpus(np.random.default_rng(3), 50)
    assert np.array_equal(resample(statistics, 20, seed=4), resample(statistics, 20, seed=4))
    assert not np.array_equal(resample(statistics, 20, seed=4), resample(statistics, 20, seed=5))


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    chance = np.random.default_rng(6)
    held = 0
    for seed in range(400):
        (interval,) = intervals(ratio(resample(corpus(chance, 60), 200, seed)), 0.9)
        held += interval.low <= 0.6 <= interval.high
    assert 0.85 <= held / 400 <= 0.94


def test_a_higher_level_is_a_wider_interval() -> None:
    values = ratio(resample(corpus(np.random.default_rng(7), 60), 500, seed=8))
    (narrow,), (wide,) = intervals(values, 0.5), intervals(values, 0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_p_values_are_uniform_when_nothing_differs() -> None:
    chance = np.random.default_rng(9)
    p_values = np.array(
        [randomisation_test(corpus(chance, 60), corpus(chance, 60), ratio, 199, seed)[0] for seed in range(1000)]
    )
    for share in (0.05, 0.1, 0.25, 0.5, 0.75, 0.9):
        assert (p_values <= share).mean() == pytest.approx(share, abs=3.5 * np.sqrt(share * (1 - share) / 1000))


def test_the_p_value_is_that_of_all_assignments() -> None:
    chance = np.random.default_rng(10)
    one, other = corpus(chance, 6), corpus(chance, 6)
    gaps = [
        ratio(np.where(swap, other.T, one.T).T.sum(axis=0)) - ratio(np.where(swap, one.T, other.T).T.sum(axis=0))
        for swap in itertools.product([False, True], repeat=6)
    ]
    exact = float(np.mean(np.abs(gaps) >= abs(gaps[0]) - 1e-12))
    assert randomisation_test(one, other, ratio, 20_000, seed=11)[0] == pytest.approx(exact, abs=0.015)


def test_a_true_difference_is_found_in_either_direction() -> None:
    chance = np.random.default_rng(12)
    one = corpus(chance, 200)
    other = one - np.column_stack([chance.binomial(1, 0.5, 200), np.zeros(200)])
    assert randomisation_test(one, other, ratio, 999, seed=13)[0] == pytest.approx(1 / 1000)
    assert randomisation_test(other, one, ratio, 999, seed=13)[0] == pytest.approx(1 / 1000)


def test_equal_systems_do_not_differ() -> None:
    one = corpus(np.random.default_rng(14), 30)
    assert randomisation_test(one, one, ratio, 99, seed=15)[0] == 1.0
