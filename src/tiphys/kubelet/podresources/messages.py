"""Message classes of the service PodResourcesLister (v1).

Source: https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/#monitoring-device-plugin-resources
"""

from __future__ import annotations

import importlib.resources
from functools import cache

from tiphys.wire.protobuf import Schema


@cache
def podresources() -> Schema:
    """The service ``PodResourcesLister``."""
    text = importlib.resources.files("tiphys.kubelet.podresources").joinpath("podresources.proto").read_text()
    return Schema(text, "tiphys/podresources.proto")
