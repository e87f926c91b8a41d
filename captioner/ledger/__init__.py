"""Ledger: what a job has to do, what is done, what failed, and what it replaced, in one SQLite file.

A job is a command: its sources, options and outputs. Its items are the pictures, numbered in the order of their
sources. A batch is a fixed slice of them: leased by one worker, captioned whole, recorded in one transaction. So
whatever kills a worker, a batch is done or not begun; and outputs, which are made of what stands here, do not depend on
how often that happened.
"""

from __future__ import annotations

from captioner.ledger.batches import Batches
from captioner.ledger.plans import Plans
from captioner.ledger.records import Batch as Batch
from captioner.ledger.records import Change as Change
from captioner.ledger.records import Counts as Counts
from captioner.ledger.records import Done as Done
from captioner.ledger.records import Entry as Entry
from captioner.ledger.records import Pending as Pending
from captioner.ledger.records import Share as Share
from captioner.ledger.records import Standing as Standing
from captioner.ledger.rows import Rows
from captioner.ledger.texts import Texts


class Ledger(Plans, Batches, Rows, Texts):
    """One ledger file: its jobs, their plans, batches, rows and texts.

    Many processes may use it at once; an object belongs to one thread. Every method raises LedgerError, with one
    sentence, if the file cannot be used.
    """
