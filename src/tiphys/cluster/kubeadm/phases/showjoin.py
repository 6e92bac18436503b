"""Phase ``show-join-command``: what to do next, on this machine and on those that join.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-init/
"""

from __future__ import annotations

from tiphys.cluster.kubeadm.certificates import disk
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.discovery import pins_of
from tiphys.cluster.kubeadm.workflow import CommandPhase


async def show(context: Installation) -> None:
    context.say(text(context))


def text(context: Installation) -> str:
    """What is printed at the end: how to use the cluster, and how others join it."""
    parts = [
        f"""
Your Kubernetes control-plane has initialized successfully!

To start using your cluster, you need to run the following as a regular user:

  mkdir -p $HOME/.kube
  sudo cp -i {context.kubeconfig} $HOME/.kube/config
  sudo chown $(id -u):$(id -g) $HOME/.kube/config

Alternatively, if you are the root user, you can run:

  export KUBECONFIG={context.kubeconfig}
"""
    ]
    if context.configuration.cluster.get("controlPlaneEndpoint"):
        parts.append(_control_plane(context))
    worker = join_command(context)
    parts.append(f"Then you can join any number of worker nodes by running the following on each as root:\n\n{worker}")
    return "\n".join(parts)


def join_command(context: Installation, *, control_plane: bool = False, key: str = "") -> str:
    """The command for another machine."""
    shown = context.configuration.node["bootstrapTokens"][0]["token"] if context.show_token else "<value withheld>"
    pins = pins_of(disk.certificate_file(context.pki, "ca").read_bytes())
    return command(context.configuration.server, shown, pins, control_plane=control_plane, key=key)


def command(
    server: str, token: str, pins: list[str], *, control_plane: bool = False, key: str = "", folded: bool = True
) -> str:
    """How to join a cluster; ``folded`` over two or three lines."""
    parts = [f"tiphys join {server.removeprefix('https://')} --token {token}"]
    parts.append(" ".join(f"--discovery-token-ca-cert-hash {pin}" for pin in pins))
    if control_plane:
        parts.append("--control-plane" + (f" --certificate-key {key}" if key else ""))
    return (" \\\n\t" if folded else " ").join(parts) + " "


def _control_plane(context: Installation) -> str:
    if not context.upload_certs:
        command = join_command(context, control_plane=True)
        return (
            "You can now join any number of control-plane nodes by copying certificate authorities\n"
            f"and service account keys on each node and then running the following as root:\n\n  {command}\n"
        )
    key = context.configuration.node["certificateKey"] if context.show_certificate_key else "<value withheld>"
    command = join_command(context, control_plane=True, key=key)
    return (
        f"You can now join any number of control-plane nodes running the following command on each as root:\n\n"
        f"  {command}\n\n"
        "Please note that the certificate-key gives access to cluster sensitive data, keep it secret!\n"
        "As a safeguard, uploaded-certs will be deleted in two hours; If necessary, you can use\n"
        '"tiphys init phase upload-certs --upload-certs" to reload certs afterward.\n'
    )


SHOW_JOIN_COMMAND: CommandPhase[Installation] = CommandPhase(
    "show-join-command", "Show the join command for control-plane and worker node", show
)
