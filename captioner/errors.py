"""The exceptions that this project raises on purpose.

    CaptionerError
    ├── ImageError               a picture could not be used
    │   ├── UnreadableImage      no picture, truncated, damaged, or its reader crashed or took too long
    │   ├── UnsupportedFormat    a picture in a format that is not read here
    │   └── ImageTooLarge        more bytes or pixels than the limits allow
    ├── BundleError              a model bundle is missing, incomplete or altered
    ├── DatasetError             a data set's files are missing or contradict each other
    ├── DecodingError            decoding options that make no sense
    ├── SourceError              a path or a list of paths that was named does not exist or cannot be used
    ├── LedgerError              the job ledger cannot be used
    ├── OutputError              an output file cannot be written, or is in the way
    └── ConfigurationError       a model or training configuration that cannot work

Every message is one sentence that says what was wrong and what to do.
"""

from __future__ import annotations


class CaptionerError(Exception):
    """The root: whoever catches this catches everything that we raise on purpose."""


class ImageError(CaptionerError):
    """A picture could not be used; the other pictures of the job are not concerned."""


class UnreadableImage(ImageError):
    """The bytes are no picture, are truncated or damaged, or reading them crashed or took too long."""


class UnsupportedFormat(ImageError):
    """The bytes are a picture in a format that is not read here."""


class ImageTooLarge(ImageError):
    """The picture has more bytes or pixels than the limits allow."""


class BundleError(CaptionerError):
    """A model bundle is missing, incomplete, altered, or of another format version."""


class DatasetError(CaptionerError):
    """A data set's files are missing or contradict each other."""


class DecodingError(CaptionerError):
    """Decoding options are out of range or contradict each other."""


class SourceError(CaptionerError):
    """A path or a list of paths that was named does not exist or cannot be used."""


class LedgerError(CaptionerError):
    """The job ledger cannot be opened or belongs to another job."""


class OutputError(CaptionerError):
    """An output file cannot be written, or one that must not be replaced is in the way."""


class ConfigurationError(CaptionerError):
    """A model or training configuration names something that does not exist or cannot work."""
