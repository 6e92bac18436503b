"""The table of controllers: the name by which ``--controllers`` knows each, and what makes it.

A constructor may return None, where the configuration gives a controller nothing to do. The names are those of
kube-controller-manager v1.36; heavy modules are imported when their controller is made.
"""

from __future__ import annotations

from collections.abc import Callable

from tiphys.controllers.context import ControllerContext, Runnable

Constructor = Callable[[ControllerContext], Runnable | None]


def _deployment(context: ControllerContext) -> Runnable:
    from tiphys.controllers.deployment.controller import DeploymentController

    return DeploymentController(context)


def _replicaset(context: ControllerContext) -> Runnable:
    from tiphys.controllers.replicaset import ReplicaSetController

    return ReplicaSetController(context)


def _replicationcontroller(context: ControllerContext) -> Runnable:
    from tiphys.controllers.replicaset import REPLICATION_CONTROLLER, ReplicaSetController

    return ReplicaSetController(context, REPLICATION_CONTROLLER, context.config.concurrent_rc_syncs)


def _endpoints(context: ControllerContext) -> Runnable:
    from tiphys.controllers.endpoints import EndpointsController

    return EndpointsController(context)


def _endpointslice(context: ControllerContext) -> Runnable:
    from tiphys.controllers.endpointslice.controller import EndpointSliceController

    return EndpointSliceController(context)


def _serviceaccount(context: ControllerContext) -> Runnable:
    from tiphys.controllers.serviceaccounts import ServiceAccountController

    return ServiceAccountController(context)


def _tokens(context: ControllerContext) -> Runnable | None:
    from tiphys.controllers.tokens import TokensController

    return TokensController(context) if context.config.service_account_signing_key else None


def _rootca(context: ControllerContext) -> Runnable | None:
    from tiphys.controllers.rootca import RootCAPublisher

    return RootCAPublisher(context) if context.config.root_ca else None


def _namespace(context: ControllerContext) -> Runnable:
    from tiphys.controllers.namespace.controller import NamespaceController

    return NamespaceController(context)


def _nodelifecycle(context: ControllerContext) -> Runnable:
    from tiphys.controllers.nodelifecycle.controller import NodeLifecycleController

    return NodeLifecycleController(context)


def _tainteviction(context: ControllerContext) -> Runnable:
    from tiphys.controllers.tainteviction import TaintEvictionController

    return TaintEvictionController(context)


def _nodeipam(context: ControllerContext) -> Runnable | None:
    from tiphys.controllers.nodeipam import NodeIPAMController

    config = context.config
    return NodeIPAMController(context) if config.allocate_node_cidrs and config.cluster_cidrs else None


def _garbagecollector(context: ControllerContext) -> Runnable:
    from tiphys.controllers.garbagecollector.collector import GarbageCollector

    return GarbageCollector(context)


def _podgc(context: ControllerContext) -> Runnable:
    from tiphys.controllers.podgc import PodGCController

    return PodGCController(context)


def _daemonset(context: ControllerContext) -> Runnable:
    from tiphys.controllers.daemonset.controller import DaemonSetController

    return DaemonSetController(context)


def _statefulset(context: ControllerContext) -> Runnable:
    from tiphys.controllers.statefulset.controller import StatefulSetController

    return StatefulSetController(context)


def _job(context: ControllerContext) -> Runnable:
    from tiphys.controllers.job.controller import JobController

    return JobController(context)


def _cronjob(context: ControllerContext) -> Runnable:
    from tiphys.controllers.cronjob.controller import CronJobController

    return CronJobController(context)


def _ttlafterfinished(context: ControllerContext) -> Runnable:
    from tiphys.controllers.ttlafterfinished import TTLAfterFinishedController

    return TTLAfterFinishedController(context)


CONTROLLERS: dict[str, Constructor] = {
    "serviceaccount-token-controller": _tokens,
    "endpoints-controller": _endpoints,
    "endpointslice-controller": _endpointslice,
    "replicationcontroller-controller": _replicationcontroller,
    "pod-garbage-collector-controller": _podgc,
    "namespace-controller": _namespace,
    "serviceaccount-controller": _serviceaccount,
    "garbage-collector-controller": _garbagecollector,
    "daemonset-controller": _daemonset,
    "job-controller": _job,
    "deployment-controller": _deployment,
    "replicaset-controller": _replicaset,
    "statefulset-controller": _statefulset,
    "cronjob-controller": _cronjob,
    "node-ipam-controller": _nodeipam,
    "node-lifecycle-controller": _nodelifecycle,
    "taint-eviction-controller": _tainteviction,
    "ttl-after-finished-controller": _ttlafterfinished,
    "root-ca-certificate-publisher-controller": _rootca,
}

DISABLED_BY_DEFAULT = frozenset(("bootstrap-signer-controller", "token-cleaner-controller"))
