"""Message classes of the device plugin protocol (v1beta1).

Source: https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/
"""

from __future__ import annotations

import importlib.resources
from functools import cache

from tiphys.wire.protobuf import Schema

VERSION = "v1beta1"
HEALTHY = "Healthy"


@cache
def deviceplugin() -> Schema:
    """The services ``Registration`` (the kubelet's) and ``DevicePlugin``."""
    text = importlib.resources.files("tiphys.kubelet.devices").joinpath("deviceplugin.proto").read_text()
    return Schema(text, "tiphys/deviceplugin.proto")
