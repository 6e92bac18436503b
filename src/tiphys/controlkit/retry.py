"""``TryAgain``: what a reconcile raises when it cannot continue now, for a reason that it expects to pass."""

from __future__ import annotations


class TryAgain(Exception):
    """The key is retried with back-off; the message is logged, without a traceback."""
