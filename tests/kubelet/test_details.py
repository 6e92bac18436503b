"""Small things that users see: names of images, URLs of probes, modes of files, how much last words may be."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.world import (
    World,
    container,
    play,
    pod,
)
from tiphys.api.object import Object
from tiphys.kubelet.container.hooks import HookRunner
from tiphys.kubelet.container.image_names import ImageNameError, parse_image, with_default_tag
from tiphys.kubelet.pod.observed import ObservedContainer, PodStatus
from tiphys.kubelet.probes import requests
from tiphys.kubelet.probes.urls import Url, UrlError, probe_url, redirected
from tiphys.kubelet.recorder import PodEvents
from tiphys.kubelet.runtime.service import ContainerState
from tiphys.kubelet.status.generate import StatusContext, generate_status
from tiphys.kubelet.volumes.atomic import write_payload
from tiphys.kubelet.volumes.ownership import give_to_group
from tiphys.kubelet.volumes.payloads import Material, TokenSpec, is_projection, make_payload, needs
from tiphys.runtime.clock import SystemClock

SHA = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("root", ("docker.io/library/root", "", "")),
        ("user/repo:tag", ("docker.io/user/repo", "tag", "")),
        (f"user/repo@{SHA}", ("docker.io/user/repo", "", SHA)),
        (f"url:5000/repo:latest@{SHA}", ("url:5000/repo", "latest", SHA)),
        ("localhost/a/b", ("localhost/a/b", "", "")),
        ("[::1]:5000/a", ("[::1]:5000/a", "", "")),
        ("Registry/a", ("Registry/a", "", "")),
        ("a__b/c.d_e--f", ("docker.io/a__b/c.d_e--f", "", "")),
        ("index.docker.io/x", ("docker.io/library/x", "", "")),
    ],
)
def test_names_of_images(image: str, parts: tuple[str, str, str]) -> None:
    parsed = parse_image(image)
    assert (parsed.name, parsed.tag, parsed.digest) == parts
    assert with_default_tag(image) == (image if parsed.tag or parsed.digest else f"{image}:latest")


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("ROOT", "invalid reference format: repository name (library/ROOT) must be lowercase"),
        ("user/Repo:Tag", "invalid reference format: repository name (user/Repo) must be lowercase"),
        ("http://root", "invalid reference format"),
        ("", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a:" + "t" * 129, "invalid reference format"),
        ("a" * 300, "repository name must not be more than 255 characters"),
        ("a" * 100_000, "invalid reference format"),
        ("ab" * 32, f"invalid repository name ({'ab' * 32}), cannot specify 64-byte hexadecimal strings"),
        ("a@sha256:" + "a" * 32, "invalid checksum digest length"),
        ("a@md5:" + "a" * 32, "unsupported digest algorithm"),
    ],
)
def test_names_that_are_none(image: str, why: str) -> None:
    with pytest.raises(ImageNameError) as raised:
        parse_image(image)
    assert str(raised.value) == f'couldn\'t parse image name "{image}": {why}'


def test_a_wrong_name_is_told_and_never_pulled(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("web", {**container("main"), "image": "NoSuch:1"}))
        await world.until(
            lambda: bool((world.container("web").get("state") or {}).get("waiting", {}).get("message")), 9
        )
        reason = "invalid reference format: repository name (library/NoSuch) must be lowercase"
        text = f'Failed to apply default image tag "NoSuch:1": couldn\'t parse image name "NoSuch:1": {reason}'
        assert world.container("web")["state"]["waiting"] == {"reason": "InvalidImageName", "message": text}
        assert ("InspectFailed", text) in world.api.events()
        assert ("Failed", "Error: InvalidImageName") in world.api.events()

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/", "/"),
        ("healthz", "/healthz"),
        ("/a?b=c&d=%20#fragment", "/a?b=c&d=%20"),
        ("/a b!", "/a%20b%21"),
        ("/a!b", "/a!b"),
        ("/a%2Fb", "/a%2Fb"),
        ("/100%", "/100%25"),
        ("/a%zz?b", "/a%25zz%3Fb"),
        ("http://elsewhere:99/x", "/x"),
        ("//elsewhere/x", "/x"),
        ("/ü", "/%C3%BC"),
        ("/a\r\nHost: b", "/a%0D%0AHost:%20b"),
    ],
)
def test_urls_of_probes(path: str, target: str) -> None:
    assert probe_url("http", "10.0.0.1", 8080, path) == Url("http", "10.0.0.1", 8080, target)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("next", "http://[fd00::1]:80/a/next"),
        ("../next?x=1", "http://[fd00::1]:80/next?x=1"),
        ("?x", "http://[fd00::1]:80/a/b?x"),
        ("/abs#f", "http://[fd00::1]:80/abs"),
        ("//other/x", "http://other:80/x"),
        ("https://[fd00::1]/x", "https://[fd00::1]:443/x"),
        ("http://user:word@[fd00::1]:99/x", "http://[fd00::1]:99/x"),
        ("http://[fd00::1]:99", "http://[fd00::1]:99/"),
    ],
)
def test_redirects_are_resolved(location: str, url: str) -> None:
    assert str(redirected(probe_url("http", "fd00::1", 80, "/a/b?q"), location)) == url


@pytest.mark.parametrize("location", ["ftp://h/x", "http://h:99999/", "http://[x/", "https:///x"])
def test_redirects_that_lead_nowhere(location: str) -> None:
    with pytest.raises(UrlError):
        redirected(probe_url("http", "h", 80, "/"), location)


def test_a_probe_follows_redirects_on_its_host_only() -> None:
    asked: list[str] = []
    answers = {
        "/start": "302 Found\r\nLocation: sub/next",
        "/sub/next": "307 Moved\r\nLocation: ../end?x=1",
        "/end?x=1": "200 OK",
        "/other": "302 Found\r\nLocation: http://elsewhere.invalid/",
        "/round": "302 Found\r\nLocation: round",
        "/kept": "304 Not Modified\r\nLocation: /end",
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        asked.append(target)
        writer.write(f"HTTP/1.1 {answers[target]}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            for path, status in (("/start", 200), ("/other", 302), ("/kept", 304)):
                assert (await requests.get("http", "127.0.0.1", port, path, [], 5)).status == status
            with pytest.raises(requests.RequestFailure, match="stopped after 10 redirects"):
                await requests.get("http", "127.0.0.1", port, "/round", [], 5)

    asyncio.run(main())
    assert asked == ["/start", "/sub/next", "/end?x=1", "/other", "/kept", *["/round"] * 10]


def projected(*sources: Object, mode: int | None = 0o440) -> Object:
    return {"name": "v", "projected": {"defaultMode": mode, "sources": list(sources)}}


_SOURCES = (
    {"serviceAccountToken": {"path": "token"}},
    {"configMap": {"name": "c", "items": [{"key": "k", "path": "map", "mode": 0}, {"key": "k", "path": "dir/map"}]}},
    {"secret": {"name": "s", "items": [{"key": "k", "path": "secret", "mode": 0o777}]}},
    {"downwardAPI": {"items": [{"path": "field", "fieldRef": {}, "mode": 0}, {"path": "other", "fieldRef": {}}]}},
)


@pytest.mark.parametrize(
    ("security", "token", "group"),
    [
        ({}, (288, 0, 0), None),
        ({"runAsUser": 0}, (384, 0, 0), None),
        ({"runAsUser": 77}, (384, 77, 0), None),
        ({"fsGroup": 88}, (416, 0, 88), 88),
        ({"runAsUser": 77, "fsGroup": 0}, (416, 77, 0), 0),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")
def test_every_file_of_a_projected_volume_has_its_owner_and_mode(
    tmp_path: Path, security: Object, token: tuple[int, int, int], group: int | None
) -> None:
    from tiphys.kubelet.volumes import payloads

    wanted = pod("web", securityContext=security)
    owner, fs_group = payloads.shared_user(wanted), payloads.fs_group(wanted)
    volume = projected(*_SOURCES)
    material = Material(
        config_maps={"c": {"data": {"k": "x"}}},
        secrets={"s": {"data": {"k": ""}}},
        tokens={TokenSpec("", 3600): "t"},
        field=lambda item: "f",
        token_owner=owner,
        token_mode_private=owner is not None or fs_group is not None,
    )
    give = None if group is None else lambda: give_to_group(tmp_path, group, read_only=True)
    write_payload(tmp_path, make_payload(wanted, volume, material), 0, give)
    more = 0 if group is None else 0o440
    expected = {
        "token": token,
        "map": (0 | more, 0, group or 0),
        "dir/map": (0o440, 0, group or 0),
        "secret": (0o777, 0, group or 0),
        "field": (0 | more, 0, group or 0),
        "other": (0o440, 0, group or 0),
    }
    found = {path: (tmp_path / path).stat() for path in expected}
    assert {p: (stat.S_IMODE(s.st_mode), s.st_uid, s.st_gid) for p, s in found.items()} == expected
    assert {os.lstat(entry.path).st_gid for entry in os.scandir(tmp_path)} == {group or 0}


@pytest.mark.parametrize("kind", ["downwardAPI", "projected", "secret", "configMap"])
def test_an_empty_source_is_a_source(kind: str) -> None:
    assert is_projection({"name": "v", kind: {}})
    assert not is_projection({"name": "v", "emptyDir": {}, kind: None})
    assert needs({"name": "v", "downwardAPI": {}}).config_maps == frozenset()


@pytest.mark.parametrize(("count", "each"), [(1, 12288), (2, 6144), (5, 2457)])
def test_last_words_share_twelve_kibibytes(count: int, each: int) -> None:
    names = [f"c{number}" for number in range(count)]
    wanted = pod("web", *(container(name) for name in names), restartPolicy="Never")
    runs = [
        ObservedContainer(name, name, ContainerState.EXITED, 1.0, 1.0, 2.0, message="é" * 8000, reason="Error")
        for name in names
    ]
    status = generate_status(wanted, PodStatus("uid-web", containers=tuple(runs)), StatusContext({}, "now"))
    for found in status["containerStatuses"]:
        message = found["state"]["terminated"]["message"]
        assert each - 2 <= len(message.replace("\ufffd", "").encode()) <= each
        assert found["state"]["terminated"]["reason"] == "Error"


async def _plain_server(asked: list[str]) -> asyncio.Server:
    """A server that speaks no TLS, and notes the heads of requests that it can read."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(2000)
        if first.startswith(b"GET "):
            asked.append(first.decode())
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


def test_a_probe_by_https_of_a_server_without_it_says_so_in_gos_words() -> None:
    async def main() -> None:
        async with await _plain_server([]) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(requests.RequestFailure) as raised:
                await requests.get("https", "127.0.0.1", port, "/", [], 5)
            reason = "http: server gave HTTP response to HTTPS client"
            assert str(raised.value) == f'Get "https://127.0.0.1:{port}/": {reason}'

    asyncio.run(main())


def test_a_hook_by_https_falls_back_without_its_credentials() -> None:
    async def main() -> None:
        told: list[Any] = []
        asked: list[str] = []

        class Recorder:
            def event(self, obj: Any, *words: str, **_: Any) -> None:
                told.append((obj["name"], *words))

        hooks = HookRunner(None, SystemClock(), PodEvents(Recorder()))  # type: ignore[arg-type]
        async with await _plain_server(asked) as server:
            port = server.sockets[0].getsockname()[1]
            headers = [{"name": "Authorization", "value": "secret"}, {"name": "X-Mine", "value": "1"}]
            action = {"scheme": "HTTPS", "port": port, "path": "/hook", "httpHeaders": headers}
            await hooks.run({"httpGet": action}, pod("web"), container("main"), "id", "127.0.0.1")
        text = f"request to HTTPS lifecycle hook 127.0.0.1:{port} got HTTP response, retry with HTTP succeeded"
        assert told == [("web", "Warning", "LifecycleHTTPFallback", text)]
        (head,) = asked
        assert head.startswith("GET /hook HTTP/1.1\r\n")
        assert ("X-Mine: 1" in head, "secret" in head) == (True, False)

    asyncio.run(main())
