"""Handlers, transforms and objects of an informer that raise: the other handlers and objects are served."""

from __future__ import annotations

from tests.apiserver.apiworld import World, config_map, run
from tiphys.api.object import Object
from tiphys.client.informer import Callbacks, Informer
from tiphys.client.resources import CONFIG_MAPS
from tiphys.controlkit.controller import Controller
from tiphys.runtime.tasks import Runner


def name_of(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def test_a_handler_that_raises_leaves_the_others_every_change() -> None:
    async def work(world: World) -> None:
        informer, seen = Informer(world.admin, CONFIG_MAPS, world.clock), list[str]()

        def bad(obj: Object) -> None:
            raise ValueError(name_of(obj))

        informer.add_handler(Callbacks(changed=bad))
        informer.add_handler(Callbacks(changed=lambda obj: seen.append(name_of(obj))))
        async with Runner(world.clock) as runner:
            runner.supervise(informer.run, "informer")
            await world.admin.create(CONFIG_MAPS, config_map("a"), namespace="default")
            await world.clock.sleep(1)
            await world.admin.create(CONFIG_MAPS, config_map("b"), namespace="default")
            await world.admin.delete(CONFIG_MAPS, "a", "default")
            await world.clock.sleep(1)
            assert {"a", "b"} <= set(seen)
            assert seen.count("a") == 2
            assert runner.troubles() == {}

    run(work)


def test_a_handler_has_an_event_again_that_it_raised_at() -> None:
    async def work(world: World) -> None:
        informer, seen = Informer(world.admin, CONFIG_MAPS, world.clock, namespace="default"), list[str]()
        raised = set[str]()

        def once(what: str) -> None:
            if what not in raised:
                raised.add(what)
                raise ValueError(what)
            seen.append(what)

        informer.add_handler(
            Callbacks(
                added=lambda obj: once(f"{name_of(obj)} added"),
                updated=lambda old, new: once(f"{old['data']['a']} became {new['data']['a']}"),
                deleted=lambda obj: once(f"{name_of(obj)} deleted"),
            )
        )
        async with Runner(world.clock) as runner:
            runner.supervise(informer.run, "informer")
            await world.admin.create(CONFIG_MAPS, config_map("a"), namespace="default")
            await world.clock.sleep(5)
            await world.admin.patch(CONFIG_MAPS, "a", {"data": {"a": "2"}}, "default")
            await world.clock.sleep(5)
            await world.admin.delete(CONFIG_MAPS, "a", "default")
            await world.clock.sleep(5)
            own = [what for what in seen if "kube-root" not in what]
            assert own == ["a added", "1 became 2", "a deleted"]
            assert runner.troubles() == {}

    run(work)


def test_an_object_that_a_transform_or_an_index_fails_on_is_left_out_alone() -> None:
    async def work(world: World) -> None:
        def transform(obj: Object) -> Object:
            if name_of(obj) == "cursed":
                raise KeyError("spec")
            return obj

        def index(obj: Object) -> list[str]:
            if name_of(obj) == "unindexed":
                raise TypeError("no key")
            return ["x"]

        informer = Informer(world.admin, CONFIG_MAPS, world.clock, namespace="default", transform=transform)
        informer.add_index("by x", index)
        for name in ("cursed", "a", "unindexed", "z"):
            await world.admin.create(CONFIG_MAPS, config_map(name), namespace="default")
        async with Runner(world.clock) as runner:
            runner.supervise(informer.run, "informer")
            await world.clock.sleep(1)
            assert informer.synced
            assert {name_of(obj) for obj in informer.store.by_index("by x", "x")} == {"a", "z"}
            assert runner.troubles() == {}

    run(work)


def test_a_mapping_that_raises_for_one_object_leaves_the_others_reconciled() -> None:
    async def work(world: World) -> None:
        informer, seen = Informer(world.admin, CONFIG_MAPS, world.clock), list[str]()

        def keys(obj: Object) -> list[str]:
            if name_of(obj) == "cursed":
                raise KeyError("spec")
            return [name_of(obj)]

        async def reconcile(key: str) -> None:
            seen.append(key)
            if key == "failing":
                raise ValueError(key)

        controller = Controller("test", reconcile, world.clock)
        controller.watches(informer, keys)
        for name in ("cursed", "failing", "good"):
            await world.admin.create(CONFIG_MAPS, config_map(name), namespace="default")
        async with Runner(world.clock) as runner:
            runner.supervise(informer.run, "informer")
            runner.supervise(controller.run, "controller")
            await world.clock.sleep(5)
            assert "good" in seen
            assert seen.count("failing") > 1
            assert runner.troubles() == {}

    run(work)
