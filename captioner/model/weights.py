"""Published weights of a classification network: read from a file, or downloaded as torchvision does it."""

from __future__ import annotations

import pickle
import struct
from http.client import HTTPException
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torchvision import models

from captioner.errors import ConfigurationError

# What torch's reader raises for a damaged file: LookupError and struct.error come from its unpickler.
DAMAGED = (
    pickle.UnpicklingError, struct.error, LookupError, ValueError, TypeError, AttributeError, RuntimeError, EOFError,
)  # fmt: skip


def download_weights(name: str) -> dict[str, Tensor]:
    """The state dictionary of the network `name`, from torchvision's cache or from the network.

    Raises:
        ConfigurationError: it cannot be downloaded, or what came is damaged.
    """
    weights = models.get_model_weights(name)["DEFAULT"]
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, HTTPException, *DAMAGED) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise ConfigurationError(
            f"the weights of {name} from {weights.url} cannot be used ({first_sentence(error)}); try again, remove a "
            f"damaged file from {folder}, or give a file that you have"
        ) from error
    return state


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dictionary from a file, executing nothing that the file says.

    Raises:
        ConfigurationError: the file is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise ConfigurationError(f"encoder weights {path} do not exist; give a .safetensors or .pt file, or DEFAULT")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, *DAMAGED) as error:
        raise ConfigurationError(
            f"encoder weights {path} cannot be read ({first_sentence(error)}); copy the file again"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigurationError(f"encoder weights {path} hold no plain state dictionary of tensors")
    return state


def first_sentence(error: Exception) -> str:
    """What went wrong; torch's next sentences advise to load the file with pickles, which is bad advice."""
    return str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
