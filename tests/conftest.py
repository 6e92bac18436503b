"""What holds for all tests.

A test's time says more about the machine than about the code, so none has a deadline. Whatever a test makes the servers
and controllers say, in a Status or an event, is no text of Python's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.texts import python_in

settings.register_profile("tiphys", deadline=None, print_blob=True)
settings.load_profile("tiphys")


@pytest.fixture(autouse=True)
def no_text_of_python(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Collect the messages of every Status, event and pod's status that are made while a test runs, and look at them
    afterwards."""
    from tiphys.api import errors
    from tiphys.controlkit.events import EventRecorder
    from tiphys.kubelet.status.manager import StatusManager

    wrong: list[tuple[object, str]] = []

    def look(message: str) -> None:
        if found := python_in(message):
            wrong.append((found, message))

    make, record, note = errors.status, EventRecorder.event, StatusManager.set

    def status(code: int, reason: str, message: str, *rest: Any, **more: Any) -> dict[str, Any]:
        look(message)
        return make(code, reason, message, *rest, **more)

    def event(self: Any, obj: Any, type: Any, reason: str, message: str, **more: Any) -> Any:
        look(message)
        return record(self, obj, type, reason, message, **more)

    def pod_status(self: Any, pod: Any, status: Any, **more: Any) -> None:
        for message in _messages(status):
            look(message)
        note(self, pod, status, **more)

    monkeypatch.setattr(StatusManager, "set", pod_status)
    monkeypatch.setattr(errors, "status", status)
    monkeypatch.setattr(EventRecorder, "event", event)
    yield
    assert wrong == []


def _messages(status: Any) -> Iterator[str]:
    """What a pod's status says, but for what its containers said themselves."""
    if isinstance(status, list):
        for item in status:
            yield from _messages(item)
    elif isinstance(status, dict):
        for name, value in status.items():
            if name == "message":
                yield value
            elif name != "terminated":
                yield from _messages(value)
