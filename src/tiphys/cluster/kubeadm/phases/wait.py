"""Phase ``wait-control-plane``: until the kubelet and the three components are healthy.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/#wait-for-the-control-plane-to-come-up
"""

from __future__ import annotations

from typing import Any

from tiphys.cluster.kubeadm import health, layout
from tiphys.cluster.kubeadm.configuration import arguments
from tiphys.cluster.kubeadm.configuration.dynamic import join_host_port
from tiphys.cluster.kubeadm.configuration.load import Configuration
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.cluster.kubeadm.health import HealthPage
from tiphys.cluster.kubeadm.kubeletservice import kubelet_service
from tiphys.cluster.kubeadm.manifests.controlplane import CONTROLLER_MANAGER_PORT, SCHEDULER_PORT
from tiphys.cluster.kubeadm.workflow import CommandPhase

Document = dict[str, Any]


async def wait(context: Installation) -> None:
    """Wait until the kubelet and the control plane's components are healthy.

    Raises ``KubeadmError`` if they are not in time.
    """
    context.say(
        "[wait-control-plane] Waiting for the kubelet to boot up the control plane as static Pods from directory "
        f'"{layout.MANIFESTS}"'
    )
    timeouts = context.configuration.node["timeouts"]
    if context.dry_run:
        context.say("[dryrun] Would wait for the kubelet and the control plane's components")
        return
    try:
        url = kubelet_url(context.configuration.kubelet)
        await health.wait_for_kubelet(url, timeouts["kubeletHealthCheck"], context.say)
    except KubeadmError as error:
        where = kubelet_service(context.places).trouble
        raise KubeadmError(f"failed while waiting for the kubelet to start: {error}; see {where}") from error
    timeout = timeouts["controlPlaneComponentHealthCheck"]
    try:
        await health.wait_for_components(targets(context.configuration), timeout, context.say)
    except KubeadmError as error:
        socket = context.configuration.node["nodeRegistration"]["criSocket"]
        raise KubeadmError(
            f"failed while waiting for the control plane to start: {error}\n"
            "A component may have crashed when its container was started. Find the container, and read its log:\n"
            f"  crictl --runtime-endpoint {socket} ps -a | grep kube | grep -v pause\n"
            f"  crictl --runtime-endpoint {socket} logs CONTAINERID\n"
            f"If no container is there, see {kubelet_service(context.places).trouble}"
        ) from error


def kubelet_url(kubelet: Document) -> str:
    address, port = kubelet.get("healthzBindAddress") or "127.0.0.1", kubelet.get("healthzPort") or 10248
    return f"http://{join_host_port(address, port)}/healthz"


def targets(configuration: Configuration) -> list[HealthPage]:
    """Where each component of this node says how it is, with the addresses and ports that the user gives it."""
    cluster = configuration.cluster

    def given(part: str, name: str, otherwise: str) -> str:
        value = arguments.value(cluster[part].get("extraArgs", []), name) or otherwise
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(value, value)

    api = given("apiServer", "advertise-address", configuration.address)
    port = given("apiServer", "secure-port", str(configuration.port))
    manager = given("controllerManager", "bind-address", "127.0.0.1")
    manager_port = given("controllerManager", "secure-port", str(CONTROLLER_MANAGER_PORT))
    scheduler = given("scheduler", "bind-address", "127.0.0.1")
    scheduler_port = given("scheduler", "secure-port", str(SCHEDULER_PORT))
    return [
        HealthPage("kube-apiserver", f"https://{join_host_port(api, port)}/livez"),
        HealthPage("kube-controller-manager", f"https://{join_host_port(manager, manager_port)}/healthz"),
        HealthPage("kube-scheduler", f"https://{join_host_port(scheduler, scheduler_port)}/livez"),
    ]


WAIT_CONTROL_PLANE: CommandPhase[Installation] = CommandPhase(
    "wait-control-plane", "Wait for the control plane to start", wait
)
