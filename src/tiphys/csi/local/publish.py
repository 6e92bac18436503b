"""What the cluster is to know of the driver: how the kubelet treats it, and a StorageClass that claims have by default.

Both are made if they are missing and left alone afterwards: a user may choose another default.

Source: https://kubernetes-csi.github.io/docs/csi-driver-object.html
"""

from __future__ import annotations

import logging

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import CSI_DRIVERS, STORAGE_CLASSES, ResourcePath
from tiphys.client.rest import Client
from tiphys.csi.local.driver import NAME
from tiphys.runtime.clock import Clock, backoff

log = logging.getLogger(__name__)

CLASS = "local"


def objects() -> list[tuple[ResourcePath, Object]]:
    """The driver's objects, each with where it is made."""
    driver: Object = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIDriver",
        "metadata": {"name": NAME},
        "spec": {
            "attachRequired": False,
            "podInfoOnMount": True,
            "storageCapacity": True,
            "fsGroupPolicy": "File",
            "volumeLifecycleModes": ["Persistent", "Ephemeral"],
        },
    }
    storage_class: Object = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": NAME,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
        "parameters": {"csi.storage.k8s.io/fstype": "ext4"},
    }
    return [(CSI_DRIVERS, driver), (STORAGE_CLASSES, storage_class)]


async def publish(client: Client, clock: Clock) -> None:
    """Make what is missing; tries until it is done."""
    for resource, obj in objects():
        for delay in backoff(0.2, 2, 30):
            try:
                await client.create(resource, obj)
            except errors.AlreadyExists:
                pass
            except (errors.ApiError, ConnectionError, TimeoutError) as error:
                log.warning("cannot make %s %s: %s", obj["kind"], obj["metadata"]["name"], error)
                await clock.sleep(delay)
                continue
            break
