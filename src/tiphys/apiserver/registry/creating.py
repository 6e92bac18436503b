"""How an object is created: system metadata, strategy, validation, admission's last word, the store.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from collections.abc import Callable

from tiphys.api import errors
from tiphys.api.fielderrors import enough
from tiphys.api.object import Object
from tiphys.api.pods.disabled import drop_disabled
from tiphys.apiserver.aside import aside, patiently
from tiphys.apiserver.registry.registry import Registry, Validate
from tiphys.apiserver.registry.strategy import Write
from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.storage.objects import Exists
from tiphys.cel.patience import Patience

_GENERATED_RETRIES = 8
_MAX_GENERATED_BASE = 58


async def create(registry: Registry, obj: Object, write: Write, validate: Validate) -> Entry:
    """Create ``obj``, which is changed in place. A generated name that is taken is generated again."""
    generated = needs_name(obj["metadata"])
    for _ in range(_GENERATED_RETRIES if generated else 1):
        try:
            return await _create(registry, obj, write, validate)
        except Exists:
            taken = obj["metadata"]["name"]
            if generated:
                del obj["metadata"]["name"]
    if obj["metadata"].get("generateName"):
        raise errors.generate_name_conflict(registry.group, registry.plural, taken)
    raise await _already_exists(registry, write.namespace, taken)


def needs_name(meta: Object) -> bool:
    return bool(meta.get("generateName")) and not meta.get("name")


async def _create(registry: Registry, obj: Object, write: Write, validate: Validate) -> Entry:
    strategy, meta = registry.strategy, obj["metadata"]
    fill_system_fields(registry, meta, write)
    finish = await strategy.begin_create(obj, write)
    done = False
    try:
        await before_create(registry, obj, write)
        await validate(obj)
        version = _number(meta.pop("resourceVersion", ""))
        if version and not write.dry_run:  # a dry run ends before the store could refuse it
            raise errors.from_code(500, "resourceVersion should not be set on objects to be created")
        entry = await _store(registry, obj, write, version)
        done = True
        return entry
    finally:
        await finish(done=done)


def fill_system_fields(registry: Registry, meta: Object, write: Write) -> None:
    """Set what the server alone sets on a new object."""
    meta["uid"] = registry.ids.uid()
    meta["creationTimestamp"] = write.now
    meta.pop("selfLink", None)
    if needs_name(meta):
        meta["name"] = _generated(registry, meta["generateName"])
    if registry.resource.namespaced:
        match_namespace(meta, write.namespace)
    else:
        meta.pop("namespace", None)


def _generated(registry: Registry, base: str) -> str:
    return base[:_MAX_GENERATED_BASE] + registry.ids.suffix() if registry.strategy.adds_suffix else base


def match_namespace(meta: Object, namespace: str) -> None:
    """The object's namespace is the request's; another one is refused."""
    if meta.setdefault("namespace", namespace) != namespace:
        if meta["namespace"]:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        meta["namespace"] = namespace


async def before_create(registry: Registry, obj: Object, write: Write) -> None:
    """Prepare and validate a new object, and collect warnings. Raises 422."""
    strategy = registry.strategy

    def prepare() -> None:
        drop_disabled(registry.group, registry.plural, obj, None)
        strategy.prepare_create(obj, write)

    def check() -> None:
        if problems := enough(lambda: strategy.validate_create(obj, write)):
            sent = write.as_sent(obj)
            raise registry.invalid(obj, (sent and enough(lambda: strategy.validate_create(sent, write))) or problems)
        for warning in strategy.warnings(obj, None):
            write.warn(warning)

    await off_the_loop(write, prepare)
    await checked(registry, write, check)


async def off_the_loop(write: Write, work: Callable[[], None]) -> None:
    """Do work on an object that is written: beside the loop if it is big."""
    if write.big:
        await aside(work)
    else:
        work()


async def checked(registry: Registry, write: Write, check: Callable[[], None]) -> None:
    """Run a check, which can be run twice: beside the loop if the object is big or what it evaluates takes long."""
    if write.big or registry.strategy.lengthy:
        await aside(check)
    elif registry.resource.custom:
        await patiently(Patience(), check, registry.experience)
    else:
        check()


def _number(version: str) -> int:
    number = int(version) if version.isascii() and version.isdigit() else 0
    return number if number < 2**64 else 0


async def _store(registry: Registry, obj: Object, write: Write, version: int) -> Entry:
    meta = obj["metadata"]
    key = registry.store.key(meta.get("namespace", ""), meta["name"])
    if write.dry_run:
        if await registry.store.get(write.namespace, meta["name"]) is not None:
            raise Exists(key)
        return registry.entry_of(obj, version)
    return await registry.store.create(key, obj, registry.strategy.ttl)


async def _already_exists(registry: Registry, namespace: str, name: str) -> errors.StatusError:
    error = errors.already_exists(registry.group, registry.plural, name)
    entry = await registry.store.get(namespace, name)
    if entry is not None and registry.object(entry)["metadata"].get("deletionTimestamp"):
        error.status["message"] = f"object is being deleted: {error.status['message']}"
    return error
