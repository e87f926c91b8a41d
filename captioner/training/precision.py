"""The precision of training where none is asked for: mixed where the device has units for it."""

from __future__ import annotations

from pathlib import Path

import torch

_PROCESSOR = Path("/proc/cpuinfo")  # Linux only; elsewhere nothing is known, so float32 it is
_BFLOAT16_UNITS = {"amx_bf16", "avx512_bf16", "bf16"}  # Intel and AMD; the last one is what 64-bit Arm calls it


def automatic_precision(accelerator: str) -> str:
    """Lightning's name of the quickest safe precision on `accelerator`, which is one of Lightning's names.

    A GPU of NVIDIA with bfloat16 units gives `bf16-mixed`, an older one `16-mixed`; a processor with bfloat16 units
    `bf16-mixed`; everything else `32-true`.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    on_processor = accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available())
    if on_processor and _PROCESSOR.is_file() and has_bfloat16_units(_PROCESSOR.read_text()):
        return "bf16-mixed"
    return "32-true"


def has_bfloat16_units(description: str) -> bool:
    """Whether a processor is quick in bfloat16, from its `description` as Linux's /proc/cpuinfo has it."""
    lines = (line.partition(":") for line in description.splitlines())
    return any(_BFLOAT16_UNITS & set(value.split()) for key, _, value in lines if key.strip() in ("flags", "Features"))
