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


class StackedCells(nn.Module):
    """`num_layers` cells: the hidden state of one layer is the input of the next, with dropout between them."""

    def __init__(self, configuration: DecoderConfiguration, input_size: int) -> None:
        super().__init__()
        hidden_size = configuration.hidden_size
        sizes = [input_size] + [hidden_size] * (configuration.num_layers - 1)
        self.cells = nn.ModuleList(_CELLS[configuration.cell](size, hidden_size) for size in sizes)
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
