"""The flags of upstream's components, v1.36: what each is called, the type of its value, and its default.

The tables are data, made from what upstream's programs print for ``--help`` (``tests/runtime/upstreamhelp.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tiphys.runtime import durations

_FOLDER = Path(__file__).parent / "data" / "flags"

COMPONENTS = (
    *("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"),
    "cloud-controller-manager",
)


@dataclass(frozen=True, slots=True)
class UpstreamFlag:
    name: str
    kind: str
    """As Go's flag package calls the type of its value: ``bool``, ``duration``, ``strings``, …"""
    default: str
    """As upstream prints it; empty: the zero value of its type."""

    def says_default(self, text: str) -> bool:
        """Whether ``text``, as given on the command line, is the default; False for what is not of its type."""
        read = _READERS.get(self.kind, _bare)
        try:
            return read(text) == read(self.default)
        except ValueError:
            return False


@cache
def flags_of(component: str) -> Mapping[str, UpstreamFlag]:
    """The flags of one of ``COMPONENTS`` by name, without ``--help`` and ``--version``, sorted."""
    rows = (line.split("\t") for line in (_FOLDER / f"{component}.txt").read_text().splitlines())
    return {row[0]: UpstreamFlag(row[0], row[1], row[2] if len(row) > 2 else "") for row in rows}


def _bare(text: str) -> str:
    return text.strip()


def _bool(text: str) -> bool:
    return boolean(text or "false")


def boolean(text: str) -> bool:
    """Go's strconv.ParseBool. Raises ``ValueError``."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError(f"{text!r} is not a boolean; use true or false")


def _number(text: str) -> float:
    return float(text or "0")


def _duration(text: str) -> float:
    return durations.seconds(text or "0s")


def _list(text: str) -> frozenset[str]:
    inner = text.strip().removeprefix("[").removesuffix("]")
    return frozenset(part.strip() for part in inner.split(",") if part.strip())


_READERS: Mapping[str, Callable[[str], object]] = {
    "bool": _bool,
    "RuntimeDefault": _bool,
    "duration": _duration,
    "int": _number,
    "int32": _number,
    "float": _number,
    "float32": _number,
    "Level": _number,
    "quantity": _number,
    "strings": _list,
    "stringArray": _list,
    "int32Slice": _list,
    "namedCertKey": _list,
    "mapStringBool": _list,
    "mapStringString": _list,
    "stringToString": _list,
    "colonSeparatedMultimapStringString": _list,
    "pattern=N,...": _list,
    "[]v1.Taint": _list,
    "reserved-memory": _list,
}
BOOLEAN_KINDS = frozenset({"bool", "RuntimeDefault"})
"""Types whose flags may stand without a value, which then is true."""


ONE_VERSION = "one version is served, that of Kubernetes v1.36"
_AT_ONCE = "logs are written at once, to standard error"
WHY: Mapping[str, str] = {
    "boot-id-file": "the number of this boot is read from that file",
    "contention-profiling": "there are no locks whose holders could be shown",
    "emulated-version": ONE_VERSION,
    "kube-api-content-type": "requests and answers are JSON",
    "log-json-info-buffer-size": _AT_ONCE,
    "log-json-split-stream": _AT_ONCE,
    "log-text-info-buffer-size": _AT_ONCE,
    "log-text-split-stream": _AT_ONCE,
    "machine-id-file": "the machine's id is read from these files",
    "min-compatibility-version": ONE_VERSION,
    "min-resync-period": "what changes is heard of by watches, and nothing is looked at again for want of them",
    "show-hidden-metrics-for-version": "no metric is hidden",
    "tls-curve-preferences": "the curves are those of OpenSSL, in its order",
    "unsupported-kube-api-over-localhost": "the API server is the one that the kubeconfig names",
    "write-config-to": "the configuration in use is shown by /configz",
}
"""Why flags steer nothing, of those that several components have."""
