"""Message classes of the protocol of drivers of dynamic resources, in its versions v1 and v1beta1.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/
"""

from __future__ import annotations

import importlib.resources
from functools import cache

from tiphys.wire.protobuf import Schema

SERVICES = {"v1.DRAPlugin": "v1", "v1beta1.DRAPlugin": "v1beta1"}
"""The names by which drivers announce what they serve, the preferred one first."""


@cache
def dra_health() -> Schema:
    """The service ``DRAResourceHealth``."""
    text = importlib.resources.files("tiphys.kubelet.dra").joinpath("health.proto").read_text()
    return Schema(text, "tiphys/dra-health.proto")


@cache
def dra(version: str = "v1") -> Schema:
    """The service ``DRAPlugin``. The versions differ in the name of their package, and v1beta1 knows no shares."""
    text = importlib.resources.files("tiphys.kubelet.dra").joinpath("dra.proto").read_text()
    return Schema(text.replace("apis.dra.v1;", f"apis.dra.{version};"), f"tiphys/dra-{version}.proto")
