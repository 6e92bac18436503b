"""Which of a pod's paths and ports overlap, found by looking up instead of comparing each with each.

Both answer with at most ``MOST`` texts: n equal paths overlap n² times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge

from tiphys.api.fielderrors import MOST
from tiphys.api.gotext import quote
from tiphys.api.object import Object

Path = tuple[str, str]
"""A path and its origin, as messages show it."""


@dataclass(slots=True)
class _Node:
    """A path that is known or above one that is; numbers are places in the order of the known paths."""

    inner: dict[str, _Node] = field(default_factory=dict)
    here: list[int] = field(default_factory=list)
    below: list[int] = field(default_factory=list)


class KnownPaths:
    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._root = _Node()

    def overlaps(self, added: Sequence[Path]) -> list[str]:
        """Of each added path the known ones that are the same, or above or below it; all of them are known then."""
        texts: list[str] = []
        for path, source in added:
            path = path.rstrip("/")
            for number in self._enter(path):
                if len(texts) < MOST:
                    texts.append(f"{_path_text(path, source)} with {_path_text(*self._paths[number])}")
            self._paths.append((path, source))
        return texts

    def _enter(self, path: str) -> list[int]:
        """Which known paths overlap with this one, which then is known."""
        if not path:
            return []
        number, node, above = len(self._paths), self._root, list[int]()
        for part in path.split("/"):
            node.below.append(number)
            above += node.here[: MOST - len(above)]
            node = node.inner.setdefault(part, _Node())
        overlapping = sorted([*above, *node.here[:MOST], *node.below[:MOST]])
        node.here.append(number)
        return overlapping[:MOST]


def _path_text(path: str, source: str) -> str:
    return f"{quote(path)} ({source})" if source else quote(path)


@dataclass(slots=True)
class _Group:
    """The ports of one number and protocol: their places in ``ports``, by host port and host address."""

    by_port: dict[int, list[int]] = field(default_factory=dict)
    by_pair: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    every: list[int] = field(default_factory=list)

    def add(self, place: int, ip: str, host_port: int) -> None:
        self.by_port.setdefault(host_port, []).append(place)
        self.by_pair.setdefault((ip, host_port), []).append(place)
        self.every.append(place)

    def candidates(self, ip: str, host_port: int) -> Iterator[int]:
        """The places of those that clash with such a port, in their order."""
        if not host_port:
            return iter(self.every)
        clashing = [self.by_port.get(0, [])]
        if ip:
            clashing += [self.by_pair.get((ip, host_port), []), self.by_pair.get(("", host_port), [])]
        else:
            clashing.append(self.by_port.get(host_port, []))
        return merge(*clashing)


class Ports:
    """Ports one after another, each with where it is in the pod."""

    def __init__(self) -> None:
        self._ports: list[tuple[str, int, str]] = []
        self._groups: dict[tuple[int, str], _Group] = {}
        self._told = 0

    def clashes(self, port: Object, at: str) -> Iterator[str]:
        """What is wrong between this port and those before it."""
        ip, host_port = port.get("hostIP") or "", port.get("hostPort") or 0
        group = self._groups.setdefault((port.get("containerPort") or 0, port.get("protocol") or ""), _Group())
        for place in group.candidates(ip, host_port):
            if self._told >= MOST:
                break
            self._told += 1
            other_ip, other_port, other_at = self._ports[place]
            if (ip, host_port) == (other_ip, other_port):
                yield f"{at}: duplicate port definition with {other_at}"
            elif not host_port or not other_port:
                yield f"{at}: overlapping port definition with {other_at}"
            else:
                yield f"{at}: dangerously ambiguous port definition with {other_at}"
        group.add(len(self._ports), ip, host_port)
        self._ports.append((ip, host_port, at))
