"""Decoding: from a step function to the best captions. It knows no model.

`DecodingOptions` says what to look for, `search` looks for it, a `Hypothesis` is what comes out.
"""

from captioner.decoding.options import DecodingOptions
from captioner.decoding.search import Hypothesis, search

__all__ = ["DecodingOptions", "Hypothesis", "search"]
