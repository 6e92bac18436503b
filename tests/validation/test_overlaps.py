"""Overlapping paths and ports, found by looking up, with the outcome of comparing each with each."""

from __future__ import annotations

from random import Random

from tiphys.api.fielderrors import MOST
from tiphys.validation.overlaps import KnownPaths, Ports

SEED = 3


def compared(known: list[str], added: list[str]) -> list[tuple[str, str]]:
    pairs = []
    for path in added:
        path = path.rstrip("/")
        pairs += [
            (path, other)
            for other in known
            if path and other and (f"{other}/".startswith(f"{path}/") or f"{path}/".startswith(f"{other}/"))
        ]
        known.append(path)
    return pairs


def test_random_paths() -> None:
    random = Random(SEED)
    print(f"seed {SEED}")
    for _ in range(2000):
        paths, known = KnownPaths(), list[str]()
        for _ in range(random.randint(1, 3)):
            added = ["/".join(random.choice(["a", "b", ""]) for _ in range(random.randint(0, 3))) for _ in range(4)]
            expected = [f'"{path}" with "{other}"' for path, other in compared(known, added)]
            assert paths.overlaps([(path, "") for path in added]) == expected


def port(host_ip: str = "", host_port: int = 0) -> dict[str, object]:
    return {"containerPort": 80, "protocol": "TCP", "hostIP": host_ip, "hostPort": host_port}


def test_ports_clash_by_what_they_have_in_common() -> None:
    ports = Ports()
    assert list(ports.clashes(port("1.1.1.1", 80), "a")) == []
    assert list(ports.clashes(port("2.2.2.2", 80), "b")) == []
    assert list(ports.clashes(port("1.1.1.1", 80), "c")) == ["c: duplicate port definition with a"]
    assert list(ports.clashes(port("", 80), "d")) == [
        f"d: dangerously ambiguous port definition with {other}" for other in "abc"
    ]
    assert list(ports.clashes(port("", 81), "e")) == []
    assert list(ports.clashes(port(), "f")) == [f"f: overlapping port definition with {other}" for other in "abcde"]


def test_no_more_than_the_most_are_found() -> None:
    ports, paths = Ports(), KnownPaths()
    assert sum(len(list(ports.clashes(port(), str(number)))) for number in range(200)) == MOST
    assert len(paths.overlaps([("a", "")] * 200)) == MOST
