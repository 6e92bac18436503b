"""``pods/eviction``: a deletion that respects disruption budgets.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
"""

from __future__ import annotations

from typing import Any

from tiphys.api import errors
from tiphys.api.meta.copying import copy
from tiphys.api.meta.selectors import selector_from_object
from tiphys.api.meta.timestamps import parse_seconds
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.admission.attributes import CREATE
from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.binding import Unvalidated
from tiphys.apiserver.endpoints.bodies import decode_as
from tiphys.apiserver.endpoints.negotiation import negotiate
from tiphys.apiserver.endpoints.options import write_options
from tiphys.apiserver.endpoints.respond import show
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.writing import attributes_of
from tiphys.apiserver.registry import deleting, updating
from tiphys.apiserver.registry.deleting import DeleteOptions
from tiphys.apiserver.registry.podconditions import is_ready, set_pod_condition
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.registry import no_validation
from tiphys.apiserver.registry.strategy import Write
from tiphys.wire.http import Response

Object = dict[str, Any]

_EVICTION = GroupVersionKind("policy", "v1", "Eviction")
_MAX_REMEMBERED = 2000
_SECONDS_TO_DELETE = 120.0


class Evict:
    def __init__(self, registries: Registries, admission: AdmissionChain) -> None:
        self._pods = registries.get("", "pods")
        self._budgets = registries.get("policy", "poddisruptionbudgets")
        self._admission = admission

    async def __call__(self, call: Call, target: Target) -> Response:
        form = negotiate(call, has_columns=False)
        options = write_options(call, "CreateOptions")
        eviction = decode_as(call, _EVICTION, options)
        name, namespace = call.info.name, call.info.namespace
        if eviction["metadata"].get("name", "") != name:
            raise errors.bad_request("name in URL does not match name in Eviction object")
        attributes = attributes_of(call, target, CREATE, options)
        attributes.kind, attributes.object = _EVICTION, eviction
        await self._admission.mutate(attributes)
        await self._admission.validate(attributes)
        wanted = eviction.get("deleteOptions") or {}
        dry_run = options.dry_run or bool(wanted.get("dryRun"))
        write = self._pods.write(user=call.user, namespace=namespace, dry_run=dry_run)
        pod = self._pods.object(await self._pods.get(namespace, name))
        if not _is_ending(pod):
            await self._spend_budget(pod, write)
        await self._delete(pod, delete_options(wanted), write)
        return show(call, errors.success(code=201), form, 201)

    async def _spend_budget(self, pod: Object, write: Write) -> None:
        """Raises 429 where the pod's disruption budget allows no disruption now."""
        budgets = await self._budgets_of(pod)
        if len(budgets) > 1:
            message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            raise errors.from_code(500, message)
        if not budgets or _is_harmless(pod, budgets[0]):
            return
        name = budgets[0]["metadata"]["name"]

        async def transform(budget: Object | None) -> Object:
            assert budget is not None
            return spend(budget, pod["metadata"]["name"], write)

        change = updating.Update(write.namespace, name, transform, Unvalidated())
        await updating.update(self._budgets, change, write)

    async def _budgets_of(self, pod: Object) -> list[Object]:
        labels = pod["metadata"].get("labels") or {}
        found = [self._budgets.object(entry) for entry in await self._budgets.all(pod["metadata"]["namespace"])]
        return [b for b in found if selector_from_object((b.get("spec") or {}).get("selector")).matches(labels)]

    async def _delete(self, pod: Object, options: DeleteOptions, write: Write) -> None:
        name, meta = pod["metadata"]["name"], pod["metadata"]
        if not write.dry_run:
            deleting.check_preconditions(self._pods, pod, options)
            change = updating.Update(write.namespace, name, _marked(write.now), Unvalidated(), uid=meta["uid"])
            entry, _ = await updating.update(self._pods, change, write)
            if options.resource_version:
                options.resource_version = str(entry.revision)
        await deleting.delete(self._pods, write.namespace, name, options, write, no_validation)


def _marked(now: str) -> updating.Transform:
    async def transform(pod: Object | None) -> Object:
        assert pod is not None
        found: Object = copy(pod)
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
        }
        set_pod_condition(found.setdefault("status", {}), condition, now)
        return found

    return transform


def _is_ending(pod: Object) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return phase in ("Succeeded", "Failed", "Pending") or "deletionTimestamp" in pod["metadata"]


def _is_harmless(pod: Object, budget: Object) -> bool:
    """Whether the pod is not ready, and its budget does not protect such a one."""
    if is_ready(pod):
        return False
    status = budget.get("status") or {}
    if budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    return bool(status.get("currentHealthy", 0) >= status.get("desiredHealthy", 0) > 0)


def spend(budget: Object, pod: str, write: Write) -> Object:
    """The budget with one disruption less, and the pod remembered in it. Raises 403 and 429."""
    meta, status = budget["metadata"], budget.get("status") or {}
    if status.get("observedGeneration", 0) < meta.get("generation", 0):
        raise _too_many(f"The disruption budget {meta['name']} is still being processed by the server.")
    allowed, disrupted = status.get("disruptionsAllowed", 0), status.get("disruptedPods") or {}
    if allowed < 0:
        raise errors.forbidden("policy", "poddisruptionbudget", meta["name"], "pdb disruptions allowed is negative")
    if len(disrupted) > _MAX_REMEMBERED:
        reason = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise errors.forbidden("policy", "poddisruptionbudget", meta["name"], reason)
    if allowed == 0:
        healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
        raise _too_many(
            f"The disruption budget {meta['name']} needs {desired} healthy pods and has {healthy} currently"
        )
    found: Object = copy(budget)
    recent = {n: t for n, t in disrupted.items() if write.epoch - parse_seconds(t) < _SECONDS_TO_DELETE}
    found["status"]["disruptionsAllowed"] = allowed - 1
    found["status"]["disruptedPods"] = recent | {pod: write.now}
    return found


def _too_many(reason: str) -> errors.StatusError:
    error = errors.too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
    error.status["details"] = {"causes": [errors.cause("DisruptionBudget", reason)]}
    return error


def delete_options(options: Object) -> DeleteOptions:
    preconditions = options.get("preconditions") or {}
    return DeleteOptions(
        grace=options.get("gracePeriodSeconds"),
        propagation=options.get("propagationPolicy") or "",
        uid=preconditions.get("uid") or "",
        resource_version=preconditions.get("resourceVersion") or "",
    )
