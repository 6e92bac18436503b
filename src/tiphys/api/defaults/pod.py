"""Defaults of pods and of the pod templates in workloads.

A template gets what every pod specification gets; some defaults apply only to the pod itself, so that templates
written before such a field was added keep their hash.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

from tiphys.api.defaults import aliases
from tiphys.api.defaults.common import child, if_empty, if_missing, items
from tiphys.api.defaults.images import pull_policy
from tiphys.api.defaults.resourcelist import default_pod_level, requests_from_limits, round_up
from tiphys.api.defaults.volumes import field_ref, volume
from tiphys.api.object import Object

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def pod(obj: Object) -> None:
    """Default a pod: requests from limits, host ports, everything in its specification, and its status; in place."""
    spec = child(obj, "spec")
    running, initial = items(spec, "containers"), items(spec, "initContainers")
    for c in running:
        requests_from_limits(c)
    for c in initial:
        requests_from_limits(c)
    default_pod_level(spec)
    if spec.get("enableServiceLinks") is None:
        spec["enableServiceLinks"] = True
    if spec.get("hostNetwork"):
        _host_ports(running)
        _host_ports(initial)
    pod_spec(spec)
    if spec.get("resources"):
        round_up(spec["resources"], "limits", "requests")
    if obj.get("status"):
        _status(obj["status"])
    if spec["terminationGracePeriodSeconds"] < 0:
        spec["terminationGracePeriodSeconds"] = 1
    aliases.init_annotations(obj)


def pod_template(template: Object) -> None:
    pod_spec(child(template, "spec"))
    aliases.init_annotations(template)


def pod_spec(spec: Object) -> None:
    """Default what pods and templates share: policies, grace period (seconds), volumes and containers; in place."""
    if not spec.get("dnsPolicy"):
        spec["dnsPolicy"] = "ClusterFirst"
    if not spec.get("restartPolicy"):
        spec["restartPolicy"] = "Always"
    if spec.get("securityContext") is None:
        spec["securityContext"] = {}
    if spec.get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = 30
    if not spec.get("schedulerName"):
        spec["schedulerName"] = "default-scheduler"
    aliases.service_account(spec)
    for v in spec.get("volumes") or ():
        volume(v)
    for c in spec.get("initContainers") or ():
        container(c)
    for c in spec.get("containers") or ():
        container(c)
    for c in spec.get("ephemeralContainers") or ():
        container(c)
    if spec.get("overhead"):
        round_up(spec, "overhead")
    if spec.get("resources"):
        round_up(spec["resources"], "limits", "requests")


def container(obj: Object) -> None:
    """A container of any of the three kinds."""
    if not obj.get("imagePullPolicy"):
        obj["imagePullPolicy"] = pull_policy(obj.get("image") or "")
    if not obj.get("terminationMessagePath"):
        obj["terminationMessagePath"] = "/dev/termination-log"
    if not obj.get("terminationMessagePolicy"):
        obj["terminationMessagePolicy"] = "File"
    for port in obj.get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
    for variable in obj.get("env") or ():
        if source := variable.get("valueFrom"):
            field_ref(source.get("fieldRef"))
            if source.get("fileKeyRef") is not None:
                if_missing(source["fileKeyRef"], optional=False)
    if obj.get("resources"):
        round_up(obj["resources"], "limits", "requests")
    for name in _PROBES:
        if obj.get(name) is not None:
            _probe(obj[name])
    if lifecycle := obj.get("lifecycle"):
        for hook in ("postStart", "preStop"):
            _http_get((lifecycle.get(hook) or {}).get("httpGet"))


def _probe(probe: Object) -> None:
    if_empty(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
    _http_get(probe.get("httpGet"))
    if probe.get("grpc") is not None:
        if_missing(probe["grpc"], service="")


def _http_get(action: Object | None) -> None:
    if action is not None:
        if_empty(action, path="/", scheme="HTTP")


def _host_ports(containers: list[Object]) -> None:
    """On the host's network a container's port is the host's."""
    for c in containers:
        for port in c.get("ports") or ():
            if not port.get("hostPort") and port.get("containerPort"):
                port["hostPort"] = port["containerPort"]


def _status(status: Object) -> None:
    aliases.addresses(status)
    for key in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for entry in status.get(key) or ():
            round_up(entry, "allocatedResources")
            round_up(entry.get("resources"), "limits", "requests")
    round_up(status, "allocatedResources")
    round_up(status.get("resources"), "limits", "requests")
