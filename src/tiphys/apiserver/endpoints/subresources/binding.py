"""``pods/binding``, and the older ``bindings``: a pod is given its node, once.

Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/binding-v1/
"""

from __future__ import annotations

from tiphys.api import errors, fielderrors
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.api.pods.conditions import set_pod_condition
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.admission.attributes import CREATE
from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.bodies import decode_as
from tiphys.apiserver.endpoints.negotiation import negotiate
from tiphys.apiserver.endpoints.options import write_options
from tiphys.apiserver.endpoints.respond import show
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.writing import attributes_of
from tiphys.apiserver.registry import updating
from tiphys.apiserver.registry.creating import match_namespace
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.strategy import Finish, Write, keep
from tiphys.wire.http import Response

_BINDING = GroupVersionKind("", "v1", "Binding")


class Unvalidated:
    """The rules of updates that the server itself makes: nothing is reset, nothing is checked."""

    def prepare(self, new: Object, old: Object, write: Write) -> None:
        """Nothing."""

    def validate(self, new: Object, old: Object, write: Write) -> list[fielderrors.FieldError]:
        return []

    async def begin(self, new: Object, old: Object, write: Write) -> Finish:
        return keep


class BindPod:
    def __init__(self, registries: Registries, admission: AdmissionChain) -> None:
        self._registries = registries
        self._admission = admission

    async def __call__(self, call: Call, target: Target) -> Response:
        form = negotiate(call, has_columns=False)
        options = write_options(call, "CreateOptions")
        binding = decode_as(call, _BINDING, options)
        meta = binding["metadata"]
        match_namespace(meta, call.info.namespace)
        name = call.info.name or meta.get("name", "")
        if not name:
            raise errors.bad_request("Name parameter required.")
        if meta.get("name", "") != name:
            raise errors.bad_request("name in URL does not match name in Binding object")
        _check(binding)
        attributes = attributes_of(call, target, CREATE, options)
        attributes.name, attributes.kind, attributes.object = name, _BINDING, binding
        await self._admission.mutate(attributes)
        await self._admission.validate(attributes)
        await self._assign(call, target, binding, name, dry_run=options.dry_run)
        return show(call, errors.success(code=201), form, 201)

    async def _assign(self, call: Call, target: Target, binding: Object, name: str, *, dry_run: bool) -> None:
        registry = self._registries.get("", "pods")
        write = registry.write_context(namespace=call.info.namespace, dry_run=dry_run)
        meta = binding["metadata"]

        async def transform(pod: Object | None) -> Object:
            assert pod is not None
            if reason := _refusal(pod):
                raise errors.conflict("", "pods/binding", name, reason)
            return bound(pod, binding, write.now)

        change = updating.Update(
            namespace=call.info.namespace,
            name=name,
            transform=transform,
            rules=Unvalidated(),
            uid=meta.get("uid") or None,
            resource_version=meta.get("resourceVersion") or None,
        )
        await updating.update(registry, change, write)


def _check(binding: Object) -> None:
    target = binding.get("target") or {}
    problems = []
    if target.get("kind") not in (None, "", "Node"):
        problems.append(fielderrors.not_supported("target.kind", target["kind"], ["Node", "<empty>"]))
    if not target.get("name"):
        problems.append(fielderrors.required("target.name"))
    if problems:
        raise errors.from_code(500, fielderrors.aggregate(problems))


def _refusal(pod: Object) -> str:
    name = pod["metadata"]["name"]
    if "deletionTimestamp" in pod["metadata"]:
        return f"pod {name} is being deleted, cannot be assigned to a host"
    if node := pod["spec"].get("nodeName"):
        return f'pod {name} is already assigned to node "{node}"'
    if pod["spec"].get("schedulingGates"):
        return f"pod {name} has non-empty .spec.schedulingGates"
    return ""


def bound(pod: Object, binding: Object, now: str) -> Object:
    """The pod on its node, with the labels and annotations of the binding."""
    result: Object = copy(pod)
    result["spec"]["nodeName"] = binding["target"]["name"]
    for kind in ("annotations", "labels"):
        if extra := binding["metadata"].get(kind):
            result["metadata"].setdefault(kind, {}).update(extra)
    status = result.setdefault("status", {})
    status.pop("nominatedNodeName", None)
    set_pod_condition(status, {"type": "PodScheduled", "status": "True"}, now)
    return result
