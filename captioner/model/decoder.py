"""The recurrent decoder: its state is a value, and there is one `step`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from captioner.model.attention import GatedAttention
from captioner.model.cells import StackedCells
from captioner.model.configuration import DecoderConfiguration
from captioner.model.rows import Rows


@dataclass(frozen=True)
class DecoderState:
    """All that the decoder remembers between two steps, for K beams of each of N images.

    Attributes:
        hidden: (L, N, K, H); (L, B, 1, H) of B `rows`, as if each were an image with one beam.
        memory: the LSTM's cell state, of the same shape; None for the other cells.
        values: (N, P, H), the projected grid, shared by the beams of an image.
        keys: (N, P, A), its attention keys; None without attention.
        rows: the beams that go on, where others have left the step (training alone has this); None where all do.
    """

    hidden: Tensor
    memory: Tensor | None
    values: Tensor
    keys: Tensor | None
    rows: Rows | None = None

    def of(self, values: Tensor) -> Tensor:
        """What `values` (N, K, ...) have for the beams that go on: all of it, or (B, 1, ...) of the rows."""
        return values if self.rows is None else self.rows.of(values)

    def only(self, places: Tensor) -> DecoderState:
        """Go on with the rows at `places` (B,) int64 alone, in the order of all N K beams or of the rows until now."""
        rows = self.rows
        if rows is None:
            _, num_images, num_beams, _ = self.hidden.shape
            rows = Rows.all_of(num_images, num_beams, self.hidden.device)
        return replace(
            self,
            hidden=self.hidden.flatten(1, 2)[:, places].unsqueeze(2),  # (L, B, 1, H)
            memory=None if self.memory is None else self.memory.flatten(1, 2)[:, places].unsqueeze(2),
            rows=rows.only(places),
        )

    def reorder(self, images: Tensor, beams: Tensor) -> DecoderState:
        """Keep `images` (M,) int64; in each, slot k continues the former slot `beams` (M, K') [m, k]. Not for rows."""
        rows = images.unsqueeze(1)  # (M, 1), broadcast against beams
        whole = len(images) == len(self.values)  # then the order is the same: nothing of the grid has to be copied
        return DecoderState(
            hidden=self.hidden[:, rows, beams],
            memory=None if self.memory is None else self.memory[:, rows, beams],
            values=self.values if whole else self.values[images],
            keys=self.keys if whole or self.keys is None else self.keys[images],
        )


class Decoder(nn.Module):
    """P(next word | words so far, picture). Deep output as in arXiv:1502.03044, equation 7, with tied word vectors."""

    def __init__(self, configuration: DecoderConfiguration, *, vocabulary_size: int, channels: int) -> None:
        """Build for grids of `channels` (C) and a vocabulary of `vocabulary_size` (V) words."""
        super().__init__()
        self.configuration = configuration
        hidden_size, embedding_size = configuration.hidden_size, configuration.embedding_size
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        self.project = nn.Sequential(nn.Linear(channels, hidden_size), nn.ReLU(), nn.Dropout(configuration.dropout))
        self.attention = GatedAttention(configuration) if configuration.attention else None
        self.cells = StackedCells(configuration, embedding_size + (hidden_size if configuration.attention else 0))
        states = configuration.num_layers * (2 if self.cells.has_memory else 1)
        self.initial = nn.Linear(hidden_size, states * hidden_size)
        self.hidden_output = nn.Linear(hidden_size, embedding_size)
        self.context_output = nn.Linear(hidden_size, embedding_size, bias=False) if configuration.attention else None
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.dropout = nn.Dropout(configuration.dropout)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)

    def initial_state(self, features: Tensor, *, beams: int = 1) -> DecoderState:
        """The state before `<start>`, from the grid `features` (N, P, C), the same for each of `beams` (K)."""
        values = self.project(features)  # (N, P, H)
        mean = values.mean(dim=1)  # (N, H)
        layers = self.configuration.num_layers
        first = torch.tanh(self.initial(mean))  # (N, L H), or (N, 2 L H) with memory
        first = first.view(len(mean), -1, 1, self.configuration.hidden_size)  # (N, L or 2 L, 1, H)
        first = first.expand(-1, -1, beams, -1).transpose(0, 1).contiguous()  # (L or 2 L, N, K, H)
        return DecoderState(
            hidden=first[:layers],
            memory=first[layers:] if self.cells.has_memory else None,
            values=values,
            keys=None if self.attention is None else self.attention.key(values),
        )

    def advance(self, words: Tensor, state: DecoderState) -> tuple[Tensor, Tensor | None, DecoderState]:
        """One time step without the classifier, so that training can run that once for all steps.

        Args:
            words: (N, K, E), the vectors of the previous words.
            state: of N images and K beams; of B rows, the shapes here begin with (B, 1) instead.

        Returns:
            output (N, K, E), attention (N, K, P) or None, and the next state.
        """
        attention: Tensor | None = None
        context: Tensor | None = None
        inputs = words
        if self.attention is not None and state.keys is not None:
            context, attention = self.attention(state.hidden[-1], state.keys, state.values, state.rows)
            inputs = torch.cat([words, context], dim=-1)  # (N, K, E + H)
        shape = state.hidden.shape  # (L, N, K, H)
        hidden, memory = self.cells(
            inputs.flatten(0, 1),  # (N K, E + H)
            state.hidden.flatten(1, 2),  # (L, N K, H)
            None if state.memory is None else state.memory.flatten(1, 2),
        )
        hidden = hidden.view(shape)
        output = self.hidden_output(self.dropout(hidden[-1]))  # (N, K, E)
        if self.context_output is not None and context is not None:
            output = output + self.context_output(self.dropout(context))
        memory = None if memory is None else memory.view(shape)
        return output, attention, replace(state, hidden=hidden, memory=memory)

    def embed(self, tokens: Tensor) -> Tensor:
        """The vectors (..., E) of `tokens` (...), with dropout in training."""
        embedded: Tensor = self.dropout(self.embedding(tokens))
        return embedded

    def classify(self, output: Tensor) -> Tensor:
        """Logits (..., V) of `output` (..., E): the products with all word vectors, plus a bias a word."""
        return nn.functional.linear(output, self.embedding.weight, self.bias)

    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, Tensor | None, DecoderState]:
        """The next word's distribution after `tokens` (N, K).

        Returns:
            log_probabilities (N, K, V), attention (N, K, P) or None, and the next state.
        """
        output, attention, state = self.advance(self.embed(tokens), state)
        return torch.log_softmax(self.classify(output), dim=-1), attention, state

    def unroll(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, Tensor | None, DecoderState]:
        """Feed `tokens` (N, K, T) one after the other: `advance`, T times.

        Without attention nothing but the recurrence waits for the step before, and whole sequences go through torch's
        fused kernels.

        Returns:
            output (N, K, T, E), attention (N, K, T, P) or None, and the state after the last token.
        """
        words = self.embed(tokens)  # (N, K, T, E)
        if self.attention is None:
            hidden, memory = state.hidden.flatten(1, 2), None if state.memory is None else state.memory.flatten(1, 2)
            top, hidden, memory = self.cells.unroll(words.flatten(0, 1).transpose(0, 1), hidden, memory)  # (T, N K, H)
            output = self.hidden_output(self.dropout(top)).transpose(0, 1).unflatten(0, words.shape[:2])
            shape = state.hidden.shape  # (L, N, K, H)
            memory = None if memory is None else memory.view(shape)
            return output, None, replace(state, hidden=hidden.view(shape), memory=memory)
        outputs: list[Tensor] = []
        attentions: list[Tensor] = []
        for t in range(tokens.shape[2]):
            output, attention, state = self.advance(words[:, :, t], state)
            outputs.append(output)
            if attention is not None:
                attentions.append(attention)
        return torch.stack(outputs, dim=2), torch.stack(attentions, dim=2), state

    def forward(self, features: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Teacher forcing: the given words go in, the distribution of each next word comes out.

        Args:
            features: (N, P, C).
            tokens: (N, K, T), K captions of each image, beginning with `<start>`.

        Returns:
            logits (N, K, T, V), and attention (N, K, T, P) or None.
        """
        outputs, attention, _ = self.unroll(tokens, self.initial_state(features, beams=tokens.shape[1]))
        return self.classify(outputs), attention
