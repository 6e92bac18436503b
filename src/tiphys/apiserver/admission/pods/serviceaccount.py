"""ServiceAccount: every pod runs as a service account, and gets that account's token as a volume.

Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#serviceaccount-admission-controller
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.api.pods.references import is_mirror, references_of
from tiphys.apiserver.admission.attributes import CREATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid, lookup_problem
from tiphys.apiserver.authn.serviceaccounts import WARN_AFTER
from tiphys.apiserver.registry.registries import Registries

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_VOLUME = "kube-api-access-"
_ENFORCE = "kubernetes.io/enforce-mountable-secrets"
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_DEFAULT = "default"
_ATTEMPTS, _WAIT = 10, 0.15
_SOURCES: list[Object] = [
    {"serviceAccountToken": {"expirationSeconds": WARN_AFTER, "path": "token"}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    {
        "downwardAPI": {
            "items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
        }
    },
]


class ServiceAccount(Plugin):
    resources = frozenset((("", "pods"),))
    operations = frozenset((CREATE,))

    def __init__(self, registries: Registries, suffix: Callable[[], str]) -> None:
        self._registries = registries
        self._suffix = suffix

    async def admit(self, attributes: Attributes) -> None:
        pod = attributes.new()
        if is_mirror(pod):
            _check_mirror(attributes, pod)
            return
        spec = pod["spec"]
        if not spec.get("serviceAccountName"):
            spec["serviceAccountName"] = _DEFAULT
        spec["serviceAccount"] = spec["serviceAccountName"]
        account = await self._account(attributes, spec["serviceAccountName"])
        if _automounts(account, spec):
            await attributes.work(lambda: self._mount_token(spec))
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = copy(account["imagePullSecrets"])

    async def validate(self, attributes: Attributes) -> None:
        pod = attributes.new()
        if is_mirror(pod):
            _check_mirror(attributes, pod)
            return
        name = pod["spec"].get("serviceAccountName")
        if not name:
            place = f"{attributes.namespace}/{pod['metadata'].get('name', '')}"
            raise forbid(attributes, f"no service account specified for pod {place}")
        account = await self._account(attributes, name)
        annotations = account["metadata"].get("annotations") or {}
        if annotations.get(_ENFORCE) in _TRUE:
            await attributes.work(lambda: _limit_secrets(attributes, account, pod["spec"]))

    async def _account(self, attributes: Attributes, name: str) -> Object:
        """The default account is made by a controller, a moment after its namespace: that is waited for."""
        accounts = self._registries.get("", "serviceaccounts")
        namespace = attributes.namespace
        looking = f"error looking up service account {namespace}/{name}"
        if problem := lookup_problem(name):
            raise forbid(attributes, f"{looking}: {problem}")
        for attempt in range(_ATTEMPTS if name == _DEFAULT else 1):
            if attempt:
                await accounts.clock.sleep(_WAIT)
            account = await accounts.shared(namespace, name)
            if account is None:
                entry = await accounts.store.get(namespace, name)
                account = None if entry is None else accounts.object(entry)
            if account is not None:
                return account
        raise forbid(attributes, f'{looking}: serviceaccount "{name}" not found')

    def _mount_token(self, spec: Object) -> None:
        volumes = spec.get("volumes") or []
        known = next((v["name"] for v in volumes if v["name"].startswith(_VOLUME)), "")
        name = known or _VOLUME + self._suffix()
        mounted = False
        for container in [*(spec.get("initContainers") or ()), *(spec["containers"] or ())]:
            mounts = container.get("volumeMounts") or []
            if any(mount.get("mountPath") == MOUNT_PATH for mount in mounts):
                continue
            mount = {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}
            container["volumeMounts"] = [*mounts, mount]
            mounted = True
        if mounted and not known:
            volume = {"name": name, "projected": {"sources": copy(_SOURCES), "defaultMode": 420}}
            spec["volumes"] = [*volumes, volume]


def _automounts(account: Object, spec: Object) -> bool:
    for holder in (spec, account):
        wanted = holder.get("automountServiceAccountToken")
        if wanted is not None:
            return bool(wanted)
    return True


def _check_mirror(attributes: Attributes, pod: Object) -> None:
    if pod["spec"].get("serviceAccountName"):
        raise forbid(attributes, "a mirror pod may not reference service accounts")
    place = {**pod, "metadata": {**pod["metadata"], "namespace": attributes.namespace}}
    if any(resource == "secrets" for resource, _, _ in references_of(place)):
        raise forbid(attributes, "a mirror pod may not reference secrets")
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if source.get("serviceAccountToken"):
                raise forbid(attributes, "a mirror pod may not use ServiceAccountToken volume projections")


def _limit_secrets(attributes: Attributes, account: Object, spec: Object) -> None:
    """Only secrets that the account lists may be used."""
    name = account["metadata"]["name"]
    allowed = {secret.get("name") for secret in account.get("secrets") or ()}
    end = f"is not allowed because service account {name} does not reference that secret"
    for volume in spec.get("volumes") or ():
        secret = (volume.get("secret") or {}).get("secretName")
        if secret and secret not in allowed:
            raise forbid(attributes, f'volume with secret.secretName="{secret}" {end}')
    for kind, word in (("initContainers", "init container"), ("containers", "container")):
        for container in spec.get(kind) or ():
            _limit_environment(attributes, container, f"{word} {container['name']}", allowed, end)
    pulls = {secret.get("name") for secret in account.get("imagePullSecrets") or ()}
    for index, secret in enumerate(spec.get("imagePullSecrets") or ()):
        if secret.get("name") not in pulls:
            raise forbid(
                attributes,
                f'imagePullSecrets[{index}].name="{secret.get("name")}" is not allowed because'
                f" service account {name} does not reference that imagePullSecret",
            )


def _limit_environment(attributes: Attributes, container: Object, who: str, allowed: set[Any], end: str) -> None:
    for variable in container.get("env") or ():
        secret = ((variable.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name")
        if secret and secret not in allowed:
            reason = f'{who} with envVar {variable["name"]} referencing secret.secretName="{secret}" {end}'
            raise forbid(attributes, reason)
    for source in container.get("envFrom") or ():
        secret = (source.get("secretRef") or {}).get("name")
        if secret and secret not in allowed:
            raise forbid(attributes, f'{who} with envFrom referencing secret.secretName="{secret}" {end}')
