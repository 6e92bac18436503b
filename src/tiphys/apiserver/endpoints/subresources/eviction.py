"""``pods/eviction``: a deletion that respects disruption budgets.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
"""

from __future__ import annotations

from tiphys.api import errors, fielderrors
from tiphys.api.meta.copying import copy
from tiphys.api.meta.selectors import selector_from_object
from tiphys.api.object import Object
from tiphys.api.pods.conditions import set_pod_condition
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.admission.attributes import CREATE
from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.bodies import decode_as
from tiphys.apiserver.endpoints.negotiation import negotiate
from tiphys.apiserver.endpoints.options import checked_delete_options, write_options
from tiphys.apiserver.endpoints.respond import show
from tiphys.apiserver.endpoints.subresources.binding import Unvalidated
from tiphys.apiserver.endpoints.subresources.budgets import being_processed, protects, spend
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.writing import attributes_of
from tiphys.apiserver.registry import deleting, updating
from tiphys.apiserver.registry.creating import match_namespace
from tiphys.apiserver.registry.deleting import DeleteOptions
from tiphys.apiserver.registry.making import owned_status
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.registry import no_validation
from tiphys.apiserver.registry.strategy import Write
from tiphys.wire.http import Response

_EVICTION = GroupVersionKind("policy", "v1", "Eviction")
_UNREADABLE = "ignoreStoreReadErrorWithClusterBreakingPotential"
_ATTEMPTS = 20


class Evict:
    def __init__(self, registries: Registries, admission: AdmissionChain) -> None:
        self._pods = registries.get("", "pods")
        self._budgets = registries.get("policy", "poddisruptionbudgets")
        self._admission = admission

    async def __call__(self, call: Call, target: Target) -> Response:
        form = negotiate(call, has_columns=False)
        options = write_options(call, "CreateOptions")
        eviction = decode_as(call, _EVICTION, options, also=("policy/v1beta1",))
        name, namespace = call.info.name, call.info.namespace
        match_namespace(eviction["metadata"], namespace)
        attributes = attributes_of(call, target, CREATE, options)
        attributes.object = eviction
        await self._admission.mutate(attributes)
        if eviction["metadata"].get("name", "") != name:
            raise errors.bad_request("name in URL does not match name in Eviction object")
        wanted = eviction.get("deleteOptions") or {}
        _check_options(wanted, name)
        await self._admission.validate(attributes)
        dry_run = options.dry_run or bool(wanted.get("dryRun"))
        write = self._pods.write_context(user=call.user, namespace=namespace, dry_run=dry_run)
        await self._evict(name, wanted, write)
        return show(call, errors.success(code=201), form, 201)

    async def _evict(self, name: str, wanted: Object, write: Write) -> None:
        for _ in range(_ATTEMPTS):
            pod = self._pods.object(await self._pods.get(write.namespace, name))
            if not _is_ending(pod):
                break
            try:
                return await self._delete(pod, wanted, write, unchanged=_may_change(pod))
            except errors.StatusError as error:
                if error.code != 409 or _version(wanted) is not None:
                    raise
        protecting = await self._spend_budget(pod, write)
        try:
            await self._delete(pod, wanted, write, unchanged=bool(protecting))
        except errors.StatusError as error:
            if error.code != 409 or not protecting or _version(wanted) is not None:
                raise
            # The pod has changed: it may be ready by now, and count.
            raise being_processed(protecting) from error

    async def _spend_budget(self, pod: Object, write: Write) -> str:
        """The name of the budget that lets the pod go as it is not ready; nothing if it was spent, or none applies.

        Raises 429 if the pod's disruption budget allows no disruption now.
        """
        budgets = await self._budgets_of(pod)
        if len(budgets) > 1:
            message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            raise errors.from_code(500, message)
        if not budgets:
            return ""
        name: str = budgets[0]["metadata"]["name"]
        if not protects(budgets[0], pod):
            return name

        async def transform(budget: Object | None) -> Object:
            assert budget is not None
            spent = spend(budget, pod["metadata"]["name"], write.now)
            return owned_status(self._budgets, budget, spent, write.now)

        change = updating.Update(write.namespace, name, transform, Unvalidated())
        await updating.update(self._budgets, change, write)
        return ""

    async def _budgets_of(self, pod: Object) -> list[Object]:
        labels = pod["metadata"].get("labels") or {}
        budgets = [self._budgets.object(entry) for entry in await self._budgets.all(pod["metadata"]["namespace"])]
        return [b for b in budgets if selector_from_object((b.get("spec") or {}).get("selector")).matches(labels)]

    async def _delete(self, pod: Object, wanted: Object, write: Write, *, unchanged: bool) -> None:
        """``unchanged``: only as long as the pod is as it was found."""
        name, meta = pod["metadata"]["name"], pod["metadata"]
        preconditions = wanted.get("preconditions") or {}
        version = _version(wanted)
        if version is None and unchanged:
            version = meta["resourceVersion"]
        if not write.dry_run:
            expected = DeleteOptions(uid=preconditions.get("uid"), resource_version=version)
            deleting.check_preconditions(self._pods, pod, expected)
            change = updating.Update(write.namespace, name, _marked(write.now), Unvalidated(), uid=meta["uid"])
            change.resource_version = version
            entry, _ = await updating.update(self._pods, change, write)
            version = None if version is None else str(entry.revision)
        options = checked_delete_options(wanted)
        options.resource_version = version
        await deleting.delete(self._pods, write.namespace, name, options, write, no_validation)


def _version(options: Object) -> str | None:
    version: str | None = (options.get("preconditions") or {}).get("resourceVersion")
    return version


def _marked(now: str) -> updating.Transform:
    async def transform(pod: Object | None) -> Object:
        assert pod is not None
        result: Object = copy(pod)
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
        }
        set_pod_condition(result.setdefault("status", {}), condition, now)
        return result

    return transform


def _is_ending(pod: Object) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return phase in ("Succeeded", "Failed", "Pending") or "deletionTimestamp" in pod["metadata"]


def _may_change(pod: Object) -> bool:
    """Whether the pod could become ready meanwhile, and be protected by a budget."""
    return (pod.get("status") or {}).get("phase") == "Pending" and "deletionTimestamp" not in pod["metadata"]


def _check_options(options: Object, name: str) -> None:
    if options.get(_UNREADABLE):
        text = "can not be set for pod eviction, try after removing the option"
        problem = fielderrors.invalid(f"deleteOptions.{_UNREADABLE}", True, text)
        raise errors.invalid(_EVICTION.group, _EVICTION.kind, name, [problem])
