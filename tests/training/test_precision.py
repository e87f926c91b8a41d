"""The precision that training chooses by itself."""

from __future__ import annotations

import pytest
import torch

from captioner.training.precision import automatic_precision, has_bfloat16_units


@pytest.mark.parametrize(
    ("description", "has"),
    [
        ("model name\t: Xeon\nflags\t\t: fpu avx512f avx512_bf16 amx_bf16\n", True),
        ("flags\t\t: fpu avx2 fma\n", False),
        ("Features\t: fp asimd bf16\n", True),
        ("model name\t: bf16 in its name only\nflags\t\t: fpu\n", False),
        ("", False),
    ],
)
def test_the_units_of_a_processor(description: str, has: bool) -> None:
    assert has_bfloat16_units(description) is has


def test_a_device_gets_what_it_is_quick_in() -> None:
    assert automatic_precision("cpu") in ("bf16-mixed", "32-true")
    assert automatic_precision("mps") == "32-true"
    if torch.cuda.is_available():
        assert automatic_precision("auto") in ("bf16-mixed", "16-mixed")
    else:
        assert automatic_precision("gpu") == "32-true"
