"""The controller that writes ``status.typeChecking`` of validating admission policies, once for each generation.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#type-checking
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import orjson

from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind
from tiphys.client import errors
from tiphys.client.resources import VALIDATING_ADMISSION_POLICIES
from tiphys.controlkit.discovery import discover
from tiphys.controlkit.objects import (
    name_of,
    status_of,
)
from tiphys.controllers.context import ControllerContext
from tiphys.runtime import lazily

if TYPE_CHECKING:
    from tiphys.cel.schema.decltypes import DeclType
    from tiphys.cel.schema.openapitypes import kind_type
    from tiphys.controllers.admissionpolicies import checking
    from tiphys.controllers.admissionpolicies.checking import PolicyContext
else:  # the whole expression language, which a cluster without policies does not need
    checking = lazily.Module("tiphys.controllers.admissionpolicies.checking")
    kind_type = lazily.Function("tiphys.cel.schema.openapitypes", "kind_type")

MANAGER = "validatingadmissionpolicy-status"


class PolicyStatusController:
    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._policies = context.informers.informer(VALIDATING_ADMISSION_POLICIES)
        self._controller = context.controller(
            "validatingadmissionpolicy_status",
            self.reconcile,
            workers=context.config.concurrent_validating_admission_policy_status_syncs,
        )
        self._controller.watches(self._policies)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> None:
        """Type-check a policy once for each generation, and apply the warnings to its status."""
        policy = self._policies.store.get("", key)
        if policy is None or policy["metadata"]["generation"] <= status_of(policy).get("observedGeneration", 0):
            return
        warnings = await self._check(policy)
        wanted = {
            "kind": "ValidatingAdmissionPolicy",
            "apiVersion": VALIDATING_ADMISSION_POLICIES.api_version,
            "metadata": {"name": name_of(policy)},
            "status": {
                "observedGeneration": policy["metadata"]["generation"],
                "typeChecking": {"expressionWarnings": warnings} if warnings else {},
            },
        }
        await self._client.apply(VALIDATING_ADMISSION_POLICIES, wanted, MANAGER, force=True, subresource="status")

    async def _check(self, policy: Object) -> list[Object]:
        context = await self._context(policy)
        warnings = []
        for warning in checking.check(policy, context):
            if warning is None:
                await asyncio.sleep(0)
            else:
                warnings.append(warning)
        return warnings

    async def _context(self, policy: Object) -> PolicyContext:
        discovered = await discover(self._client, every_version=True)
        served = {(r.path.group, r.path.version, r.path.plural): r.kind for r in discovered.resources}
        documents: dict[str, Mapping[str, Object]] = {}
        kinds = []
        for index, gvk in enumerate(checking.kinds_to_check(policy, served)):
            if (schema := await self._type(gvk, f"{gvk.kind}{index}", documents)) is not None:
                kinds.append((gvk, schema))
        wanted = checking.param_kind(policy)
        params = None if wanted is None else await self._type(wanted, f"{wanted.kind}Params", documents)
        return checking.PolicyContext(tuple(kinds), wanted is not None, params)

    async def _type(
        self, gvk: GroupVersionKind, name: str, documents: dict[str, Mapping[str, Object]]
    ) -> DeclType | None:
        """The type of a kind; None if no document describes it. ``documents`` are those that were read before."""
        path = f"apis/{gvk.group}/{gvk.version}" if gvk.group else f"api/{gvk.version}"
        if path not in documents:
            documents[path] = await self._schemas(path)
        return kind_type(documents[path], gvk.group, gvk.version, gvk.kind, name)

    async def _schemas(self, path: str) -> Mapping[str, Object]:
        try:
            response = await self._client.request(
                "GET", f"/openapi/v3/{path}", headers={"accept": "application/json"}
            )  # fmt: skip
        except errors.NotFound:
            return {}
        document: Object = orjson.loads(await response.read())
        schemas: Mapping[str, Object] = (document.get("components") or {}).get("schemas") or {}
        return schemas
