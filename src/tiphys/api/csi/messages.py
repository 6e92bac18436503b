"""Message classes of the container storage interface (csi.v1) and of plugins' registration.

Source: https://github.com/container-storage-interface/spec/blob/master/spec.md and KEP-595
"""

from __future__ import annotations

import importlib.resources
from functools import cache
from typing import Any

from tiphys.wire.protobuf import Schema


@cache
def csi() -> Schema:
    """The services ``Identity``, ``Controller`` and ``Node``."""
    return Schema(importlib.resources.files("tiphys.api.csi").joinpath("csi.proto").read_text(), "tiphys/csi.proto")


@cache
def registration() -> Schema:
    """The service ``Registration``."""
    text = importlib.resources.files("tiphys.api.csi").joinpath("registration.proto").read_text()
    return Schema(text, "tiphys/registration.proto")


def rpc_capabilities(answer: Any, message: str) -> frozenset[str]:
    """Names of the capabilities in an answer; ``message`` is its ``…ServiceCapability``."""
    names = {number: name for name, number in csi().enum(f"{message}.RPC.Type").items()}
    return frozenset(names[each.rpc.type] for each in answer.capabilities if each.rpc.type in names)


def access_modes() -> dict[str, int]:
    return csi().enum("VolumeCapability.AccessMode.Mode")
