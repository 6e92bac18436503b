"""The reasons of upstream's events (v1.36), by component: each is one of ours, or it is said here why not.

``data/event_reasons.json`` lists what upstream's kubelet, controllers, scheduler, proxy, cloud controllers and API
server give to their event recorders.
"""

from __future__ import annotations

import ast
import json
from functools import cache
from pathlib import Path

import pytest

REASONS: dict[str, list[str]] = json.loads((Path(__file__).parent / "data" / "event_reasons.json").read_text())
SOURCE = Path(__file__).parents[1] / "src" / "tiphys"

BUILT = {"ResizeDeferred": "pod/resizer.py puts it together", "ResizeInfeasible": "the same"}

NOT_OURS = {
    # what does not exist here
    "AlreadyMountedVolume": "local volumes are given to a group by their own files, not by a mount that pods share",
    "FailedMountOnFilesystemMismatch": "file systems are made by CSI drivers",
    "HostIPsIPFamilyMismatch": "no cloud provider changes a node's addresses",
    "IPVSDeprecation": "there is no IPVS mode",
    "MultipleSELinuxLabels": "SELinux labels are left to the runtime",
    "ProvisioningCleanupFailed": "volumes are provisioned by CSI drivers, whose controller reports",
    "VolumeRecycled": "nothing recycles a volume: it gets VolumeFailedRecycle",
    "NodeControllerEviction": "dead code upstream: pods are evicted by taints",
    "DeleteLoadBalancerFailed": "upstream's constant; a failed deletion is SyncLoadBalancerFailed",
    "SuccessfulMountVolume": "upstream reports it for block volumes alone, and these are CSI's here",
    "FailedMapVolume": "the same",
    # gates that are off
    "VolumeConditionAbnormal": "the gate CSIVolumeHealth is off",
    "WorkloadCreated": "the gate of Workloads is off",
    "CertificateExpired": "the gate PodCertificateRequest is off",
    "CertificateOverdueForRefresh": "the same",
    # failures that cannot be
    "ClusterIPAlreadyAllocated": "an address is a key of the store: two services never hold it",
    "PortAlreadyAllocated": "the same",
    "ClusterIPNotValid": "validated when it is written",
    "PortOutOfRange": "ports outside of the range are not taken into account",
    "PortRangeFull": "what is repaired was allocated before",
    "ServiceCIDRFull": "the same",
    "UnknownError": "an error has a name here",
    "UnknownCompletionMode": "validated when it is written",
    "FailedToListPods": "a list from an informer's store does not fail",
    "FailedToListEndpointSlices": "the same",
    "InvalidImageID": "images without an id are left alone",
    "KubeletSetupFailed": "such a kubelet ends, and says why in its log",
    "KubernetesDefaultServiceCIDRError": "the API server's log says so",
    "KubernetesDefaultServiceCIDRInconsistent": "the same",
    "KubernetesServiceCIDRError": "the condition of the ServiceCIDR says so",
    # what is missing
    "FailedNodeDeclaredFeaturesCheck": "nodes declare no features, and pods are not held against them",
    "FileSystemResizeFailed": "the expansion on the node reports VolumeResizeFailed",
}


@cache
def texts() -> frozenset[str]:
    """Every text in the source, but for docstrings."""
    found: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        found |= {
            n.value
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Constant) and type(n.value) is str
        }
    return frozenset(found)


@pytest.mark.parametrize("component", sorted(REASONS))
def test_every_reason_is_given_or_said_why_not(component: str) -> None:
    missing = [r for r in REASONS[component] if r not in texts() and r not in NOT_OURS and r not in BUILT]
    assert missing == []


def test_what_is_said_not_to_be_ours_is_not() -> None:
    known = {reason for reasons in REASONS.values() for reason in reasons}
    assert [reason for reason in NOT_OURS if reason in texts() or reason not in known] == []
