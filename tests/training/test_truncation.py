"""Truncation: where it cuts, what it multiplies, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captioner.errors import ConfigurationError
from captioner.model.decoder import DecoderState
from captioner.training.truncation import Carried, Truncation


@given(mode=st.sampled_from(["truncated", "randomised"]), steps=st.integers(2, 30), num_steps=st.integers(1, 100))
def test_the_segments_are_the_caption(mode: str, steps: int, num_steps: int) -> None:
    lengths = Truncation(mode=mode, steps=steps).segments(num_steps)
    assert sum(lengths) == num_steps
    assert min(lengths) >= 1
    if mode == "truncated":
        assert set(lengths[:-1]) <= {steps}
        assert lengths[-1] <= steps
    assert Truncation().segments(num_steps) == [num_steps]


def test_random_segments_are_as_long_as_is_asked_on_average() -> None:
    torch.manual_seed(0)
    truncation = Truncation(mode="randomised", steps=10)
    cuts = [len(truncation.segments(101)) - 1 for _ in range(400)]  # each a binomial(100, 0.1): 10, deviation 3
    assert sum(cuts) / len(cuts) == pytest.approx(10.0, abs=4 * 3 / 400**0.5)
    assert truncation.kept_weight == pytest.approx(1 / 0.9)


def test_what_is_carried_keeps_its_values_and_only_its_gradient_is_weighted() -> None:
    hidden, memory, values, looked = (torch.randn(2, 3, requires_grad=True) for _ in range(4))
    carried = Carried(DecoderState(hidden=hidden, memory=memory, values=values, keys=None), looked)
    for factor in (0.0, 1.0, 1.25):
        weighted = carried.weighted(factor)
        assert weighted.state.memory is not None
        assert weighted.looked is not None
        found = [weighted.state.hidden, weighted.state.memory, weighted.looked, weighted.state.values]
        for value, origin in zip(found, (hidden, memory, looked, values), strict=True):
            assert torch.equal(value, origin)
        total = torch.stack(found).sum() + 0 * hidden.sum()
        gradients = torch.autograd.grad(total, [hidden, memory, looked, values], allow_unused=True)
        for gradient in gradients[:3]:
            assert factor == 0.0 if gradient is None else torch.equal(gradient, torch.full((2, 3), factor))
        assert gradients[3] is not None
        assert torch.equal(gradients[3], torch.ones(2, 3))  # the picture is no memory: it is seen at every step


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "half"}, r"mode 'half' is unknown; choose one of full, truncated, randomised"),
        ({"steps": 20}, r"steps is 20, but truncation\.mode is full"),
        ({"mode": "truncated"}, r"steps is None; the mode truncated needs a number of 1 or more"),
        ({"mode": "truncated", "steps": 0}, r"steps is 0; the mode truncated needs a number of 1 or more"),
        ({"mode": "randomised", "steps": 1}, r"steps is 1; the mode randomised needs a number of 2 or more"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, str | int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Truncation(**options)  # type: ignore[arg-type]
