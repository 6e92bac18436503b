"""Who kept a cluster from starting, and what they said last."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiphys.cluster.failures import guilty, last_words


def state(name: str, last_exit: str = "") -> dict[str, str]:
    return {"state": name, "lastExit": last_exit}


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({"api": state("starting"), "kubelet": state("waiting")}, ["api"]),
        (
            {"containerd": state("backoff", "exit code 1"), "api": state("starting"), "x": state("waiting")},
            ["containerd"],
        ),
        ({"containerd": state("starting", "exit code 1"), "api": state("running")}, ["containerd"]),
        ({"api": state("running"), "kubelet": state("running")}, ["kubelet"]),
    ],
)
def test_who_is_to_blame(states: dict[str, dict[str, str]], expected: list[str]) -> None:
    assert guilty(states) == expected


def test_last_words_are_the_end_of_each_log(tmp_path: Path) -> None:
    (tmp_path / "long.log").write_text("".join(f"line {i}\n" for i in range(10_000)))
    (tmp_path / "empty.log").write_text("")
    said = last_words(tmp_path, ["long", "empty", "missing"], lines=2)
    assert said == [
        f"The end of {tmp_path}/long.log:",
        "  line 9998",
        "  line 9999",
        f"The end of {tmp_path}/empty.log:",
        "  (it is empty)",
        f"The end of {tmp_path}/missing.log:",
        "  (No such file or directory)",
    ]
