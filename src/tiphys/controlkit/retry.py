"""``TryAgain``: what a reconcile raises when it cannot go on now, for a reason that it expects to pass."""

from __future__ import annotations


class TryAgain(Exception):
    """The key comes back with back-off; the message is logged, without a traceback."""
