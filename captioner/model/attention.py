"""Gated soft attention over the grid (Xu et al., Show, Attend and Tell, arXiv:1502.03044, sections 3.1.2 and 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captioner.model.configuration import DecoderConfiguration
from captioner.model.rows import Rows


class GatedAttention(nn.Module):
    """alpha = softmax(w . tanh(K + Q h)), context = sigmoid(G h) * sum alpha value (equations 5, 6 and 13).

    We differ from the paper in one point: its gate is one number a step, ours is one a channel.
    """

    def __init__(self, configuration: DecoderConfiguration) -> None:
        super().__init__()
        hidden_size, size = configuration.hidden_size, configuration.attention_size
        self.key = nn.Linear(hidden_size, size)
        self.query = nn.Linear(hidden_size, size, bias=False)
        self.energy = nn.Linear(size, 1, bias=False)  # a bias would vanish in the softmax
        self.gate = nn.Linear(hidden_size, hidden_size)

    def forward(self, hidden: Tensor, keys: Tensor, values: Tensor, rows: Rows | None = None) -> tuple[Tensor, Tensor]:
        """Look at the grid.

        Args:
            hidden: (N, K, H), the top layer's hidden state of K beams of N images; (B, 1, H) of `rows`.
            keys: (N, P, A), `self.key(values)`, computed once an image.
            values: (N, P, H), the projected grid.
            rows: the B of the N K beams that look, where not all of them do; below, they stand as B images of one beam.

        Returns:
            context (N, K, H) and attention (N, K, P), whose rows sum to 1.
        """
        if rows is not None:
            keys = keys[rows.images]  # (B, P, A); the gradient of index_select would be six times slower
        compared = torch.tanh(keys.unsqueeze(1) + self.query(hidden).unsqueeze(2))  # (N, K, P, A)
        energies = self.energy(compared).squeeze(-1)  # (N, K, P)
        precision = torch.promote_types(energies.dtype, torch.float32)  # bfloat16 is too coarse, float64 stays
        attention = torch.softmax(energies, dim=-1, dtype=precision).to(values.dtype)  # (N, K, P)
        context = torch.sigmoid(self.gate(hidden)) * _weighted_sum(attention, values, rows)  # (N, K, H)
        return context, attention


def _weighted_sum(attention: Tensor, values: Tensor, rows: Rows | None) -> Tensor:
    """The sum (N, K, H) over the places of `values` (N, P, H), each times its `attention` (N, K, P)."""
    if rows is None:
        return torch.bmm(attention, values)
    # beams without a row get zeros: one product an image is cheaper than a copy of its values for each of its rows
    spread = attention.new_zeros(len(values), rows.num_beams, values.shape[1])  # (N, K, P)
    spread = spread.index_put((rows.images, rows.beams), attention.squeeze(1))
    return rows.of(torch.bmm(spread, values))  # (B, 1, H)
