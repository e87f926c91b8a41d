"""CaptionModel: encoder and decoder together, the one network that is trained, saved and served."""

from __future__ import annotations

from torch import Tensor, nn

from captioner.model.configuration import DecoderConfiguration, EncoderConfiguration
from captioner.model.decoder import Decoder
from captioner.model.encoder import Encoder


class CaptionModel(nn.Module):
    """Pictures and the words so far to the distribution of the next word."""

    def __init__(self, encoder: EncoderConfiguration, decoder: DecoderConfiguration, *, vocabulary_size: int) -> None:
        super().__init__()
        self.encoder = Encoder(encoder)
        self.decoder = Decoder(decoder, vocabulary_size=vocabulary_size, channels=self.encoder.channels)

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (N, K, T, V) and attention (N, K, T, P) or None, of `images` (N, 3, H, W) and `tokens` (N, K, T)."""
        logits, attention = self.decoder(self.encoder(images), tokens)
        return logits, attention
