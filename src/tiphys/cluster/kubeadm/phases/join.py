"""The phases of ``join``: a worker's, and those by which a machine becomes a further control plane.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-join/#join-workflow
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator

from tiphys.client.resources import SECRETS
from tiphys.cluster import kubeconfig as files
from tiphys.cluster.kubeadm import api, copycerts, etcdmembers, health, kubeconfigs, kubeletfiles, layout, workflow
from tiphys.cluster.kubeadm.certificates import disk, table
from tiphys.cluster.kubeadm.context import Installation
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.cluster.kubeadm.joining import (
    Joining,
    bootstrap_client,
    bootstrap_config,
    discovered_cluster,
    existing_node_problem,
    installation,
)
from tiphys.cluster.kubeadm.kubeletservice import kubelet_service
from tiphys.cluster.kubeadm.layout import PUBLIC, write_file
from tiphys.cluster.kubeadm.manifests.etcd import peer_url
from tiphys.cluster.kubeadm.phases import kubeconfig, mark, preflight, wait
from tiphys.cluster.kubeadm.phases.certs import CERTS
from tiphys.cluster.kubeadm.phases.staticpods import BUILD, hold_address, write_etcd, write_manifest
from tiphys.cluster.kubeadm.preflight import checks
from tiphys.cluster.kubeadm.preflight.checks import Check
from tiphys.cluster.kubeadm.preflight.run import run_checks
from tiphys.cluster.kubeadm.workflow import CommandPhase
from tiphys.kubelet.certificates.client import CURRENT
from tiphys.runtime import durations

Run = Callable[[Joining], Awaitable[None]]
PREPARE, CONTROL_PLANE, ETCD_JOIN = "control-plane-prepare", "control-plane", "etcd-join"
"""Names of phases that ``etcd_follows`` looks at."""
_LOOK_SECONDS = 0.2


def for_control_planes(run: Callable[[Joining, Installation], Awaitable[None]]) -> Run:
    """A phase that a worker passes over."""

    async def only(joining: Joining) -> None:
        if joining.control_plane:
            await run(joining, await installation(joining))

    return only


async def check(joining: Joining) -> None:
    joining.say("[preflight] Running pre-flight checks")
    await run_checks([checks.privileged()], joining.ignored, joining.warn)
    await run_checks(_node_checks(joining), joining.ignored, joining.warn)
    made = await installation(joining)
    if joining.control_plane:
        _check_endpoint(made)
        joining.say("[preflight] Running pre-flight checks before initializing the new control plane instance")
        await run_checks(preflight.control_plane_checks(made), joining.ignored, joining.warn)
        await preflight.pull(made)


def _node_checks(joining: Joining) -> Iterator[Check]:
    again = continues(joining)
    if not again:
        for path in (layout.KUBELET_CONF, layout.BOOTSTRAP_CONF):
            yield checks.file_available(joining.places, path)
        if not joining.control_plane:
            yield checks.file_available(joining.places, joining.join["caCertPath"])
    yield from preflight.node_checks(joining.join["nodeRegistration"]["criSocket"], joining.name)
    yield checks.kubelet_version(kubelet_service(joining.places).version, "")
    yield checks.port(preflight.KUBELET_PORT, expected=again)
    by_token = joining.join["discovery"].get("bootstrapToken")
    if by_token:
        yield checks.proxy(by_token["apiServerEndpoint"].rpartition(":")[0].strip("[]"), os.environ)
        yield from preflight.forwarding_checks(by_token["apiServerEndpoint"].rpartition(":")[0])


def continues(joining: Joining) -> bool:
    """Whether an earlier run that did not end left its bootstrap kubeconfig: the node had no certificate then."""
    return joining.places.on_disk(layout.BOOTSTRAP_CONF).exists()


def _check_endpoint(made: Installation) -> None:
    """Raises ``KubeadmError``: all control planes are reached by one address, which has to outlive each of them."""
    if not made.configuration.cluster.get("controlPlaneEndpoint"):
        raise KubeadmError(
            "One or more conditions for hosting a new control plane instance is not satisfied.\n"
            "unable to add a new control plane instance to a cluster that doesn't have a stable controlPlaneEndpoint "
            "address; set one in the ConfigMap kubeadm-config, have it in the API server's certificate (`tiphys init "
            "phase certs apiserver`), and point the kubeconfigs at it"
        )


async def download_certs(joining: Joining, made: Installation) -> None:
    key = joining.join["controlPlane"].get("certificateKey", "")
    if not key:
        _need_shared(made)
        return
    joining.say(
        f'[download-certs] Downloading the certificates in Secret "{copycerts.SECRET}" in the "kube-system" Namespace'
    )
    async with bootstrap_client(joining) as client:
        stored = await client.get(SECRETS, copycerts.SECRET, "kube-system")
    joining.say(f'[download-certs] Saving the certificates to the folder: "{made.configuration.certificates}"')
    copycerts.store(stored, made.configuration, made.places, key)


def _need_shared(made: Installation) -> None:
    """Raises ``KubeadmError`` unless somebody has copied what control planes share."""
    external = "external" in made.configuration.cluster["etcd"]
    wanted = [stem for stem in table.SHARED if not (external and stem.startswith("etcd"))]
    missing = [
        stem
        for stem in wanted
        if not (disk.key_file(made.pki, stem).exists() or disk.certificate_file(made.pki, stem).exists())
    ]
    if missing:
        raise KubeadmError(
            "the shared certificates are not here: missing "
            + ", ".join(f"{made.pki}/{stem}" for stem in missing)
            + "; give --certificate-key (`tiphys init phase upload-certs --upload-certs` on a control plane prints"
            " one), or copy them from a control plane"
        )


async def certs(joining: Joining, made: Installation) -> None:
    await workflow.run((CERTS,), made)


async def kubeconfigs_of(joining: Joining, made: Installation) -> None:
    joining.say("[kubeconfig] Generating kubeconfig files")
    await kubeconfig.announce(made)
    for name in ("admin", "controller-manager", "scheduler"):
        await asyncio.to_thread(kubeconfig.ensure, made, kubeconfigs.BY_NAME[name])


async def manifests(joining: Joining, made: Installation) -> None:
    """Write the manifests, unless this node's etcd member is still to come: an API server without it would only be
    restarted again and again, and make its clients wait; ``etcd_join`` writes them then."""
    if joining.etcd_follows and "local" in made.configuration.cluster["etcd"]:
        joining.say("[control-plane] The static Pod manifests are written once this node's etcd member has its vote")
        return
    await _write_manifests(joining, made)


async def _write_manifests(joining: Joining, made: Installation) -> None:
    joining.say(f'[control-plane] Using manifest folder "{layout.MANIFESTS}"')
    for component, build in BUILD.items():
        joining.say(f'[control-plane] Creating static Pod manifest for "{component}"')
        write_manifest(made, component, build(made))
    await hold_address(made)


async def kubelet_start(joining: Joining) -> None:
    """Write what the kubelet needs, and start it: it asks for its certificate, and runs the static pods meanwhile."""
    made = await installation(joining)
    config = await bootstrap_config(joining)
    if not joining.dry_run and not continues(joining):
        async with bootstrap_client(joining) as client:
            if problem := await existing_node_problem(client, joining.name):
                raise KubeadmError(problem)
    service = kubelet_service(joining.places)
    if not joining.dry_run:
        await asyncio.to_thread(service.stop)
    write_file(joining.places.on_disk(layout.BOOTSTRAP_CONF), files.dump(config))
    authority = joining.places.on_disk(joining.join["caCertPath"])
    if not authority.exists():
        write_file(authority, (await discovered_cluster(joining)).authority, PUBLIC)
    kubeletfiles.write(
        joining.places,
        joining.join["nodeRegistration"],
        made.configuration.kubelet,
        joining.say,
        patch_folder=made.configuration.patches,
        taints=not joining.control_plane,
    )
    if joining.dry_run:
        joining.say("[kubelet-start] Would start the kubelet")
        return
    joining.say("[kubelet-start] Starting the kubelet")
    service.start()


async def kubelet_wait(joining: Joining) -> None:
    """Until the kubelet is healthy and has its certificate; then the token's kubeconfig is of no more use."""
    if joining.dry_run:
        joining.say("[kubelet-wait] Would wait for the kubelet to be bootstrapped")
        return
    made = await installation(joining)
    timeouts, trouble = joining.join["timeouts"], kubelet_service(joining.places).trouble
    joining.say("[kubelet-start] Waiting for the kubelet to perform the TLS Bootstrap")
    deadline = time.monotonic() + durations.seconds(timeouts["tlsBootstrap"])
    pair = joining.places.on_disk(f"{layout.KUBELET}/pki/{CURRENT}")
    while not (joining.places.on_disk(layout.KUBELET_CONF).exists() and pair.exists()):
        if time.monotonic() > deadline:
            raise KubeadmError(
                f"the kubelet was given no certificate within {timeouts['tlsBootstrap']}: `kubectl get csr` on a"
                f" control plane shows its request; see {trouble}"
            )
        await asyncio.sleep(_LOOK_SECONDS)
    try:
        url = wait.kubelet_url(made.configuration.kubelet)
        await health.wait_for_kubelet(url, timeouts["kubeletHealthCheck"], joining.say)
    except KubeadmError as error:
        raise KubeadmError(f"{error}; see {trouble}") from error
    joining.places.on_disk(layout.BOOTSTRAP_CONF).unlink(missing_ok=True)


async def etcd_join(joining: Joining, made: Installation) -> None:
    """Announce this node's member to the others, start it, and give it its vote once it has caught up; then the
    components that need it may begin."""
    if "local" not in made.configuration.cluster["etcd"]:
        joining.say("[control-plane-join] Using external etcd - no local stacked instance added")
        return
    peer = peer_url(made.configuration.address)
    if joining.dry_run:
        joining.say(f"[etcd] Would add etcd member: {peer}")
        await _write_deferred(joining, made)
        return
    seconds = durations.seconds(joining.join["timeouts"]["etcdAPICall"])
    endpoints = await _other_members(joining, made)
    joining.say("[check-etcd] Checking that the etcd cluster is healthy")
    async with etcdmembers.connected(endpoints, made.configuration, made.places, seconds) as members:
        cluster = await members.add_learner(made.configuration.name, peer)
        joining.say("[etcd] Announced new etcd member joining to the existing etcd cluster")
        joining.say('[etcd] Creating static Pod manifest for "etcd"')
        data = made.places.on_disk(made.configuration.cluster["etcd"]["local"]["dataDir"])
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_etcd(made, cluster)
        joining.say(
            "[etcd] Waiting for the new etcd member to join the cluster. This can take up to "
            f"{joining.join['timeouts']['etcdAPICall']}"
        )
        await members.promote(peer)
    await _write_deferred(joining, made)


async def _write_deferred(joining: Joining, made: Installation) -> None:
    if joining.etcd_follows:
        await _write_manifests(joining, made)


async def _other_members(joining: Joining, made: Installation) -> list[str]:
    """The endpoints of the members there are, asked of the control plane that answers: this one has no etcd yet."""
    cluster = await discovered_cluster(joining)
    path = made.places.on_disk(layout.ADMIN)
    config = files.load(path)
    config["clusters"][0]["cluster"]["server"] = cluster.server
    aside = made.places.on_disk(f"{layout.KUBERNETES}/.join-admin.conf")
    write_file(aside, files.dump(config))
    try:
        async with api.connection(aside) as client:
            return await etcdmembers.endpoints(client, but=made.configuration.name)
    finally:
        aside.unlink(missing_ok=True)


async def mark_control_plane(joining: Joining, made: Installation) -> None:
    await mark.mark(made)


async def wait_control_plane(joining: Joining, made: Installation) -> None:
    await wait.wait(made)


JOIN: tuple[CommandPhase[Joining], ...] = (
    CommandPhase("preflight", "Run join pre-flight checks", check),
    CommandPhase(
        PREPARE,
        "Prepare the machine for serving a control plane",
        None,
        (
            CommandPhase(
                "download-certs",
                "Download certificates shared among control-plane nodes from the kubeadm-certs Secret",
                for_control_planes(download_certs),
            ),
            CommandPhase(
                "certs", "Generate the certificates for the new control plane components", for_control_planes(certs)
            ),
            CommandPhase(
                "kubeconfig",
                "Generate the kubeconfig for the new control plane components",
                for_control_planes(kubeconfigs_of),
            ),
            CommandPhase(
                CONTROL_PLANE,
                "Generate the manifests for the new control plane components",
                for_control_planes(manifests),
            ),
        ),
    ),
    CommandPhase("kubelet-start", "Write kubelet settings, certificates and (re)start the kubelet", kubelet_start),
    CommandPhase(ETCD_JOIN, "Join etcd for control plane nodes", for_control_planes(etcd_join)),
    CommandPhase("kubelet-wait-bootstrap", "Wait for the kubelet to bootstrap itself", kubelet_wait),
    CommandPhase(
        "control-plane-join",
        "Join a machine as a control plane instance",
        None,
        (CommandPhase("mark-control-plane", "Mark a node as a control-plane", for_control_planes(mark_control_plane)),),
    ),
    CommandPhase("wait-control-plane", "Wait for the control plane to start", for_control_planes(wait_control_plane)),
)


def etcd_follows(only: str, skipped: list[str]) -> bool:
    """Whether a run writes the control plane's manifests, and brings this node's etcd member up later on.

    Raises ``ConfigurationError`` for a name that no phase has.
    """
    paths = {step.path for step in workflow.selected(JOIN, only, skipped)}
    return {f"{PREPARE}/{CONTROL_PLANE}", ETCD_JOIN} <= paths
