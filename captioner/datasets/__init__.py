"""Data sets: pictures with their captions, in the layouts in which they are published."""

from captioner.datasets.records import Record

__all__ = ["Record"]
