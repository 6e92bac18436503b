"""The metrics server as a process on the node in place of a pod, as `tiphys up` runs it.

A forked process shares the memory of the code with the other components; a pod would load it again. So the Service has
no selector, and its EndpointSlice names the node, as that of the cluster's DNS does.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from importlib.resources import files

from tiphys.addons.ingress.ports import HTTP_PORT, HTTPS_PORT
from tiphys.addons.objects import AddonSettings, addon_objects
from tiphys.api.object import Object
from tiphys.runtime import yamltext

NAME, NAMESPACE = "metrics-server", "kube-system"
SERVED_NAMES = (NAME, f"{NAME}.{NAMESPACE}", f"{NAME}.{NAMESPACE}.svc")
"""What its certificate is for: the API server asks for the last."""


def metrics_server_objects(settings: AddonSettings, *, address: str, port: int, authority: bytes) -> list[Object]:
    """The add-on's objects for a server at ``address``, whose certificate ``authority`` (PEM) has signed."""
    return list(_objects(settings, address, port, authority))


def _objects(settings: AddonSettings, address: str, port: int, authority: bytes) -> Iterator[Object]:
    for obj in addon_objects(NAME, settings):
        match obj["kind"]:
            case "Deployment":
                yield _endpoint_slice(address, port)
            case "Service":
                ports = [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]
                yield {**obj, "spec": {"ports": ports}}
            case "APIService":
                spec = {key: value for key, value in obj["spec"].items() if key != "insecureSkipTLSVerify"}
                yield {**obj, "spec": {**spec, "caBundle": base64.b64encode(authority).decode()}}
            case _:
                yield obj


def autoscaler_objects() -> list[Object]:
    """Who the autoscaler on the node is, and its rights."""
    return list(yamltext.load_all(files("tiphys.addons").joinpath("manifests/autoscaler.yaml").read_text()))


def cloud_objects() -> list[Object]:
    """Who the controllers of a cloud and the driver of its disks are on the node, and their rights."""
    return list(yamltext.load_all(files("tiphys.addons").joinpath("manifests/cloud.yaml").read_text()))


def ingress_objects(node: str, addresses: Sequence[str]) -> list[Object]:
    """The ingress add-on's objects, for a proxy on a node with these addresses."""
    text = files("tiphys.addons").joinpath("manifests/ingress.yaml").read_text()
    ports = [
        {"name": name, "port": port, "protocol": "TCP"} for name, port in (("http", HTTP_PORT), ("https", HTTPS_PORT))
    ]
    slices = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"tiphys-ingress-{'ipv6' if ':' in address else 'ipv4'}",
                "namespace": NAMESPACE,
                "labels": {
                    "kubernetes.io/service-name": "tiphys-ingress",
                    "endpointslice.kubernetes.io/managed-by": "ingress.tiphys.io",
                },
            },
            "addressType": "IPv6" if ":" in address else "IPv4",
            "endpoints": [{"addresses": [address], "nodeName": node, "conditions": {"ready": True}}],
            "ports": ports,
        }
        for address in addresses
    ]
    return [*yamltext.load_all(text), *slices]


def _endpoint_slice(address: str, port: int) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": NAME,
                "endpointslice.kubernetes.io/managed-by": "metrics-server.tiphys.io",
            },
        },
        "addressType": "IPv6" if ":" in address else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
