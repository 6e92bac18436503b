"""The client of the container runtime interface, where the runtime answers as containerd does at bad moments."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tiphys.kubelet.runtime.cri import CRIClient, schema
from tiphys.kubelet.runtime.service import RuntimeFailure, RuntimeUnavailable


class OneIsEnding(CRIClient):
    """Two sandboxes and two containers, ``good`` and ``ending``; what needs the figures of the second fails."""

    def __init__(self, failure: RuntimeFailure) -> None:
        self._failed_with = failure
        self._answers = {m.name: m.response for m in schema().methods("RuntimeService").values()}

    async def _call(self, method: str, timeout: float = 1, /, **fields: Any) -> Any:
        if isinstance(self._failed_with, RuntimeUnavailable):
            raise self._failed_with
        if method == "ListPodSandbox":
            return self._answers[method](items=[{"id": "good"}, {"id": "ending"}, {"id": "old", "state": 1}])
        if method == "ListContainers":
            states = (("good", 1), ("ending", 1), ("old", 2))
            return self._answers[method](containers=[{"id": name, "state": state} for name, state in states])
        assert method in ("ListPodSandboxStats", "ListContainerStats")
        wanted = fields["filter"].get("id")
        assert wanted != "old"
        if wanted != "good":
            raise self._failed_with
        return self._answers[method](stats=[{"attributes": {"id": wanted}}])


def test_one_that_ends_does_not_hide_the_figures_of_the_others() -> None:
    client = OneIsEnding(RuntimeFailure("failed to decode sandbox container metrics"))
    assert [stats.id for stats in asyncio.run(client.list_sandbox_stats())] == ["good"]
    assert [stats.id for stats in asyncio.run(client.list_container_stats())] == ["good"]


def test_a_runtime_that_is_away_is_reported() -> None:
    with pytest.raises(RuntimeUnavailable):
        asyncio.run(OneIsEnding(RuntimeUnavailable("no such socket")).list_container_stats())
