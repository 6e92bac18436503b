"""Admission plugins of users: found, checked, ordered, switched."""

from __future__ import annotations

import importlib.metadata
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from tests.apiserver.apiworld import World, run
from tiphys.apiserver.admission import external
from tiphys.apiserver.admission.attributes import CREATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.config import Config
from tiphys.runtime.extensions import ExtensionError

HERE = __name__
BUILT_IN = ("NamespaceLifecycle", "ResourceQuota")


class NoSecrets(Plugin):
    resources = frozenset((("", "secrets"),))
    operations = frozenset((CREATE,))

    def __init__(self, context: object) -> None:
        self.context = context

    async def validate(self, attributes: Attributes) -> None:
        raise forbid(attributes, "no secrets here")


class ResourceQuota(NoSecrets):
    pass


def not_a_class() -> None: ...


def test_a_reference_names_a_subclass_of_plugin() -> None:
    assert external.load([f"{HERE}:NoSecrets"], (), BUILT_IN) == {"NoSecrets": NoSecrets}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nowhere", "'nowhere' does not name a plugin; write module:Class"),
        (":X", "':X' does not name a plugin; write module:Class"),
        ("no.such.module:X", "no.such.module:X: No module named 'no'; install the module"),
        (f"{HERE}:Absent", f"module {HERE} has no Absent"),
        (f"{HERE}:not_a_class", "is not a subclass of tiphys.apiserver.admission.plugin.Plugin"),
        (f"{HERE}:ResourceQuota", "an admission plugin ResourceQuota exists already; rename yours"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_the_remedy(reference: str, message: str) -> None:
    with pytest.raises(ExtensionError) as refused:
        external.load([reference], (), BUILT_IN)
    assert message in str(refused.value)


def test_an_entry_point_is_loaded_if_it_is_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = EntryPoints([EntryPoint("Frugal", f"{HERE}:NoSecrets", external.GROUP)])
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **wanted: offered.select(**wanted))
    assert external.load((), ["ResourceQuota", "Unknown"], BUILT_IN) == {}
    assert external.load((), ["Frugal"], BUILT_IN) == {"Frugal": NoSecrets}


@pytest.mark.parametrize(("disabled", "status"), [((), 403), (("NoSecrets",), 201)])
def test_it_judges_writes_unless_it_is_disabled(disabled: tuple[str, ...], status: int) -> None:
    async def work(world: World) -> None:
        answer = await world.raw("POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}})
        assert answer.status == status
        assert (
            await world.raw("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "c"}})
        ).status == 201

    plugins = {"NoSecrets": NoSecrets}
    run(work, Config(seed=1, external_admission_plugins=plugins, disable_admission_plugins=disabled))
