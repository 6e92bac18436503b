"""Fields that say the same twice: an older field of which there is a newer one, or the first item of a list.

They are brought into line where an object is read, as upstream's conversions between its versions do.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/
"""

from __future__ import annotations

import base64
import re

from tiphys.api import errors
from tiphys.api.gotext import quote
from tiphys.api.object import Object

_INIT_ANNOTATIONS = tuple(
    f"pod.{stage}.kubernetes.io/init-container{what}" for stage in ("beta", "alpha") for what in ("s", "-statuses")
)


def service_account(spec: Object) -> None:
    """``serviceAccountName`` wins over its old name."""
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if name:
        spec["serviceAccountName"] = spec["serviceAccount"] = name


def addresses(status: Object) -> None:
    """A pod's only address wins over the list, for kubelets that know only the one."""
    single, several = status.get("podIP"), status.get("podIPs")
    if single and (not several or several[0].get("ip") != single):
        status["podIPs"] = [{"ip": single}]
    elif several:
        status["podIP"] = several[0].get("ip") or ""


def node_blocks(spec: Object) -> None:
    """The same for the address blocks of a node."""
    single, several = spec.get("podCIDR"), spec.get("podCIDRs")
    if single and (not several or several[0] != single):
        spec["podCIDRs"] = [single]
    elif several:
        spec["podCIDR"] = several[0]


def init_annotations(obj: Object) -> None:
    """Init containers were once written as annotations; nobody reads those any more."""
    annotations = (obj.get("metadata") or {}).get("annotations")
    if annotations:
        for key in _INIT_ANNOTATIONS:
            annotations.pop(key, None)


def string_data(secret: Object) -> None:
    """Data written as text overrides what exists, and is never shown."""
    texts = secret.pop("stringData", None)
    if not texts:
        return
    data = secret["data"] = dict(secret.get("data") or {})
    for key, text in texts.items():
        data[key] = base64.b64encode((text or "").encode()).decode()


TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
"""The annotation that shows a field which ``apps/v1`` no longer has."""
_NUMBER = re.compile(r"[+-]?[0-9]+")


def template_generation(daemon_set: Object) -> None:
    """A daemon set always shows how often its template changed. Raises 400 for what is no number."""
    metadata = daemon_set.setdefault("metadata", {})
    annotations = metadata["annotations"] = metadata.get("annotations") or {}
    text = annotations.get(TEMPLATE_GENERATION, "0")
    complaint = "" if _NUMBER.fullmatch(text) else "invalid syntax"
    if not complaint and not -(2**63) <= int(text) < 2**63:
        complaint = "value out of range"
    if complaint:
        raise errors.bad_request(
            'DaemonSet in version "v1" cannot be handled as a DaemonSet: '
            f"strconv.ParseInt: parsing {quote(text)}: {complaint}"
        )
    annotations[TEMPLATE_GENERATION] = str(int(text))
