"""Fields of pods and pod templates that belong to features which are off by default in v1.36.

A client may send them: they are dropped without a word, unless the stored object has the feature in use already, from a
server if it was on. Source: the table of feature gates,
https://kubernetes.io/docs/reference/command-line-tools-reference/feature-gates/
"""

from __future__ import annotations

from collections.abc import Iterator

from tiphys.api.object import Object
from tiphys.api.pods.templates import TEMPLATES, template_of

_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_CONTAINER_STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
_PROJECTIONS = ("clusterTrustBundle", "podCertificate")
"""Of ``ClusterTrustBundleProjection`` and ``PodCertificateRequest``."""


def drop_disabled(group: str, plural: str, new: Object, old: Object | None) -> None:
    """Drop from an object of any kind, in place, what is disabled; ``old`` is None for a creation."""
    if (group, plural) == ("", "pods"):
        _drop_from_spec(new.get("spec") or {}, (old or {}).get("spec") or {})
        _drop_from_status(new.get("status") or {}, (old or {}).get("status") or {})
    elif (path := TEMPLATES.get((group, plural))) is not None:
        _drop_from_spec(template_of(new, path).get("spec") or {}, template_of(old, path).get("spec") or {})


def _drop_from_spec(spec: Object, old: Object) -> None:
    for name in _PROJECTIONS:
        sources = [source for source in _projections(spec) if name in source]
        if sources and not any(source.get(name) is not None for source in _projections(old)):
            for source in sources:
                del source[name]
    if "schedulingGroup" in spec and old.get("schedulingGroup") is None:  # GenericWorkload
        del spec["schedulingGroup"]
    signalled = [c for c in _with_lifecycle(spec) if "stopSignal" in c["lifecycle"]]  # ContainerStopSignals
    if signalled and not any(c["lifecycle"].get("stopSignal") is not None for c in _with_lifecycle(old)):
        for container in signalled:
            if container["lifecycle"].pop("stopSignal") is not None and not container["lifecycle"]:
                del container["lifecycle"]


def _drop_from_status(status: Object, old: Object) -> None:
    if "nodeAllocatableResourceClaimStatuses" in status and not old.get("nodeAllocatableResourceClaimStatuses"):
        del status["nodeAllocatableResourceClaimStatuses"]  # DRANodeAllocatableResources
    mounts = [mount for mount in _mounts(status) if "volumeStatus" in mount]  # ImageVolumeWithDigest
    if mounts and not any(mount.get("volumeStatus") is not None for mount in _mounts(old)):
        for mount in mounts:
            del mount["volumeStatus"]


def _projections(spec: Object) -> Iterator[Object]:
    for volume in spec.get("volumes") or ():
        yield from (volume.get("projected") or {}).get("sources") or ()


def _with_lifecycle(spec: Object) -> Iterator[Object]:
    for kind in _CONTAINERS:
        for container in spec.get(kind) or ():
            if container.get("lifecycle"):
                yield container


def _mounts(status: Object) -> Iterator[Object]:
    for kind in _CONTAINER_STATUSES:
        for container in status.get(kind) or ():
            yield from container.get("volumeMounts") or ()
