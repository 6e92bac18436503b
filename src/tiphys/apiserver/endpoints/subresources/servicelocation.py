"""Where a service is reached by its proxy subresource: one of its ready endpoints, by chance. Pure.

Source: https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/#manually-constructing-apiserver-proxy-urls
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import TypeVar

from tiphys.api import errors
from tiphys.api.gotext import quote
from tiphys.api.object import Object

T = TypeVar("T")


def port_name(service: Object, number: int) -> str:
    """The name of a port that is asked for by its number. Raises 503 if the service has none of it."""
    for port in service["spec"].get("ports") or ():
        if port["port"] == number:
            return str(port.get("name") or "")
    name = quote(service["metadata"]["name"])
    raise errors.service_unavailable(f"no service port {number} found for service {name}")


def candidates(endpoints: Object, port: str, chance: Random) -> Iterator[tuple[Object, str, int]]:
    """The reference, the address and the number of the named port of each ready endpoint, from one by chance on."""
    for subset in _from_any(endpoints.get("subsets") or (), chance):
        for offered in subset.get("ports") or ():
            if (offered.get("name") or "") == port:
                for address in _from_any(subset.get("addresses") or (), chance):
                    yield address.get("targetRef") or {}, address["ip"], int(offered["port"])


def _from_any(items: Sequence[T], chance: Random) -> Iterator[T]:
    """All of them, in their order, which begins anywhere."""
    first = chance.randrange(len(items)) if items else 0
    yield from items[first:]
    yield from items[:first]
