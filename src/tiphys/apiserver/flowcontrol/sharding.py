"""Shuffle sharding: each flow gets a hand of a few queues out of many, so that one noisy flow shares few with others.

Source: KEP-1040, "Assignment to a Queue".
"""

from __future__ import annotations

import hashlib
from functools import lru_cache


def flow_hash(schema: str, distinguisher: str) -> int:
    """64 bits that stand for a flow."""
    return int.from_bytes(hashlib.sha256(f"{schema}\0{distinguisher}".encode()).digest()[:8], "little")


@lru_cache(maxsize=10_000)
def deal(flow: int, queues: int, hand: int) -> tuple[int, ...]:
    """``hand`` different indexes below ``queues``, the same for the same flow."""
    cards: list[int] = []
    remainders: list[int] = []
    for number in range(hand):
        flow, remainder = divmod(flow, queues - number)
        remainders.append(remainder)
        card = remainder
        for earlier in reversed(remainders[:-1]):
            if card >= earlier:
                card += 1
        cards.append(card)
    return tuple(cards)
