"""What the cluster is to know of the driver: how the kubelet treats it, and a StorageClass that claims have by default.

Both are made if they are missing and left alone afterwards: a user may choose another default.

Source: https://kubernetes-csi.github.io/docs/csi-driver-object.html
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import ResourcePath
from tiphys.client.rest import Client
from tiphys.runtime.clock import Clock, backoff

log = logging.getLogger(__name__)


async def publish(client: Client, clock: Clock, objects: Sequence[tuple[ResourcePath, Object]]) -> None:
    """Make what is missing, each where it belongs; tries until it is done."""
    for resource, obj in objects:
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
