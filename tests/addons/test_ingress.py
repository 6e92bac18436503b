"""The ingress add-on: what objects ask for, what is served of it, and a real haproxy that serves it."""

from __future__ import annotations

import asyncio
import base64
import http.client
import http.server
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tiphys.addons.ingress import gateways
from tiphys.addons.ingress.backends import World
from tiphys.addons.ingress.configuration import Listening, commands, files_of, same_but_targets
from tiphys.addons.ingress.gatewaystatus import gateway_status, route_status
from tiphys.addons.ingress.haproxy import HAProxy
from tiphys.addons.ingress.ingresses import wishes_of
from tiphys.addons.ingress.merging import merge
from tiphys.addons.ingress.model import PathRule, ProxyTarget, Routing, ServedCertificate, Split, TargetGroup
from tiphys.api.object import Object
from tiphys.controlkit.haproxy import NotChecked, ProxyError
from tiphys.wire.tls.selfsigned import make_certificate

CAN = os.geteuid() == 0 and shutil.which("haproxy") is not None
CERTIFICATE, KEY = make_certificate(("shop.example",))


def service(name: str, *ports: Object, **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "a"}, "spec": {"ports": list(ports), **spec}}


def slice_of(*addresses: str, port: int = 8080, name: str = "http", ready: bool = True) -> Object:
    endpoints = [{"addresses": [address], "conditions": {"ready": ready}} for address in addresses]
    return {"addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": name, "port": port}]}


def secret(name: str = "tls", certificate: bytes = CERTIFICATE, key: bytes = KEY) -> Object:
    data = {"tls.crt": base64.b64encode(certificate).decode(), "tls.key": base64.b64encode(key).decode()}
    return {"metadata": {"name": name, "namespace": "a"}, "data": data}


SERVICES = {
    "web": service("web", {"name": "http", "port": 80}),
    "grpc": service("grpc", {"name": "http", "port": 80, "appProtocol": "kubernetes.io/h2c"}),
    "away": service("away", type="ExternalName"),
}
WORLD = World(
    service=lambda namespace, name: SERVICES.get(name) if namespace == "a" else None,
    slices=lambda _, __: [slice_of("10.0.0.2", "10.0.0.1"), slice_of("10.0.0.9", ready=False)],
    secret=lambda _, name: secret() if name == "tls" else None,
)


def path(value: str, name: str = "web", kind: str = "Prefix", port: Any = None) -> Object:
    return {"path": value, "pathType": kind, "backend": {"service": {"name": name, "port": port or {"number": 80}}}}


def ingress(name: str, *paths: Object, host: str = "shop.example", created: str = "1", **spec: Any) -> Object:
    rules = [{"host": host, "http": {"paths": list(paths)}}] if paths else []
    meta = {"name": name, "namespace": "a", "creationTimestamp": created, "uid": name}
    return {"metadata": meta, "spec": {"rules": rules, **spec}}


def test_an_ingress_is_read_part_by_part() -> None:
    wishes = wishes_of(
        ingress(
            "one",
            path("/"),
            path("/exact", kind="Exact", port={"name": "http"}),
            path("/none", "nobody"),
            path("/away", "away"),
            {"path": "/bucket", "pathType": "Prefix", "backend": {"resource": {"kind": "Bucket", "name": "b"}}},
            path("/a b"),
            tls=[{"hosts": ["shop.example"], "secretName": "tls"}, {"secretName": "gone"}],
        ),
        WORLD,
    )
    assert [(rule.path, rule.exact, rule.group) for rule in wishes.rules] == [
        ("/", False, "a_web_80"),
        ("/exact", True, "a_web_http"),
        ("/none", False, "a_nobody_80"),
        ("/away", False, "a_away_80"),
    ]
    assert wishes.groups[0].targets == (ProxyTarget("10.0.0.1", 8080), ProxyTarget("10.0.0.2", 8080))
    assert wishes.groups[2].targets == ()
    assert [c.hosts for c in wishes.certificates] == [("shop.example",)]
    text = "\n".join(wishes.problems)
    for part in ("nobody does not exist", "ExternalName", "not a Service", "'/a b' has characters", "secret gone"):
        assert part in text
    assert len(wishes.problems) == 5


def test_a_default_backend_is_what_is_left() -> None:
    default = {"service": {"name": "web", "port": {"number": 80}}}
    alone = wishes_of(ingress("one", defaultBackend=default), WORLD)
    assert [(rule.host, rule.path) for rule in alone.rules] == [("*", "/")]
    beside = wishes_of(ingress("one", path("/api"), defaultBackend=default), WORLD)
    assert [(rule.host, rule.path) for rule in beside.rules] == [("shop.example", "/api"), ("shop.example", "/")]


EVIL = [
    "/x\n  use_backend evil if TRUE",
    "/x map_str(/etc/passwd)",
    "/x\tb",
    "/x\r",
    "/é",
    "x",
    "/" + "a" * 2000,
    '/"',
    "/\\",
    "/#",
    "/{a}",
    "/\x00",
]


@pytest.mark.parametrize("value", EVIL)
def test_no_path_gets_out_of_its_line(value: str) -> None:
    wishes = wishes_of(ingress("evil", path(value, kind="ImplementationSpecific"), path("/good")), WORLD)
    assert [rule.path for rule in wishes.rules] == ["/good"]
    assert len(wishes.problems) == 1


@pytest.mark.parametrize(
    "host", ["a b", "a\nb", "*", "*.*.a", "a..b", "A.example", "!a.example", "a/b", "-a", "a" * 300]
)
def test_no_host_gets_out_of_its_line(host: str) -> None:
    tls = [{"hosts": [host], "secretName": "tls"}]
    wishes = wishes_of(ingress("evil", path("/"), host=host, tls=tls), WORLD)
    assert (wishes.rules, wishes.certificates) == ([], [])
    assert len(wishes.problems) == 2


def test_a_secret_must_hold_a_pair() -> None:
    _, other = make_certificate(("x",))
    for wrong in (secret(key=other), secret(certificate=b"nonsense"), {"metadata": {}, "data": {"tls.crt": "%"}}):
        world = World(service=WORLD.service, slices=WORLD.slices, secret=lambda _, __, wrong=wrong: wrong)  # type: ignore[misc]
        wishes = wishes_of(ingress("one", path("/"), tls=[{"secretName": "tls"}]), world)
        assert wishes.certificates == []
        assert len(wishes.problems) == 1
        assert "BEGIN" not in wishes.problems[0]
        assert len(wishes.rules) == 1, "its rules are served all the same"


def test_what_stands_beside_a_key_does_not_get_through() -> None:
    noisy = b"#include /etc/passwd\n" + CERTIFICATE
    world = World(service=WORLD.service, slices=WORLD.slices, secret=lambda _, __: secret(certificate=noisy))
    (certificate,) = wishes_of(ingress("one", tls=[{"secretName": "tls"}]), world).certificates
    assert b"passwd" not in certificate.pem
    assert repr(certificate.pem[:20]) not in repr(certificate)


def test_of_two_that_want_the_same_the_older_gets_it() -> None:
    old = wishes_of(ingress("old", path("/"), created="1"), WORLD)
    new = wishes_of(ingress("new", path("/"), path("/more"), created="2"), WORLD)
    routing = merge([new, old])
    assert [rule.path for rule in routing.rules] == ["/", "/more"]
    assert old.problems == []
    assert new.problems == ["rule for shop.example/: a/old has it already"]


def test_only_endpoints_differ_when_nothing_else_does() -> None:
    rules = (PathRule("*", "/", "g"),)

    def with_targets(*numbers: int) -> Routing:
        return Routing(rules, (TargetGroup("g", tuple(ProxyTarget(f"10.0.0.{n}", 80) for n in numbers)),))

    assert same_but_targets(with_targets(1), with_targets(1, 2, 3, 4))
    assert not same_but_targets(with_targets(1), with_targets(1, 2, 3, 4, 5)), "there are four places"
    assert commands(with_targets(1, 2), with_targets(1, 2)) == []
    assert commands(with_targets(1, 2), with_targets(3)) == [
        "set server g/s0 addr 10.0.0.3 port 80",
        "set server g/s0 state ready",
        "set server g/s1 state maint",
    ]


# Gateway API.


def gateway(*listeners: Object) -> Object:
    return {"metadata": {"name": "gw", "namespace": "a", "uid": "gw"}, "spec": {"listeners": list(listeners)}}


def route(*rules: Object, **spec: Any) -> Object:
    meta = {"name": "r", "namespace": spec.pop("namespace", "a"), "uid": "r"}
    return {"metadata": meta, "spec": {"parentRefs": [{"name": "gw", "namespace": "a"}], "rules": list(rules), **spec}}


HTTP = {"name": "http", "protocol": "HTTP", "port": 80}
TO_WEB = {"backendRefs": [{"name": "web", "port": 80}]}


def read(gateway_: Object, route_: Object) -> tuple[gateways.ReadGateway, gateways.ReadRoute]:
    gate = gateways.read_gateway(gateway_, WORLD)
    return gate, gateways.read_route(route_, [gate], WORLD)


def test_a_route_is_served_at_the_hosts_that_it_and_the_listener_have_in_common() -> None:
    for listener, hostnames, served in (
        ("", [], ["*"]),
        ("*.shop.example", [], ["**.shop.example"]),
        ("*.shop.example", ["a.shop.example", "other.example"], ["a.shop.example"]),
        ("a.shop.example", ["*.shop.example"], ["a.shop.example"]),
        ("", ["*.shop.example"], ["**.shop.example"]),
        ("*.shop.example", ["shop.example"], []),
    ):
        _, made = read(gateway({**HTTP, "hostname": listener}), route(TO_WEB, hostnames=hostnames))
        assert [rule.host for rule in made.wishes.rules] == served
        assert made.parents[0].accepted[0] == bool(served)


def test_what_is_not_served_is_refused_as_a_whole() -> None:
    for rule in (
        {**TO_WEB, "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "web"}}}]},
        {**TO_WEB, "matches": [{"headers": [{"name": "x", "value": "y"}]}]},
        {**TO_WEB, "matches": [{"path": {"type": "RegularExpression", "value": "/.*"}}]},
        {**TO_WEB, "timeouts": {"request": "1s"}},
    ):
        _, made = read(gateway(HTTP), route(TO_WEB, rule))
        assert made.wishes.rules == []
        assert made.parents[0].accepted[:2] == (False, "UnsupportedValue")


def test_listeners_that_cannot_be_served_say_so() -> None:
    tls = {"certificateRefs": [{"name": "gone"}]}
    gate, made = read(
        gateway(
            {**HTTP, "port": 8080},
            {"name": "tcp", "protocol": "TCP", "port": 80},
            {"name": "https", "protocol": "HTTPS", "port": 443, "tls": tls},
        ),
        route(TO_WEB),
    )
    status = gateway_status(gate, ["192.0.2.1"], 0.0)
    reasons = [{c["type"]: c["reason"] for c in listener["conditions"]} for listener in status["listeners"]]
    assert reasons[0]["Accepted"] == "PortUnavailable"
    assert reasons[1]["Accepted"] == "UnsupportedProtocol"
    assert reasons[2]["ResolvedRefs"] == "InvalidCertificateRef"
    parents = route_status(made, 0.0)["parents"]
    assert parents[0]["conditions"][0]["reason"] == "NoMatchingParent"


def test_a_route_of_another_namespace_needs_leave() -> None:
    elsewhere = route(TO_WEB, namespace="b")
    _, made = read(gateway(HTTP), elsewhere)
    assert made.parents[0].accepted[1] == "NotAllowedByListeners"
    open_ = {**HTTP, "allowedRoutes": {"namespaces": {"from": "All"}}}
    gate, made = read(gateway(open_), elsewhere)
    assert made.parents[0].accepted[0]
    assert gate.listeners[0].attached == 1


# A real haproxy.


class Answering:
    """A small HTTP server. ``answer`` gives a request's body, and headers of its own."""

    def __init__(self, answer: Callable[[http.server.BaseHTTPRequestHandler], tuple[bytes, dict[str, str]]]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body, headers = answer(self)
                self.send_response(200)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # idle connections that are cut
        self.target = ProxyTarget("127.0.0.1", self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Backend(Answering):
    """A server that says who it is, and what it was asked."""

    def __init__(self, name: str, delay: float = 0.0) -> None:
        def answer(request: http.server.BaseHTTPRequestHandler) -> tuple[bytes, dict[str, str]]:
            time.sleep(delay)
            said = f"{name} {request.headers['X-Forwarded-For']} {request.headers['X-Forwarded-Proto']}"
            return said.encode(), {}

        super().__init__(answer)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Running:
    def __init__(self, folder: Path) -> None:
        self.listening = Listening(("127.0.0.1",), free_port(), free_port(), folder / "admin.sock")
        self.proxy = HAProxy(folder, self.listening)
        self.proxy.prepare()
        self.process = subprocess.Popen(self.proxy.command(), stderr=subprocess.DEVNULL)
        self.wait(lambda: self.get("nobody", "/")[0] == 404)

    @staticmethod
    def wait(condition: Any, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except OSError:
                pass
            assert time.monotonic() < deadline, "the condition did not come true"
            time.sleep(0.05)

    def serve(
        self, *rules: PathRule, groups: tuple[TargetGroup, ...], certificates: Any = (), splits: tuple[Split, ...] = ()
    ) -> bool:
        return asyncio.run(self.proxy.apply(Routing(rules, groups, tuple(certificates), splits)))

    def get(self, host: str, path_: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.listening.http, timeout=5)
        try:
            connection.request("GET", path_, headers={"Host": host})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def certificate(self, name: str) -> bytes:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.listening.https), timeout=5) as raw,
            context.wrap_socket(raw, server_hostname=name) as sock,
        ):
            return sock.getpeercert(binary_form=True) or b""

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


@pytest.fixture
def backends() -> Iterator[dict[str, Backend]]:
    made = {name: Backend(name) for name in ("a", "b", "c", "d", "e")}
    yield made
    for backend in made.values():
        backend.close()


def groups_of(backends: dict[str, Backend]) -> tuple[TargetGroup, ...]:
    return tuple(TargetGroup(name, (backend.target,)) for name, backend in backends.items())


@pytest.mark.root
def test_the_most_specific_host_and_path_is_served(running: Running, backends: dict[str, Backend]) -> None:
    assert running.serve(
        PathRule("shop.example", "/", "a"),
        PathRule("shop.example", "/foo", "b"),
        PathRule("shop.example", "/foo/bar", "c", exact=True),
        PathRule("*.shop.example", "/", "d"),
        PathRule("**.far.example", "/", "c"),
        PathRule("*", "/any", "e"),
        groups=groups_of(backends),
    )
    for host, path_, served in (
        ("shop.example", "/", "a"),
        ("SHOP.example:8080", "/foobar", "a"),
        ("shop.example", "/foo", "b"),
        ("shop.example", "/foo/", "b"),
        ("shop.example", "/foo/bar", "c"),
        ("shop.example", "/foo/bar?x=1", "c"),
        ("shop.example", "/foo/bar/", "b"),
        ("x.shop.example", "/foo", "d"),
        ("x.far.example", "/", "c"),
        ("x.y.far.example", "/", "c"),
        ("other.example", "/any/thing", "e"),
        ("x.y.shop.example", "/any", "e"),
    ):
        running.wait(lambda host=host, path_=path_: running.get(host, path_)[0] == 200)
        assert running.get(host, path_)[1] == f"{served} 127.0.0.1 http", (host, path_)
    assert running.get("x.y.shop.example", "/")[0] == 404, "one label only"
    assert running.get("far.example", "/")[0] == 404
    assert running.get("other.example", "/anything")[0] == 404
    assert running.get("a/b", "/")[0] == 400


@pytest.mark.root
def test_certificates_are_chosen_by_name_and_a_bad_one_hurts_nobody(running: Running) -> None:
    pairs = {name: make_certificate((f"{name}.example",)) for name in ("one", "two")}
    served = [ServedCertificate(name, key + cert, (f"{name}.example",)) for name, (cert, key) in pairs.items()]
    small = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:512", "-nodes", "-keyout", "-", "-subj", "/CN=small"],
        capture_output=True,
        check=False,
    ).stdout
    bad = asyncio.run(running.proxy.bad_certificates((*served, ServedCertificate("small", small, ("small.example",)))))
    assert bad == {"small"}, "a key that OpenSSL does not take"
    running.serve(groups=(), certificates=served)
    for name, (cert, _) in pairs.items():
        der = ssl.PEM_cert_to_DER_cert(cert.decode())
        running.wait(lambda name=name, der=der: running.certificate(f"{name}.example") == der)
    assert running.certificate("other.example") not in [ssl.PEM_cert_to_DER_cert(c.decode()) for c, _ in pairs.values()]


def test_without_haproxy_one_line_says_so_and_no_certificate_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    proxy = HAProxy(tmp_path, Listening(("127.0.0.1",), 10080, 10443, tmp_path / "admin.sock"))
    served = ServedCertificate("good", b"pem", ("good.example",))
    for wanted in (proxy.bad_certificates((served,)), proxy.apply(Routing(certificates=(served,)))):
        with pytest.raises(NotChecked) as raised:
            asyncio.run(wanted)  # type: ignore[arg-type]
        said = "cannot run haproxy: no such file or directory; install Debian's package haproxy"
        assert str(raised.value) == said


@pytest.mark.root
def test_what_haproxy_does_not_take_changes_nothing(running: Running, backends: dict[str, Backend]) -> None:
    running.serve(PathRule("shop.example", "/", "a"), groups=groups_of(backends))
    running.wait(lambda: running.get("shop.example", "/")[0] == 200)
    broken = ServedCertificate("broken", b"nonsense", ("broken.example",))
    with pytest.raises(ProxyError, match="broken"):
        running.serve(PathRule("shop.example", "/", "b"), groups=groups_of(backends), certificates=[broken])
    assert running.get("shop.example", "/")[1].startswith("a ")
    assert running.serve(PathRule("shop.example", "/", "c"), groups=groups_of(backends))
    running.wait(lambda: running.get("shop.example", "/")[1].startswith("c "))


@pytest.mark.root
def test_reloads_and_changes_of_endpoints_drop_no_request(running: Running, backends: dict[str, Backend]) -> None:
    slow = Backend("slow", 0.3)
    rule = PathRule("shop.example", "/", "g")

    def group(*targets: ProxyTarget) -> tuple[TargetGroup, ...]:
        return (TargetGroup("g", targets),)

    running.serve(rule, groups=group(backends["a"].target))
    running.wait(lambda: running.get("shop.example", "/")[0] == 200)
    stop, seen = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            try:
                seen.append(running.get("shop.example", "/")[0])
            except (OSError, http.client.HTTPException) as error:
                seen.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(5):
            extra = [PathRule("shop.example", f"/{number}", "g")]
            assert running.serve(rule, *extra, groups=group(backends["b"].target, slow.target)), "a reload"
            assert not running.serve(rule, *extra, groups=group(backends["c"].target)), "no reload"
            time.sleep(0.3)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        slow.close()
    assert len(seen) > 100
    assert [answer for answer in seen if answer != 200] == []
    running.wait(lambda: running.get("shop.example", "/")[1].startswith("c "))


def test_the_configuration_has_no_word_of_a_tenants(tmp_path: Path) -> None:
    wishes = wishes_of(
        ingress("one", path("/very-special"), tls=[{"hosts": ["shop.example"], "secretName": "tls"}]), WORLD
    )
    listening = Listening(("192.0.2.1", "2001:db8::1"), 10080, 10443, tmp_path / "s")
    files = files_of(merge([wishes]), listening, Path("/f"), b"")
    text = files["haproxy.cfg"].decode()
    assert "special" not in text
    assert "shop.example" not in text
    assert "bind [2001:db8::1]:10443 ssl" in text
    assert (
        files["prefix.map"] == b"http:shop.example/very-special/ a_web_80\nhttps:shop.example/very-special/ a_web_80\n"
    )
    assert files["certificates.list"].decode().splitlines()[1] == "/f/tls_a_tls.pem shop.example"
