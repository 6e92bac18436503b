"""``--runtime-config``: which versions of built-in groups are served. Stable ones are; alpha and beta ones are not.

Source: https://kubernetes.io/docs/reference/using-api/#enabling-or-disabling
"""

from __future__ import annotations

import argparse
import re

from tiphys.runtime.flags import parse_bool

_UNSERVED = """
admission.k8s.io/v1 admission.k8s.io/v1beta1 admissionregistration.k8s.io/v1alpha1 admissionregistration.k8s.io/v1beta1
apps/v1beta1 apps/v1beta2 authentication.k8s.io/v1alpha1 authentication.k8s.io/v1beta1 authorization.k8s.io/v1beta1
batch/v1beta1 certificates.k8s.io/v1alpha1 certificates.k8s.io/v1beta1 coordination.k8s.io/v1alpha2
coordination.k8s.io/v1beta1 discovery.k8s.io/v1beta1 events.k8s.io/v1beta1 extensions/v1beta1
flowcontrol.apiserver.k8s.io/v1beta1 flowcontrol.apiserver.k8s.io/v1beta2 flowcontrol.apiserver.k8s.io/v1beta3
imagepolicy.k8s.io/v1alpha1 internal.apiserver.k8s.io/v1alpha1 networking.k8s.io/v1beta1 node.k8s.io/v1alpha1
node.k8s.io/v1beta1 policy/v1beta1 rbac.authorization.k8s.io/v1alpha1 rbac.authorization.k8s.io/v1beta1
resource.k8s.io/v1alpha3 resource.k8s.io/v1beta1 resource.k8s.io/v1beta2 scheduling.k8s.io/v1alpha2
scheduling.k8s.io/v1beta1 storage.k8s.io/v1alpha1 storage.k8s.io/v1beta1 storagemigration.k8s.io/v1beta1
"""
UNSERVED = frozenset(_UNSERVED.split())
"""Versions that upstream knows and Tiphys does not serve."""

_ON = {"api/ga": True, "api/all": None, "api/beta": False, "api/alpha": False, "api/legacy": None}
"""Words for all versions of a kind, and what Tiphys does about them: serves all, none, or (None) some of them."""
_RESOURCE = re.compile(r"(?P<version>[^/]+/v[^/]+|v1)/[a-z]+")


def parse_runtime_config(text: str) -> dict[str, bool]:
    """``api/v1=true,apps/v1,api/beta=false``: what is requested must be what is served."""
    pairs = (part.strip().partition("=") for part in text.split(",") if part.strip())
    asked = {name: parse_bool(value) if equals else True for name, equals, value in pairs}
    for name, wanted in asked.items():
        _check(name, wanted=wanted)
    return asked


def _check(name: str, *, wanted: bool) -> None:
    served = _ON[name] if name in _ON else _served(name)
    if served is None:
        problem = "some versions are served, and some are not"
    elif wanted == served:
        return
    else:
        problem = "it cannot be turned off" if served else "Tiphys serves no such version"
    raise argparse.ArgumentTypeError(f"{name}={str(wanted).lower()} is not supported: {problem}; leave it out")


def _served(name: str) -> bool:
    resource = _RESOURCE.fullmatch(name)
    version = resource["version"] if resource else name
    version = "v1" if version == "api/v1" else version
    if version in UNSERVED:
        return False
    if version in stable_versions():
        return True
    group = version.partition("/")[0]
    raise argparse.ArgumentTypeError(f"unknown api group or version {group if '/' in version else version!r} in {name}")


def stable_versions() -> set[str]:
    from tiphys.api.resources import builtin_scheme

    groups = builtin_scheme().groups().items()
    return {f"{group}/{version}" if group else version for group, versions in groups for version in versions}
