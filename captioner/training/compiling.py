"""torch.compile for what training computes again and again."""

from __future__ import annotations

from captioner.model.caption_model import CaptionModel


def compile_parts(model: CaptionModel, *, encoder: bool) -> None:
    """Compile `model` in place, so that the names in checkpoints stay; copies of it are not compiled.

    Of the decoder only what one step does: a loop over time would be compiled anew for each length of a caption. The
    `encoder` is worth it only where it learns.
    """
    model.decoder.cells.compile()
    if model.decoder.attention is not None:
        model.decoder.attention.compile()
    if encoder:
        model.encoder.compile()
