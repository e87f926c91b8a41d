"""What a network is built from: the frozen options of the encoder and of the decoder."""

from __future__ import annotations

from dataclasses import dataclass

from captioner.errors import ConfigurationError

CELLS = ("rnn", "gru", "lstm")
PADDINGS = ("torchvision", "tensorflow")


@dataclass(frozen=True, kw_only=True)
class EncoderConfiguration:
    """Which CNN sees the picture.

    Args:
        name: a torchvision classification CNN by its registry name, such as `mobilenet_v2` or `resnet50`.
        cut: the node whose output is the grid, such as `layer3`; None takes the last grid before pooling.
        padding: `torchvision` (symmetric), or `tensorflow` for weights that were trained with TensorFlow's SAME
            padding, which puts the odd row and column of a strided convolution or maximum pooling at the bottom
            right. It replaces the padding where torchvision pads; where it does not (VALID, as in inception_v3),
            nothing is padded.
    """

    name: str = "mobilenet_v2"
    cut: str | None = None
    padding: str = "torchvision"

    def __post_init__(self) -> None:
        if self.padding not in PADDINGS:
            raise ConfigurationError(
                f"encoder padding '{self.padding}' is unknown; choose one of {', '.join(PADDINGS)}"
            )


@dataclass(frozen=True, kw_only=True)
class DecoderConfiguration:
    """Which recurrent network speaks.

    Args:
        cell: `rnn` (tanh), `gru` or `lstm`.
        num_layers: stacked layers, 1 or more.
        embedding_size: the width of a word's vector; input and output vectors are the same matrix.
        hidden_size: the width of each layer's hidden state, and of the projected grid.
        attention: gated soft attention over the grid; without it the picture only initialises the state.
        attention_size: the width of the layer that compares the state with a place of the grid.
        dropout: the probability with which training drops word vectors, projected grid and outputs.
    """

    cell: str = "lstm"
    num_layers: int = 1
    embedding_size: int = 300
    hidden_size: int = 512
    attention: bool = True
    attention_size: int = 256
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ConfigurationError(f"decoder cell '{self.cell}' is unknown; choose one of {', '.join(CELLS)}")
        for name in ("num_layers", "embedding_size", "hidden_size", "attention_size"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"decoder {name} is {getattr(self, name)}; it must be 1 or more")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigurationError(f"decoder dropout is {self.dropout}; it must be at least 0 and less than 1")
