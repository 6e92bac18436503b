"""The rest of a coroutine whose first step has been run. A leaf: imports nothing of ours.

Most requests are answered in their first step. Who wants to set something up only for those that wait, such as a
timer, runs that step by ``send(None)`` and awaits ``rest_of`` if it has not been the last. Source: PEP 492
"""

from __future__ import annotations

import types
from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")


@types.coroutine
def rest_of(steps: Generator[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """What ``steps`` (of ``__await__``) return in the end, whose first step has asked to wait for ``waits_for``."""
    while True:
        try:
            yield waits_for
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as error:  # noqa: BLE001  cancellation, which the steps may handle by waiting once more
            try:
                waits_for = steps.throw(error)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
        else:
            return (yield from steps)
