"""The encoder: a torchvision classification CNN cut to its last grid."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torchvision import models
from torchvision.models import feature_extraction

from captioner.errors import ConfigurationError
from captioner.model.configuration import EncoderConfiguration

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
        vertical, horizontal = (
            max((-(-length // stride) - 1) * stride + dilation * (kernel - 1) + 1 - length, 0)
            for length, stride, dilation, kernel in zip(
                input.shape[2:], self.stride, self.dilation, self.kernel_size, strict=True
            )
        )
        sides = (horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2)
        return nn.functional.conv2d(
            nn.functional.pad(input, sides), self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )


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
        """The names of the network's parts in the order in which a picture passes them."""
        names: dict[str, None] = {}  # a dictionary keeps the order
        for name, _ in self.network.named_parameters():
            parts = name.split(".")
            names.setdefault(".".join(parts[:2]) if parts[1].isdigit() else parts[0])
        return list(names)

    def train_from(self, stage: str | None) -> None:
        """Let only the parts from `stage` on learn; "all" lets every part learn, None freezes all.

        Raises:
            ConfigurationError: no such part.
        """
        stages = self.stages()
        first = {None: len(stages), "all": 0}.get(stage)
        if first is None:
            if stage not in stages:
                raise ConfigurationError(
                    f"encoder {self.configuration.name} has no part '{stage}'; "
                    f"choose 'all' or one of {', '.join(stages)}"
                )
            first = stages.index(stage)
        learning = tuple(name + "." for name in stages[first:])
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name.startswith(learning))

    def load_weights(self, weights: str | os.PathLike[str]) -> None:
        """Load `DEFAULT` (torchvision's own download) or a file: `.safetensors`, or `.pt` read without pickles.

        The file holds the whole classification network's state; what lies behind the cut is not used.

        Raises:
            ConfigurationError: the file is missing or does not fit the network.
        """
        name = self.configuration.name
        state = _download(name) if weights == "DEFAULT" else _read(Path(weights))
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
    """Swap the strided convolutions; with stride 1 both paddings are the same."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Conv2d and max(child.stride) > 1 and max(child.kernel_size) > 1:
                setattr(parent, name, SamePaddedConv2d.like(child))


def _cut(network: nn.Module, configuration: EncoderConfiguration) -> GraphModule:
    tracer: dict[str, list[type]] = {"leaf_modules": [SamePaddedConv2d]}
    _, nodes = feature_extraction.get_graph_node_names(network, tracer_kwargs=tracer, suppress_diff_warning=True)
    node = configuration.cut or _last_grid(network, nodes, tracer)
    if not any(name == node or name.startswith(node + ".") for name in nodes):
        raise ConfigurationError(
            f"encoder {configuration.name} has no node '{node}' to cut at; the last ones are {', '.join(nodes[-8:])}"
        )
    cut: GraphModule = feature_extraction.create_feature_extractor(
        network, {node: "grid"}, tracer_kwargs=tracer, suppress_diff_warning=True
    )
    return cut


def _last_grid(network: nn.Module, nodes: list[str], tracer: dict[str, list[type]]) -> str:
    """The last node before the classifier whose output has more than one place."""
    candidates = [name for name in nodes if not name.startswith(_NO_GRID)]
    everything = feature_extraction.create_feature_extractor(
        network, candidates, tracer_kwargs=tracer, suppress_diff_warning=True
    )
    with torch.no_grad():
        outputs = everything(torch.zeros(1, 3, _PROBE_SIZE, _PROBE_SIZE))
    grids = [name for name in candidates if isinstance(outputs[name], Tensor) and outputs[name].dim() == 4]
    return [name for name in grids if outputs[name].shape[2] > 1][-1]


def _download(name: str) -> dict[str, Tensor]:
    state: dict[str, Tensor] = models.get_model_weights(name)["DEFAULT"].get_state_dict(progress=True, check_hash=True)
    return state


def _read(path: Path) -> dict[str, Tensor]:
    """A state dictionary from a file, executing nothing that the file says."""
    import pickle
    import struct

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ConfigurationError(f"encoder weights {path} do not exist; give a .safetensors or .pt file, or DEFAULT")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    # What torch's reader raises for a damaged file: LookupError and struct.error come from its unpickler.
    except (
        SafetensorError, pickle.UnpicklingError, struct.error, LookupError, ValueError, TypeError, AttributeError,
        RuntimeError, EOFError, OSError,
    ) as error:  # fmt: skip
        # The first sentence only: torch's next ones advise to load the file with pickles.
        reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise ConfigurationError(f"encoder weights {path} cannot be read ({reason}); copy the file again") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigurationError(f"encoder weights {path} hold no plain state dictionary of tensors")
    return state
