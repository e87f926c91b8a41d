"""Engine: how a model is run to caption pictures. Prediction knows `encode`, `initial_state`, `step`, nothing else."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from captioner.errors import ConfigurationError
from captioner.model.caption_model import CaptionModel
from captioner.model.decoder import DecoderState
from captioner.model.folding import fold_batch_norms

# A processor's caches hold the grids of a few pictures: 32 at once take half as long again as 8 times 4.
_CPU_CHUNK = 4
_GPU_CHUNK = 1024  # to begin with: see in_chunks
_FLOAT16_ERROR = 0.02  # of the norm of a grid, above which float16 is not taken unasked; of the shipped model: 0.005
_PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
PRECISIONS = ("auto", *_PRECISIONS)


class TorchEngine:
    """Runs a CaptionModel with torch: the encoder channels-last in the quicker precision, the decoder in float32."""

    def __init__(self, model: CaptionModel, *, device: str = "cpu", precision: str = "auto") -> None:
        """Copy `model` for inference.

        Args:
            device: `cpu`, `cuda`, or `auto` (cuda where there is one).
            precision: of the encoder: `float32`, `float16`, `bfloat16`, or `auto`: float16 if it gives the same grids
                and, on a processor, is quicker. Both are tried here, since float16 doubles the speed of a processor
                that has units for it and ruins that of others. `auto` never takes bfloat16: it keeps 8 bits of a
                number where float16 keeps 11, and changes one caption in five.

        Raises:
            ConfigurationError: there is no such device or precision.
        """
        if precision not in PRECISIONS:
            raise ConfigurationError(f"precision '{precision}' is unknown; choose one of {', '.join(PRECISIONS)}")
        self.device = _device(device)
        self._chunk = _CPU_CHUNK if self.device.type == "cpu" else _GPU_CHUNK
        self.decoder = copy.deepcopy(model.decoder).eval().requires_grad_(False).to(self.device)
        # the folded copy is exact up to rounding, and a third quicker
        network = fold_batch_norms(copy.deepcopy(model.encoder.network).requires_grad_(False))
        self._network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if precision == "auto":
            precision = "float16" if self._float16_is_better() else "float32"
        self.precision = precision
        self._dtype = _PRECISIONS[precision]
        self._network = self._network.to(self._dtype)

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Grid features (N, P, C), float32, of normalised `images` (N, 3, H, W)."""
        return self._encode(self._network, images, self._dtype)

    @torch.inference_mode()
    def initial_state(self, features: Tensor) -> DecoderState:
        """The state before `<start>` of the grid `features` (N, P, C), one beam an image."""
        return self.decoder.initial_state(features.to(self.device, self.decoder.bias.dtype))

    @torch.inference_mode()
    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, Tensor | None, DecoderState]:
        """log_probabilities (N, K, V), attention (N, K, P) or None, and the next state after `tokens` (N, K)."""
        return self.decoder.step(tokens, state)

    def _encode(self, network: nn.Module, images: Tensor, dtype: torch.dtype) -> Tensor:
        images = images.to(self.device, dtype, memory_format=torch.channels_last)
        grids, self._chunk = in_chunks(lambda chunk: network(chunk)["grid"], images, self._chunk)
        return grids.flatten(2).transpose(1, 2).float()  # (N, C, rows, columns), then (N, P, C)

    @torch.inference_mode()
    def _float16_is_better(self) -> bool:
        """Whether float16 gives the same grids as float32, up to rounding, in less time."""
        half = copy.deepcopy(self._network).to(torch.float16)
        networks = {torch.float32: self._network, torch.float16: half}
        images = torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        if self.device.type == "cpu":
            seconds = self._seconds(networks, images[:1], rounds=3)  # the first round warms up
            if seconds[torch.float16] > 4 * seconds[torch.float32]:
                return False  # without units for it, it is ten times slower: one picture has shown it
        exact, rounded = (self._encode(network, images, dtype) for dtype, network in networks.items())  # (8, P, C)
        if not (rounded - exact).norm() <= _FLOAT16_ERROR * exact.norm():
            return False  # such as a network whose numbers are too large for float16
        if self.device.type == "cuda":
            return True
        seconds = self._seconds(networks, images, rounds=3)
        return seconds[torch.float16] < 0.9 * seconds[torch.float32]

    def _seconds(
        self, networks: dict[torch.dtype, nn.Module], images: Tensor, *, rounds: int
    ) -> dict[torch.dtype, float]:
        """How long each network takes for `images` (N, 3, H, W) at best: that is the least disturbed by others."""
        seconds = dict.fromkeys(networks, float("inf"))
        for _ in range(rounds):
            for dtype, network in networks.items():
                start = time.perf_counter()
                self._encode(network, images, dtype)
                seconds[dtype] = min(seconds[dtype], time.perf_counter() - start)
        return seconds


def in_chunks(function: Callable[[Tensor], Tensor], inputs: Tensor, size: int) -> tuple[Tensor, int]:
    """`function` of `inputs` (N, ...), at most `size` of them at a time, and the size that the memory was enough for.

    When a GPU's memory runs out, the size is halved and all is done again, until one input alone is too much.
    """
    while True:
        try:
            return torch.cat([function(chunk) for chunk in torch.split(inputs, size)]), size
        except torch.OutOfMemoryError:
            if min(size, len(inputs)) == 1:
                raise
            size = min(size, len(inputs)) // 2
            torch.cuda.empty_cache()


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(f"device '{name}' is unknown; choose auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigurationError(f"device '{name}' is not supported; choose auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("there is no CUDA device here; choose cpu or auto")
    return device
