"""What is freed goes back to the system, measured in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's own matter")

# Eight threads, one after another, as a model's are; each leaves one small piece in fifty behind, which keeps its heap.
CHURN = """
import sys, threading
import psutil
from service.memory import give_back, share_one_heap

def megabytes():
    return psutil.Process().memory_info().rss / 2**20

def work():
    pieces = [bytes(3000) for _ in range(20_000)]
    kept.append(pieces[::50])

if "one" in sys.argv:
    share_one_heap()
waiting = threading.Event()
others = [threading.Thread(target=waiting.wait, daemon=True) for _ in range(8)]
for other in others:
    other.start()
kept = []
begun = megabytes()
for _ in range(8):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
grown = megabytes() - begun
if "back" in sys.argv:
    give_back()
print(grown, megabytes() - begun)
"""
KEPT_MEGABYTES = 8 * 400 * 3000 / 2**20  # 9


def churned(*words: str) -> tuple[float, float]:
    """By how many megabytes the process had grown before and after it gave memory back, if it did."""
    done = subprocess.run(
        [sys.executable, "-c", CHURN, *words],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    before, after = map(float, done.stdout.split())
    return before, after


def test_what_is_free_between_used_pieces_goes_back() -> None:
    before, after = churned("one", "back")
    assert before > 40  # one thread's pieces
    assert after < KEPT_MEGABYTES * 3  # a page is the smallest thing that can go back
    assert churned("one")[1] > 40
