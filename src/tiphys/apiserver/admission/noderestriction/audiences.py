"""The audiences for which a node may ask for tokens: those that a volume of the pod asks for.

Source: KEP-4412, https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction
"""

from __future__ import annotations

from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.api.pods.references import claim_name
from tiphys.apiserver.authz.authorizer import Access, Authorizer
from tiphys.apiserver.call import User
from tiphys.apiserver.registry.registries import Registries

VERB = "request-serviceaccounts-token-audience"
_MIGRATED = {
    "awsElasticBlockStore": "ebs.csi.aws.com",
    "azureDisk": "disk.csi.azure.com",
    "azureFile": "file.csi.azure.com",
    "cinder": "cinder.csi.openstack.org",
    "gcePersistentDisk": "pd.csi.storage.gke.io",
    "portworxVolume": "pxd.portworx.com",
    "vsphereVolume": "csi.vsphere.vmware.com",
}
"""The drivers that have taken over older volume sources."""


class Audiences:
    def __init__(self, registries: Registries, authorizer: Authorizer) -> None:
        self._registries = registries
        self._authorizer = authorizer

    async def problem(self, node: User, account: str, request: Object, pod: Object) -> str:
        """Why a node may not have the token that it asks for; empty if it may."""
        wanted = request["spec"].get("audiences") or [""]
        if len(wanted) > 1:
            return "node may only request 0 or 1 audiences"
        audience = wanted[0]
        needs, errors = await self._needs(pod, audience)
        if needs:
            return ""
        if errors:
            text = errors[0] if len(errors) == 1 else f"[{', '.join(dict.fromkeys(errors))}]"
            return f"error validating audience {quote(audience)}: {text}"
        access = Access(node, VERB, "", "v1", audience, namespace=pod["metadata"]["namespace"], name=account)
        if (await self._authorizer.authorize(access)).allowed:
            return ""
        missing = f"audience {quote(audience)} not found in pod spec volume"
        return f"{missing}, {node.name} is not authorized to request tokens for this audience"

    async def _needs(self, pod: Object, audience: str) -> tuple[bool, list[str]]:
        """Whether a volume of the pod asks for the audience, and what of the volumes could not be found out."""
        errors: list[str] = []
        for volume in pod["spec"].get("volumes") or ():
            for source in (volume.get("projected") or {}).get("sources") or ():
                token = source.get("serviceAccountToken")
                if token is not None and token.get("audience", "") == audience:
                    return True, []
            try:
                if await self._driver_asks(await self._driver_of(pod, volume), audience):
                    return True, []
            except LookupError as error:
                errors.append(str(error.args[0]))
        return False, errors

    async def _driver_of(self, pod: Object, volume: Object) -> str:
        """The CSI driver of a volume; empty without one. Raises ``LookupError`` if a claim or volume is missing."""
        if claim := claim_name(pod, volume):
            bound = await self._find("", "persistentvolumeclaims", pod["metadata"]["namespace"], claim)
            name = (bound.get("spec") or {}).get("volumeName", "")
            return _driver((await self._find("", "persistentvolumes", "", name))["spec"])
        return _driver(volume)

    async def _driver_asks(self, driver: str, audience: str) -> bool:
        if not driver:
            return False
        csi_driver = await self._find("storage.k8s.io", "csidrivers", "", driver)
        requests = (csi_driver.get("spec") or {}).get("tokenRequests") or ()
        return any(request.get("audience", "") == audience for request in requests)

    async def _find(self, group: str, plural: str, namespace: str, name: str) -> Object:
        known = await self._registries.get(group, plural).find(namespace, name) if name else None
        if known is None:
            full = f"{plural}.{group}" if group else plural
            kind = full if plural == "csidrivers" else plural.removesuffix("s")
            raise LookupError(f"{kind} {quote(name)} not found")
        return known


def _driver(source: Object) -> str:
    if (csi := source.get("csi")) is not None:
        return str(csi.get("driver", ""))
    return next((driver for kind, driver in _MIGRATED.items() if source.get(kind) is not None), "")
