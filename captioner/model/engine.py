"""Engine: how a model is run to caption pictures. Prediction knows `encode`, `initial_state`, `step`, nothing else."""

from __future__ import annotations

import copy
import itertools
import time

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.utils.fusion import fuse_conv_bn_eval

from captioner.errors import ConfigurationError
from captioner.model.caption_model import CaptionModel
from captioner.model.decoder import DecoderState

# A processor's caches hold the grids of a few pictures: 32 at once take half as long again as 8 times 4.
_CPU_CHUNK = 4
PRECISIONS = ("auto", "float32", "bfloat16")


class TorchEngine:
    """Runs a CaptionModel with torch: the encoder channels-last in the quicker precision, the decoder in float32."""

    def __init__(self, model: CaptionModel, *, device: str = "cpu", precision: str = "auto") -> None:
        """Copy `model` for inference.

        Args:
            device: `cpu`, `cuda`, or `auto` (cuda where there is one).
            precision: of the encoder: `float32`, `bfloat16`, or `auto`: on a processor both are timed here and the
                quicker one is kept, since bfloat16 doubles the speed of some and halves that of others; a GPU takes
                bfloat16 if it has units for it.

        Raises:
            ConfigurationError: there is no such device or precision.
        """
        if precision not in PRECISIONS:
            raise ConfigurationError(f"precision '{precision}' is unknown; choose one of {', '.join(PRECISIONS)}")
        self.device = _device(device)
        self.decoder = copy.deepcopy(model.decoder).eval().requires_grad_(False).to(self.device)
        # the folded copy is exact up to rounding, and a third quicker
        network = _fold_batch_norms(copy.deepcopy(model.encoder.network).requires_grad_(False))
        self._network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = torch.float32
        if precision == "bfloat16" or (precision == "auto" and self._bfloat16_is_quicker()):
            self.dtype = torch.bfloat16
            self._network = self._network.to(torch.bfloat16)

    @property
    def precision(self) -> str:
        """Of the encoder: `float32` or `bfloat16`, which another engine can be given to save it the timing."""
        return "bfloat16" if self.dtype == torch.bfloat16 else "float32"

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Grid features (N, P, C), float32, of normalised `images` (N, 3, H, W)."""
        return self._encode(self._network, images, self.dtype)

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
        size = _CPU_CHUNK if self.device.type == "cpu" else len(images)
        grids: list[Tensor] = [network(chunk)["grid"] for chunk in torch.split(images, size)]
        return torch.cat(grids).flatten(2).transpose(1, 2).float()  # (N, C, rows, columns), then (N, P, C)

    @torch.inference_mode()
    def _bfloat16_is_quicker(self) -> bool:
        if self.device.type == "cuda":
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
        half = copy.deepcopy(self._network).to(torch.bfloat16)
        images = torch.zeros(8, 3, 224, 224)
        seconds = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
        for _ in range(4):  # the first round warms up; the minimum is the least disturbed by other programs
            for dtype, network in ((torch.float32, self._network), (torch.bfloat16, half)):
                start = time.perf_counter()
                self._encode(network, images, dtype)
                seconds[dtype] = min(seconds[dtype], time.perf_counter() - start)
        return seconds[torch.bfloat16] < 0.9 * seconds[torch.float32]


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


def _fold_batch_norms(network: GraphModule) -> GraphModule:
    """Fold each batch normalisation into the convolution before it, which is exact in evaluation mode."""
    network.eval()
    network = GraphModule(network, network.graph)  # without torchvision's second graph, the one for training
    # Inside the blocks that the graph calls as one, the normalisation is the next member.
    for block in network.modules():
        if isinstance(block, nn.Sequential):
            for (conv_name, conv), (norm_name, norm) in itertools.pairwise(list(block.named_children())):
                if isinstance(conv, nn.Conv2d) and type(norm) is nn.BatchNorm2d:
                    setattr(block, conv_name, fuse_conv_bn_eval(conv, norm))
                    setattr(block, norm_name, nn.Identity())
    # Elsewhere it is the next node of the graph.
    modules = dict(network.named_modules())
    for node in list(network.graph.nodes):
        before = node.args[0] if node.args else None
        if node.op != "call_module" or type(modules[node.target]) is not nn.BatchNorm2d or before is None:
            continue
        if before.op == "call_module" and len(before.users) == 1 and isinstance(modules[before.target], nn.Conv2d):
            network.set_submodule(before.target, fuse_conv_bn_eval(modules[before.target], modules[node.target]))
            node.replace_all_uses_with(before)
            network.graph.erase_node(node)
    network.delete_all_unused_submodules()
    network.recompile()
    return network
