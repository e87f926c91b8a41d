"""Gated attention against equations 5, 6 and 13 of arXiv:1502.03044 written out with loops."""

from __future__ import annotations

import pytest
import torch

from captioner.model.attention import GatedAttention
from captioner.model.configuration import DecoderConfiguration

N, K, P, H, A = 2, 3, 5, 4, 6


@pytest.fixture
def attention() -> GatedAttention:
    torch.manual_seed(0)
    return GatedAttention(DecoderConfiguration(hidden_size=H, attention_size=A)).double()


def test_the_equations_written_out(attention: GatedAttention) -> None:
    hidden, values = torch.randn(N, K, H, dtype=torch.float64), torch.randn(N, P, H, dtype=torch.float64)
    context, weights = attention(hidden, attention.key(values), values)
    assert context.shape == (N, K, H)
    assert weights.shape == (N, K, P)
    for n in range(N):
        for k in range(K):
            energies = []
            for p in range(P):
                key = attention.key.weight @ values[n, p] + attention.key.bias
                query = attention.query.weight @ hidden[n, k]
                energies.append((attention.energy.weight[0] * torch.tanh(key + query)).sum())
            powers = torch.exp(torch.stack(energies))
            alpha = powers / powers.sum()
            gate = 1 / (1 + torch.exp(-(attention.gate.weight @ hidden[n, k] + attention.gate.bias)))
            looked = torch.stack([alpha[p] * values[n, p] for p in range(P)]).sum(dim=0)
            torch.testing.assert_close(weights[n, k], alpha, atol=1e-12, rtol=0)
            torch.testing.assert_close(context[n, k], gate * looked, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_weights_sum_to_one_and_keep_the_dtype(attention: GatedAttention, dtype: torch.dtype) -> None:
    attention = attention.to(dtype)
    values = torch.randn(N, P, H, dtype=dtype)
    context, weights = attention(torch.randn(N, K, H, dtype=dtype), attention.key(values), values)
    assert context.dtype == weights.dtype == dtype
    assert bool((weights >= 0).all())
    tolerance = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(weights.sum(dim=2).double(), torch.ones(N, K).double(), atol=tolerance, rtol=0)


def test_a_picture_knows_nothing_of_the_others(attention: GatedAttention) -> None:
    hidden, values = torch.randn(N, K, H, dtype=torch.float64), torch.randn(N, P, H, dtype=torch.float64)
    context, weights = attention(hidden, attention.key(values), values)
    alone = attention(hidden[1:], attention.key(values[1:]), values[1:])
    torch.testing.assert_close(context[1:], alone[0], atol=1e-14, rtol=0)
    torch.testing.assert_close(weights[1:], alone[1], atol=1e-14, rtol=0)
