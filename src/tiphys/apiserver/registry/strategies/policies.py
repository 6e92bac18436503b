"""Admission policies and their bindings: their writers may read what the policies take as parameters.

The server reads parameters for everybody, so a policy whose writer cannot read them would show them what they say.
Source: KEP-3488 and KEP-3962.
"""

from __future__ import annotations

from typing import ClassVar

from tiphys.api import fielderrors
from tiphys.api.fielderrors import FieldError
from tiphys.api.object import Object
from tiphys.api.scheme import GroupKind, GroupVersionKind
from tiphys.apiserver.authz.authorizer import MASTERS, Access, Authorizer
from tiphys.apiserver.call import User
from tiphys.apiserver.registry.kinds import FACTS
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.strategy import Finish, Strategy, Write, keep

GROUP = "admissionregistration.k8s.io"


class _ParameterStrategy(Strategy):
    """``begin`` asks the authorizer; validation reports what it said, for an object that is right otherwise."""

    field: ClassVar[str]

    def __init__(self, gvk: GroupVersionKind, registries: Registries, authorizer: Authorizer) -> None:
        super().__init__(gvk)
        self._registries = registries
        self._authorizer = authorizer

    async def begin_create(self, obj: Object, write: Write) -> Finish:
        return await self.begin_update(obj, {}, write)

    async def begin_update(self, new: Object, old: Object, write: Write) -> Finish:
        write.denied = []
        spec, kept = new.get("spec") or {}, old.get("spec") or {}
        asks = MASTERS not in write.user.groups and self.must_read(spec, kept)
        if asks and (reason := await self.refusal(spec, write.user)):
            write.denied = [fielderrors.forbidden(f"spec.{self.field}", reason)]
        return keep

    def must_read(self, spec: Object, old: Object) -> bool:
        """Whether the write gives the policy parameters that it did not have."""
        raise NotImplementedError

    async def refusal(self, spec: Object, user: User) -> str:
        """Why the user may not; empty if they may."""
        raise NotImplementedError

    def validate_create(self, obj: Object, write: Write) -> list[FieldError]:
        return super().validate_create(obj, write) or write.denied

    def validate_update(self, new: Object, old: Object, write: Write) -> list[FieldError]:
        return super().validate_update(new, old, write) or write.denied

    def parameters(self, kind: Object) -> tuple[str, str, str]:
        """Group, version and resource of a kind of parameters; ``*`` for what is not known of them."""
        group, version = group_version(kind.get("apiVersion", ""))
        resource = self._registries.scheme.for_kind(group, kind.get("kind", ""))
        return group, version, "*" if resource is None or version not in resource.versions else resource.plural

    async def may(self, user: User, verb: str, kind: Object | None, namespace: str, name: str) -> bool:
        group, version, plural = ("*", "*", "*") if kind is None else self.parameters(kind)
        access = Access(user, verb, group, version, plural, namespace=namespace, name=name)
        return (await self._authorizer.authorize(access)).allowed


class PolicyStrategy(_ParameterStrategy):
    field = "paramKind"

    def must_read(self, spec: Object, old: Object) -> bool:
        kind = spec.get("paramKind")
        return kind is not None and kind != old.get("paramKind")

    async def refusal(self, spec: Object, user: User) -> str:
        kind = spec["paramKind"]
        if await self.may(user, "get", kind, "*", "*"):
            return ""
        about = f"(kind={kind.get('kind', '')}, apiVersion={kind.get('apiVersion', '')})"
        return f'user {in_go(user)} must have "get" permission on all objects of the referenced paramKind {about}'


class PolicyBindingStrategy(_ParameterStrategy):
    """A reference is checked with every write, as what its policy takes may have changed since."""

    field = "paramRef"
    policies: ClassVar[str]

    def must_read(self, spec: Object, old: Object) -> bool:
        return spec.get("paramRef") is not None

    async def refusal(self, spec: Object, user: User) -> str:
        """Why ``user`` may not write the binding, as upstream words it; empty if they may."""
        reference, name = spec["paramRef"], spec.get("policyName", "")
        registry = self._registries.get(GROUP, self.policies)
        entry = await registry.store.get("", name)
        kind = None if entry is None else (registry.object(entry).get("spec") or {}).get("paramKind")
        verb = "get" if reference.get("name") else "list"
        if await self.may(user, verb, kind, reference.get("namespace", ""), reference.get("name", "")):
            return ""
        everything = f'does not have "{verb}" permission for all groups, versions and resources'
        if entry is None:
            problem = f"unable to get policy {name}"
            return f"{problem} to determine minimum required permissions and user {in_go(user)} {everything}"
        if kind is not None and self.parameters(kind)[2] == "*":
            shown = f"&{{{kind.get('apiVersion', '')} {kind.get('kind', '')}}}"
            return (
                f"unable to resolve paramKind {shown} to determine minimum required permissions"
                f" and user {in_go(user)} {everything}"
            )
        return f'user {in_go(user)} does not have "{verb}" permission on the object referenced by paramRef'


def group_version(text: str) -> tuple[str, str]:
    group, _, version = text.rpartition("/")
    return group, version


def in_go(user: User) -> str:
    """A user as ``%v`` prints it."""
    extra = " ".join(f"{key}:[{' '.join(values)}]" for key, values in sorted(user.extra))
    return f"&{{{user.name} {user.uid} [{' '.join(user.groups)}] map[{extra}]}}"


def policy_strategies(registries: Registries, authorizer: Authorizer) -> dict[GroupKind, Strategy]:
    made: dict[GroupKind, Strategy] = {}
    for sort in ("Validating", "Mutating"):
        plural = f"{sort.lower()}admissionpolicies"
        for name, base, facts in (
            (f"{sort}AdmissionPolicy", PolicyStrategy, {}),
            (f"{sort}AdmissionPolicyBinding", PolicyBindingStrategy, {"policies": plural}),
        ):
            kind = GroupKind(GROUP, name)
            strategy = type(f"{name}Strategy", (base,), {**FACTS[kind], **facts})
            made[kind] = strategy(GroupVersionKind(GROUP, "v1", name), registries, authorizer)
    return made
