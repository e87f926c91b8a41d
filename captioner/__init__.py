"""Captions for pictures.

    from captioner import Captioner

    with Captioner.from_bundle() as captioner:
        for caption in captioner.caption(["holiday.jpg"]):
            print(caption.text, caption.confidence)

The names below are looked up when they are first used, so `import captioner` takes milliseconds and loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers only: at run time these imports are the lazy ones below (no cycle is hidden here)
    from captioner.captions import Alternative as Alternative
    from captioner.captions import Caption as Caption
    from captioner.captions import Judged as Judged
    from captioner.captions import Outcome as Outcome
    from captioner.captions import SentenceScore as SentenceScore
    from captioner.captions import Word as Word
    from captioner.decoding.options import DecodingOptions as DecodingOptions
    from captioner.errors import BundleError as BundleError
    from captioner.errors import CaptionerError as CaptionerError
    from captioner.errors import ConfigurationError as ConfigurationError
    from captioner.errors import DatasetError as DatasetError
    from captioner.errors import DecodingError as DecodingError
    from captioner.errors import ImageError as ImageError
    from captioner.errors import ImageTooLarge as ImageTooLarge
    from captioner.errors import LedgerError as LedgerError
    from captioner.errors import OutputError as OutputError
    from captioner.errors import SourceError as SourceError
    from captioner.errors import UnreadableImage as UnreadableImage
    from captioner.errors import UnsupportedFormat as UnsupportedFormat
    from captioner.images import ImageLimits as ImageLimits
    from captioner.images import ImageSource as ImageSource
    from captioner.images import read_image as read_image
    from captioner.prediction import Captioner as Captioner

__version__ = "0.1.0"

_MODULE_OF = {
    "Alternative": "captioner.captions",
    "BundleError": "captioner.errors",
    "Caption": "captioner.captions",
    "Captioner": "captioner.prediction",
    "CaptionerError": "captioner.errors",
    "ConfigurationError": "captioner.errors",
    "DatasetError": "captioner.errors",
    "DecodingError": "captioner.errors",
    "DecodingOptions": "captioner.decoding.options",
    "ImageError": "captioner.errors",
    "ImageLimits": "captioner.images",
    "ImageSource": "captioner.images",
    "ImageTooLarge": "captioner.errors",
    "LedgerError": "captioner.errors",
    "Judged": "captioner.captions",
    "Outcome": "captioner.captions",
    "OutputError": "captioner.errors",
    "SentenceScore": "captioner.captions",
    "SourceError": "captioner.errors",
    "UnreadableImage": "captioner.errors",
    "UnsupportedFormat": "captioner.errors",
    "Word": "captioner.captions",
    "read_image": "captioner.images",
}


def __getattr__(name: str) -> object:
    """A public name, from the module that it lives in."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'captioner' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    """The public names, whether they have been used already or not."""
    return sorted({*globals(), *_MODULE_OF})
