"""A module whose behaviour somebody has published names where: a KEP, an RFC, a page of the documentation.

Not so what is of our own making: the packages and modules below. A package's ``__init__`` says what is in it.
"""

from __future__ import annotations

import ast
import re

from tests.source.imports import trees

NAMES_A_SOURCE = re.compile(
    r"https?://|KEPs?[- ]\d|RFC ?\d|Source:|specification|API reference|\w+\.(?:go|proto)\b|\w\(\d\)|Documentation/"
)
OWN_PACKAGES = ("tiphys.addons", "tiphys.cli", "tiphys.cluster", "tiphys.controlkit", "tiphys.runtime", "tiphys.store",
                "tiphys.testing")  # fmt: skip
_OWN = """
api.defaults.common api.fieldtree api.meta.copying api.meta.fingerprints api.object apiserver.admission.external
apiserver.aside apiserver.call apiserver.dialer apiserver.filters.holding apiserver.ownevents
apiserver.registry.making apiserver.registry.registries apiserver.registry.registry apiserver.registry.setup
apiserver.running apiserver.server apiserver.storage.changes apiserver.storage.entry apiserver.storage.objects
apiserver.workers cel.writer cloud.context controllers.context controllers.ownedpods csi.context
dns.command dns.config kubelet.labels kubelet.pod.ending kubelet.recorder kubelet.server.answers kubelet.server.node
kubelet.volumes.csi.layout kubelet.volumes.failures proxy.backend proxy.service_route proxy.userspace.backend
proxy.userspace.relay
proxy.podnetwork.follower proxy.policy.names scheduler.cache scheduler.messages
scheduler.podindex scheduler.slim scheduler.table scheduler.volumes validation.overlaps validation.registry
validation.shared.common validation.shared.internal validation.shared.internaltypes validation.shared.keypair
validation.shared.rules validation.shared.wireorder wire.hostaddress wire.inprocess wire.listening wire.memory
wire.relay wire.stream wire.transports
"""
OWN = frozenset(_OWN.split())
"""Modules that have no source but this repository: compositions, seams, data structures, and upstream's wording."""


def test_modules_name_their_source() -> None:
    modules = trees()
    packages = {name.rpartition(".")[0] for name in modules}
    silent = {
        name.removeprefix("tiphys.")
        for name, tree in modules.items()
        if name not in packages
        and not name.startswith(OWN_PACKAGES)
        and tree.body
        and not NAMES_A_SOURCE.search(ast.get_docstring(tree) or "")
    }
    assert sorted(silent - OWN) == []
    assert sorted(OWN - silent) == [], "these name one, or are gone"
