"""The Identity service of our drivers.

Source: https://github.com/container-storage-interface/spec/blob/master/spec.md#identity-service-rpc
"""

from __future__ import annotations

from typing import Any

from tiphys import __version__
from tiphys.csi.answers import answer
from tiphys.runtime.system.capabilities import CAP_SYS_RESOURCE, has_capability


class IdentityService:
    """``has_zones``: where a volume is decides which nodes can have it."""

    def __init__(self, name: str, *, has_zones: bool = True) -> None:
        self._name = name
        self._has_zones = has_zones

    async def GetPluginInfo(self, _: Any) -> Any:
        return answer("GetPluginInfoResponse", name=self._name, vendor_version=__version__)

    async def GetPluginCapabilities(self, _: Any) -> Any:
        capabilities = [
            {"service": {"type": "CONTROLLER_SERVICE"}},
            *([{"service": {"type": "VOLUME_ACCESSIBILITY_CONSTRAINTS"}}] if self._has_zones else []),
            {"volume_expansion": {"type": "ONLINE" if has_capability(CAP_SYS_RESOURCE) else "OFFLINE"}},
        ]
        return answer("GetPluginCapabilitiesResponse", capabilities=capabilities)

    async def Probe(self, _: Any) -> Any:
        return answer("ProbeResponse", ready={"value": True})
