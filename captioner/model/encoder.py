"""The encoder: a torchvision classification CNN cut to its last grid."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torchvision import models

from captioner.errors import ConfigurationError
from captioner.model.configuration import EncoderConfiguration
from captioner.model.tracing import Traced
from captioner.model.weights import download_weights, read_weights

# Their last grid does not come from a convolution, so they are not the CNN that this project is about.
_NOT_CONVOLUTIONAL = ("vit_", "swin_", "maxvit")
_NO_GRID = ("avgpool", "classifier", "fc", "head", "AuxLogits", "aux")  # pooling and classifiers
_PROBE_SIZE = 224  # the side of the picture with which a network's shapes are found out


class SamePaddedConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: the odd row and column are added at the bottom right."""

    @classmethod
    def like(cls, convolution: nn.Conv2d) -> SamePaddedConv2d:
        """A convolution of the same shape and weights that pads by itself."""
        height, width = convolution.kernel_size
        down, across = convolution.stride
        dilation_down, dilation_across = convolution.dilation
        same = cls(
            convolution.in_channels,
            convolution.out_channels,
            (height, width),
            stride=(down, across),
            dilation=(dilation_down, dilation_across),
            groups=convolution.groups,
            bias=convolution.bias is not None,
        )
        same.load_state_dict(convolution.state_dict())
        return same

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        padded = nn.functional.pad(input, _same_sides(input, self.kernel_size, self.stride, self.dilation))
        return nn.functional.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class SamePaddedMaxPool2d(nn.MaxPool2d):
    """A maximum pooling with TensorFlow's SAME padding; what is added never is the maximum."""

    @classmethod
    def like(cls, pool: nn.MaxPool2d) -> SamePaddedMaxPool2d:
        """A pooling of the same shape that pads by itself."""
        return cls(pool.kernel_size, stride=pool.stride, dilation=pool.dilation)

    def forward(self, input: Tensor) -> Tensor:
        """Pool (N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
        sides = _same_sides(input, _pair(self.kernel_size), _pair(self.stride), _pair(self.dilation))
        padded = nn.functional.pad(input, sides, value=float("-inf"))
        return nn.functional.max_pool2d(padded, self.kernel_size, self.stride, 0, self.dilation)


def _pair(number: int | tuple[int, ...]) -> tuple[int, ...]:
    return (number, number) if isinstance(number, int) else number


def _same_sides(
    input: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """How many columns (left, right) and rows (top, bottom) SAME adds to `input` (N, C, H, W)."""
    vertical, horizontal = (
        max((-(-length // step) - 1) * step + spread * (extent - 1) + 1 - length, 0)
        for length, step, spread, extent in zip(input.shape[2:], stride, dilation, kernel, strict=True)
    )
    return horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2


class Encoder(nn.Module):
    """Pictures (N, 3, H, W) to grid features (N, P, C); P is the number of places, row by row."""

    def __init__(self, configuration: EncoderConfiguration) -> None:
        """Build the network with random weights (`load_weights` replaces them).

        Raises:
            ConfigurationError: no such CNN, or no such node to cut at.
        """
        super().__init__()
        self.configuration = configuration
        network = _build(configuration.name)
        if configuration.padding == "tensorflow":
            _use_same_padding(network)
        self.network = _cut(network, configuration)
        with torch.no_grad():
            grid = self.grid(torch.zeros(1, 3, _PROBE_SIZE, _PROBE_SIZE))
        if not isinstance(grid, Tensor) or grid.dim() != 4:
            raise ConfigurationError(
                f"encoder {configuration.name} gives no grid at '{configuration.cut}'; cut it before pooling"
            )
        self.channels: int = grid.shape[1]

    def grid(self, images: Tensor) -> Tensor:
        """The last grid (N, C, rows, columns) of `images` (N, 3, H, W), normalised floats."""
        outputs: dict[str, Tensor] = self.network(images)
        return outputs["grid"]

    def forward(self, images: Tensor) -> Tensor:
        """The grid features (N, P, C) of `images` (N, 3, H, W)."""
        return self.grid(images).flatten(2).transpose(1, 2)  # (N, C, P), then (N, P, C)

    def stages(self) -> list[str]:
        """The names of the network's parts in the order in which a picture passes them.

        A part that is a list, or that holds more than half of the network, is named by its own parts.
        """
        modules = [name.split(".")[:-1] for name, _ in self.network.named_parameters()]
        sizes = Counter(path[0] for path in modules)
        names: dict[str, None] = {}  # a dictionary keeps the order
        for path in modules:
            is_list = any(name.isdigit() for name in path[1:2])
            names.setdefault(".".join(path[: 2 if is_list or 2 * sizes[path[0]] > len(modules) else 1]))
        return list(names)

    def train_from(self, part: str | None) -> None:
        """Let only what comes from `part` on learn; "all" lets everything learn, None freezes everything.

        Args:
            part: any module of the network, such as `layer3`, `layer3.0` or `features.denseblock4`.

        Raises:
            ConfigurationError: no such part.
        """
        parameters = list(self.network.named_parameters())
        inside = [i for i, (name, _) in enumerate(parameters) if part == "all" or name.startswith(f"{part}.")]
        if part is not None and not inside:
            raise ConfigurationError(
                f"encoder {self.configuration.name} has no part '{part}'; "
                f"choose 'all' or one of {', '.join(self.stages())}"
            )
        first = len(parameters) if part is None else inside[0]
        for i, (_, parameter) in enumerate(parameters):
            parameter.requires_grad_(i >= first)

    def load_weights(self, weights: str | os.PathLike[str]) -> None:
        """Load `DEFAULT` (torchvision's own download) or a file: `.safetensors`, or `.pt` read without pickles.

        The file holds the whole classification network's state; what lies behind the cut is not used.

        Raises:
            ConfigurationError: the file is missing, cannot be downloaded, or does not fit the network.
        """
        name = self.configuration.name
        state = download_weights(name) if weights == "DEFAULT" else read_weights(Path(weights))
        wanted = self.network.state_dict()
        # Counters of training steps are not in every file and change no output.
        missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
        if missing:
            raise ConfigurationError(f"{weights} has no '{missing[0]}': it holds no weights of {name}")
        for key in wanted:
            if key in state and state[key].shape != wanted[key].shape:
                raise ConfigurationError(
                    f"{weights}: '{key}' is {tuple(state[key].shape)}, {name} needs {tuple(wanted[key].shape)}"
                )
        self.network.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False)


def classification_networks() -> list[str]:
    """The registry names that `EncoderConfiguration.name` accepts."""
    return [name for name in models.list_models(module=models) if not name.startswith(_NOT_CONVOLUTIONAL)]


def _build(name: str) -> nn.Module:
    if name not in classification_networks():
        raise ConfigurationError(
            f"'{name}' is not a classification CNN of torchvision; try mobilenet_v2, resnet50 or efficientnet_b0"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The default weight initialization", category=FutureWarning)
        # These two were trained on pictures normalised otherwise; torchvision sets this with its own weights as well.
        options = {"init_weights": True, "transform_input": True} if name in ("googlenet", "inception_v3") else {}
        network: nn.Module = models.get_model(name, weights=None, **options)
    return network.eval()


def _use_same_padding(network: nn.Module) -> None:
    """Swap what has a stride and padding; with stride 1 both paddings are the same, and no padding is VALID in both."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Conv2d and max(child.stride) > 1 and child.padding not in ((0, 0), "valid"):
                setattr(parent, name, SamePaddedConv2d.like(child))
            elif type(child) is nn.MaxPool2d and max(_pair(child.stride)) > 1 and max(_pair(child.padding)) > 0:
                setattr(parent, name, SamePaddedMaxPool2d.like(child))


def _cut(network: nn.Module, configuration: EncoderConfiguration) -> GraphModule:
    traced = Traced(network, leaf_modules=[SamePaddedConv2d, SamePaddedMaxPool2d])
    node = configuration.cut or _last_grid(traced)
    try:
        return traced.cut(node, "grid")
    except KeyError:
        raise ConfigurationError(
            f"encoder {configuration.name} has no node '{node}' to cut at; the last ones are "
            f"{', '.join(traced.names[-8:])}"
        ) from None


def _last_grid(traced: Traced) -> str:
    """The last node before the classifier whose output has more than one place."""
    shapes = traced.shapes(torch.zeros(1, 3, _PROBE_SIZE, _PROBE_SIZE))
    grids = [name for name, shape in shapes.items() if len(shape) == 4 and not name.startswith(_NO_GRID)]
    return [name for name in grids if shapes[name][2] > 1][-1]
