"""A whole cluster in one process, for tests: the real store core, API server, controllers and scheduler in one event
loop, with in-process transports and simulated nodes.

Time is virtual: whenever nothing is left to do, the clock jumps to the next timer, so an hour of the cluster takes as
long as the work in it, and nothing depends on how fast the machine is::

    from tiphys.testing import Cluster

    def test_my_operator():
        with Cluster() as cluster:
            cluster.create({"apiVersion": "apps/v1", "kind": "Deployment", ...})
            cluster.wait_until(lambda: len(cluster.list("v1", "Pod", phase="Running")) == 3)
            cluster.run_for(3600)

See docs/testing.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiphys.testing.cluster import Cluster, TimedOut
    from tiphys.testing.latenews import LateNews

__all__ = ["Cluster", "LateNews", "TimedOut"]


def __getattr__(name: str) -> Any:
    """The classes are imported when they are used: pytest loads this package in every run, for its plugin."""
    if name == "LateNews":
        from tiphys.testing.latenews import LateNews

        return LateNews
    if name in __all__:
        from tiphys.testing import cluster

        return getattr(cluster, name)
    raise AttributeError(name)
