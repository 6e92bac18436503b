"""A pod's image, from what the pod wants to what the runtime is asked, and what events and statuses say of it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.test_image_providers import ANSWER, CONFIG, entry, program
from tests.kubelet.world import World, container, play, play_in_real_time, pod
from tiphys.client.throttle import RequestRate, TokenBucket
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.images.providerconfig import ProviderConfigError
from tiphys.kubelet.runtime.service import RuntimeFailure, SandboxConfig

PRIVATE = "test.registry.io/team/app:1"
SECRETS = "/api/v1/namespaces/default/secrets"


def private(world: World, password: str = "pass") -> None:
    world.runtime.private[PRIVATE] = password


def secret(name: str, password: str = "pass", **more: Any) -> dict[str, Any]:
    text = json.dumps({"auths": {"test.registry.io": {"username": "user", "password": password}}})
    given = {
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": name, "namespace": "default"},
        "data": {".dockerconfigjson": base64.b64encode(text.encode()).decode()},
    }
    return {**given, **more}


def asking(name: str, *secrets: str, policy: str = "IfNotPresent", image: str = PRIVATE, **spec: Any) -> dict[str, Any]:
    named = [{"name": one} for one in secrets]
    return pod(name, container("main", image=image, imagePullPolicy=policy), imagePullSecrets=named, **spec)


def reason(world: World, name: str) -> str:
    return str(((world.container(name).get("state") or {}).get("waiting") or {}).get("reason", ""))


def message(world: World, name: str) -> str:
    return str(((world.container(name).get("state") or {}).get("waiting") or {}).get("message", ""))


async def one_that_may(world: World) -> None:
    private(world)
    world.api.put(SECRETS, secret("mine"))
    world.add(asking("first", "mine"))
    await world.until(lambda: world.ready("first"))
    assert world.runtime.pulls == [PRIVATE]


async def one_that_may_not(world: World, name: str = "other") -> None:
    world.add(asking(name))
    await world.until(lambda: reason(world, name) in ("ErrImagePull", "ImagePullBackOff"))
    assert "401 Unauthorized" in message(world, name)


def test_a_present_image_is_for_those_who_may_pull_it(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        await one_that_may(world)
        await one_that_may_not(world)
        world.add(asking("never", policy="Never"))
        await world.until(lambda: reason(world, "never") == "ErrImageNeverPull")
        assert message(world, "never") == f'Container image "{PRIVATE}" is not present with pull policy of Never'
        world.add(asking("same", "mine", policy="Never"))
        world.api.put(SECRETS, secret("copy"))
        world.add(asking("copied", "copy", policy="Never"))
        await world.until(lambda: world.ready("same") and world.ready("copied"))
        text = f'Container image "{PRIVATE}" already present on machine and can be accessed by the pod'
        assert ("Pulled", text) in world.api.events()

    play(tmp_path, scene)


def test_what_was_shown_is_known_to_the_next_kubelet(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        await one_that_may(world)
        await world.restart()
        before = len(world.runtime.pulls)
        world.add(asking("same", "mine", policy="Never"))
        await world.until(lambda: world.ready("same"))
        assert len(world.runtime.pulls) == before
        await one_that_may_not(world)

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("policy", "allowed", "may"),
    [
        ("NeverVerify", (), True),
        ("NeverVerifyAllowlistedImages", ("test.registry.io/team/*",), True),
        ("NeverVerifyAllowlistedImages", ("test.registry.io/other/*",), False),
        ("AlwaysVerify", (), False),
    ],
)
def test_other_policies(tmp_path: Path, policy: str, allowed: tuple[str, ...], may: bool) -> None:
    async def scene(world: World) -> None:
        await one_that_may(world)
        if may:
            world.add(asking("other", policy="Never"))
            await world.until(lambda: world.ready("other"))
        else:
            await one_that_may_not(world)

    def adjust(config: KubeletConfig) -> None:
        config.image_verification, config.image_allowlist = policy, allowed

    play(tmp_path, scene, adjust=adjust)


def test_what_nobody_pulled_is_for_everybody_unless_always_verified(tmp_path: Path) -> None:
    async def preloaded(world: World) -> None:
        world.add(asking("first", policy="Never", image="web:1"))
        await world.until(lambda: world.ready("first"))
        assert world.runtime.pulls == []

    async def verified(world: World) -> None:
        world.add(asking("first", image="web:1"))
        world.add(asking("never", policy="Never", image="other:1"))
        await world.until(lambda: world.ready("first") and reason(world, "never") == "ErrImageNeverPull")
        assert world.runtime.pulls == ["web:1"]
        world.add(asking("second", policy="Never", image="web:1"))  # it was pulled by nobody in particular
        await world.until(lambda: world.ready("second"))

    play(tmp_path / "1", preloaded)
    play(tmp_path / "2", verified, adjust=lambda config: setattr(config, "image_verification", "AlwaysVerify"))


def test_each_credential_is_tried_and_all_failures_are_said(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        private(world)
        for name, password in (("wrong", "no"), ("right", "pass"), ("other", "no")):
            world.api.put(SECRETS, secret(name, password))
        world.add(asking("both", "wrong", "right"))
        await world.until(lambda: world.ready("both"))
        assert len(world.runtime.pulls) == 2

        async def refuse(image: str, auth: Any = None, sandbox_config: SandboxConfig | None = None) -> str:
            raise RuntimeFailure(f"no {auth.get('password')}")

        world.runtime.pull_image = refuse  # type: ignore[method-assign]
        world.add(asking("neither", "wrong", "right", "other", policy="Always"))
        await world.until(lambda: "Err" in reason(world, "neither"))
        words = "rpc error: code = Unknown desc = no"
        assert message(world, "neither") == f"[{words} no, {words} pass]"

    play(tmp_path, scene)


def test_a_secret_of_another_type_counts_nothing_and_a_broken_one_fails(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        private(world)
        world.api.put(SECRETS, secret("opaque", type="Opaque"))
        world.api.put(SECRETS, secret("broken", data={".dockerconfigjson": base64.b64encode(b"{").decode()}))
        world.add(asking("one", "opaque"))
        world.add(asking("two", "broken"))
        await world.until(lambda: "Pull" in reason(world, "one") and bool(reason(world, "two")))
        assert "401" in message(world, "one")
        await world.until(lambda: message(world, "two") == "error occurred while trying to unmarshal json")

    play(tmp_path, scene)


def test_pulls_in_a_second_are_limited(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        for name in ("one", "two", "three"):
            world.add(asking(name, policy="Always", image=f"{name}:1"))
        await world.until(lambda: all(world.ready(name) for name in ("one", "two", "three")))
        refused = [text for kind, text in world.api.events() if kind == "Failed" and "QPS" in text]
        assert refused
        assert all(text.endswith("pull QPS exceeded") for text in refused)

    def adjust(config: KubeletConfig) -> None:
        config.registry_qps, config.registry_burst = 1, 1

    play(tmp_path, scene, adjust=adjust)


def test_a_bucket_that_nobody_waits_for() -> None:
    bucket = TokenBucket(RequestRate(2, 3), 100.0)
    assert [bucket.try_take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.try_take(100.5) for _ in range(2)] == [True, False]
    assert [bucket.try_take(200.0) for _ in range(4)] == [True, True, True, False]


def most_at_once(tmp_path: Path, adjust: Callable[[KubeletConfig], None]) -> int:
    """How many of ten pulls run at the same time."""
    now = most = 0

    async def scene(world: World) -> None:
        pull: Callable[..., Awaitable[str]] = world.runtime.pull_image

        async def slow(*given: Any) -> str:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(5)
            now -= 1
            return await pull(*given)

        world.runtime.pull_image = slow  # type: ignore[method-assign]
        for number in range(10):
            world.add(asking(f"p{number}", policy="Always", image="web:1"))
        await world.until(lambda: all(world.ready(f"p{number}") for number in range(10)))

    play(tmp_path, scene, adjust=adjust)
    return most


def test_pulls_at_one_time_are_limited(tmp_path: Path) -> None:
    def parallel(most: int | None) -> Callable[[KubeletConfig], None]:
        def adjust(config: KubeletConfig) -> None:
            config.serialize_image_pulls, config.parallel_image_pulls = False, most
            config.registry_qps = 0

        return adjust

    assert most_at_once(tmp_path / "1", lambda config: setattr(config, "registry_qps", 0)) == 1
    assert most_at_once(tmp_path / "3", parallel(3)) == 3
    assert most_at_once(tmp_path / "10", parallel(None)) == 10


def test_a_program_gives_the_credentials(tmp_path: Path) -> None:
    folder, file = tmp_path / "bin", tmp_path / "config.yaml"
    answer = {**ANSWER, "auth": {"test.registry.io": {"username": "user", "password": "pass"}}}
    program(folder, "good", f"echo '{json.dumps(answer)}'")
    program(folder, "bad", "exit 1")
    image = "test.registry.io"
    text = f"{CONFIG}providers:\n{entry('bad', image)}{entry('good', image)}"
    file.write_text(text.replace("args: [--v=5]", "args: []"))

    def adjust(config: KubeletConfig) -> None:
        config.provider_config, config.provider_folder = str(file), str(folder)

    async def scene(world: World) -> None:
        private(world)
        world.add(asking("one"))
        await world.until(lambda: world.ready("one"))
        world.add(asking("two", policy="Never"))  # the credentials are the node's, so it is everybody's
        await world.until(lambda: world.ready("two"))

    play_in_real_time(tmp_path / "1", scene, adjust=adjust)
    (folder / "good").unlink()
    with pytest.raises(ProviderConfigError, match="good did not exist"):
        play(tmp_path / "2", scene, adjust=adjust)


def test_a_program_is_given_the_token_of_the_pods_account(tmp_path: Path) -> None:
    folder, file, seen = tmp_path / "bin", tmp_path / "config.yaml", tmp_path / "seen"
    program(folder, "one", f"cat >>{seen}", f"echo '{json.dumps(ANSWER)}'")
    attributes = (
        "    tokenAttributes: {serviceAccountTokenAudience: registry, cacheType: ServiceAccount,"
        " requireServiceAccount: true, requiredServiceAccountAnnotationKeys: [team]}\n"
    )
    file.write_text(f"{CONFIG}providers:\n{entry('one', 'test.registry.io')}{attributes}")

    def adjust(config: KubeletConfig) -> None:
        config.provider_config, config.provider_folder = str(file), str(folder)

    async def scene(world: World) -> None:
        private(world)
        for name, noted in (("builder", {"team": "a"}), ("plain", {})):
            meta = {"name": name, "namespace": "default", "annotations": noted}
            world.api.put("/api/v1/namespaces/default/serviceaccounts", {"kind": "ServiceAccount", "metadata": meta})
        world.add(asking("one", serviceAccountName="builder"))
        await world.until(lambda: world.ready("one"))
        [request] = [json.loads(line) for line in seen.read_text().splitlines()]
        assert (request["serviceAccountToken"], request["serviceAccountAnnotations"]) == ("secret-token", {"team": "a"})
        world.add(asking("same", policy="Never", serviceAccountName="builder"))
        world.add(asking("never", policy="Never", serviceAccountName="plain"))
        await world.until(lambda: world.ready("same") and reason(world, "never") == "ErrImageNeverPull")
        assert len(seen.read_text().splitlines()) == 1

    play_in_real_time(tmp_path / "1", scene, adjust=adjust)
