"""Stacked recurrent cells: vanilla RNN, GRU, LSTM, one time step at a time.

The arithmetic is torch's own (`torch.nn.RNNCell`, `GRUCell`, `LSTMCell`). The tests compare a sequence of steps with
`torch.nn.RNN`, `GRU` and `LSTM`, and with the plain equations written out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captioner.model.configuration import DecoderConfiguration

_CELLS: dict[str, type[nn.RNNCell] | type[nn.GRUCell] | type[nn.LSTMCell]] = {
    "rnn": nn.RNNCell,
    "gru": nn.GRUCell,
    "lstm": nn.LSTMCell,
}


_SEQUENCES: dict[str, type[nn.RNN] | type[nn.GRU] | type[nn.LSTM]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
_PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class StackedCells(nn.Module):
    """`num_layers` cells: the hidden state of one layer is the input of the next, with dropout between them."""

    def __init__(self, configuration: DecoderConfiguration, input_size: int) -> None:
        super().__init__()
        hidden_size = configuration.hidden_size
        sizes = [input_size] + [hidden_size] * (configuration.num_layers - 1)
        self.cells = nn.ModuleList(_CELLS[configuration.cell](size, hidden_size) for size in sizes)
        self.kind = configuration.cell
        self.dropout = nn.Dropout(configuration.dropout)
        self.has_memory = configuration.cell == "lstm"

    def forward(self, inputs: Tensor, hidden: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One step.

        Args:
            inputs: (B, I), B rows of I numbers.
            hidden: (L, B, H), the hidden state of each layer.
            memory: (L, B, H), the cell state of each layer; LSTM only, else None.

        Returns:
            The new hidden (L, B, H), and the new memory (L, B, H) or None.
        """
        hiddens: list[Tensor] = []
        memories: list[Tensor] = []
        for layer, cell in enumerate(self.cells):
            layer_inputs = inputs if layer == 0 else self.dropout(hiddens[-1])
            if memory is not None:
                new_hidden, new_memory = cell(layer_inputs, (hidden[layer], memory[layer]))
                memories.append(new_memory)
            else:
                new_hidden = cell(layer_inputs, hidden[layer])
            hiddens.append(new_hidden)
        return torch.stack(hiddens), torch.stack(memories) if memory is not None else None

    def unroll(self, inputs: Tensor, hidden: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """T steps at once, a layer after the other, through torch's kernels for whole sequences.

        Args:
            inputs: (T, B, I).
            hidden: (L, B, H), before the first step.
            memory: (L, B, H), or None.

        Returns:
            The top layer's hidden states (T, B, H); hidden (L, B, H) and memory (L, B, H) or None after the last step.
        """
        hiddens: list[Tensor] = []
        memories: list[Tensor] = []
        outputs = inputs
        for layer, cell in enumerate(self.cells):
            sequence = _sequence(self.kind, cell)
            outputs = outputs if layer == 0 else self.dropout(outputs)
            # under autocast cuDNN's recurrence is float16, also where bfloat16 was asked for, and a processor without
            # bfloat16 units has none
            with torch.autocast(inputs.device.type, enabled=False):
                outputs = outputs.to(cell.get_parameter("weight_ih").dtype)
                first = hidden[layer : layer + 1].to(outputs.dtype)  # (1, B, H); autocast leaves the two different
                if memory is None:
                    outputs, last = sequence(outputs, first)
                else:
                    first_memory = memory[layer : layer + 1].to(outputs.dtype)
                    outputs, (last, last_memory) = sequence(outputs, (first, first_memory))
                    memories.append(last_memory)
            hiddens.append(last)
        return outputs, torch.cat(hiddens), torch.cat(memories) if memory is not None else None


def _sequence(kind: str, cell: nn.Module) -> nn.RNNBase:
    """The module that runs whole sequences with the parameters of `cell`; making it costs no memory."""
    weight = cell.get_parameter("weight_ih")
    sequence = _SEQUENCES[kind](weight.shape[1], cell.get_parameter("weight_hh").shape[1], device="meta")
    for name in _PARAMETERS:
        setattr(sequence, f"{name}_l0", cell.get_parameter(name))
    return sequence
