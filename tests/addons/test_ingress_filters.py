"""Filters of HTTPRoutes: what is read, what is refused, and what a real haproxy does to requests and answers."""

from __future__ import annotations

import http.client
import http.server
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.addons.test_ingress import HTTP, TO_WEB, WORLD, Answering, Running, gateway, read, route
from tiphys.addons.ingress import gateways
from tiphys.addons.ingress.actions import values_of
from tiphys.addons.ingress.configuration import Listening, files_of
from tiphys.addons.ingress.filters import filters_of
from tiphys.addons.ingress.gatewaystatus import route_status
from tiphys.addons.ingress.merging import merge
from tiphys.addons.ingress.model import (
    Filters,
    HeaderChange,
    PathChange,
    PathRule,
    Redirect,
    Rewrite,
    TargetGroup,
    Unusable,
)
from tiphys.api.object import Object

FOO = [("/foo", False)]


def request_headers(**changes: Any) -> Object:
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": changes}


def response_headers(**changes: Any) -> Object:
    return {"type": "ResponseHeaderModifier", "responseHeaderModifier": changes}


def redirect(**fields: Any) -> Object:
    return {"type": "RequestRedirect", "requestRedirect": fields}


def rewrite(**fields: Any) -> Object:
    return {"type": "URLRewrite", "urlRewrite": fields}


def prefix(value: str) -> Object:
    return {"type": "ReplacePrefixMatch", "replacePrefixMatch": value}


def full(value: str) -> Object:
    return {"type": "ReplaceFullPath", "replaceFullPath": value}


def test_filters_are_read_field_by_field() -> None:
    described = [
        request_headers(set=[{"name": "X-A", "value": " one  two "}], add=[{"name": "b", "value": "3"}], remove=["c"]),
        response_headers(set=[{"name": "Server", "value": "none"}]),
        rewrite(hostname="in.example", path=prefix("/bar/")),
    ]
    assert filters_of(described, FOO, has_backends=True) == Filters(
        request=(HeaderChange("set", "X-A", "one  two"), HeaderChange("add", "b", "3"), HeaderChange("del", "c")),
        response=(HeaderChange("set", "Server", "none"),),
        rewrite=Rewrite("in.example", PathChange("/bar", 4)),
    )
    sent = [redirect(scheme="https", hostname="new.example", port=8443, statusCode=308, path=full("/all"))]
    assert filters_of(sent, FOO, has_backends=False) == Filters(
        redirect=Redirect("https", "new.example", 8443, 308, PathChange("/all"))
    )


EVIL = ["a\nb", "a\r\nX: y", "a\x00", "é", "", " ", "a\x7f", "x" * 5000]


@pytest.mark.parametrize("value", EVIL)
def test_no_value_of_a_header_gets_out_of_its_line(value: str) -> None:
    for made in (request_headers, response_headers):
        for operation in ("set", "add"):
            with pytest.raises(Unusable, match="not one line of printable ASCII"):
                filters_of([made(**{operation: [{"name": "x", "value": value}]})], FOO, has_backends=True)


@pytest.mark.parametrize(
    "name", ["", "a b", "a\nb", "a:b", "a#b", "%[src]", "a'b", 'a"b', "a\\", "$HOME", "-a", "x" * 300, "é", "{a}"]
)
def test_no_name_of_a_header_is_more_than_a_name(name: str) -> None:
    for made in (request_headers, response_headers):
        for changes in ({"set": [{"name": name, "value": "x"}]}, {"remove": [name]}):
            with pytest.raises(Unusable, match="must be letters"):
                filters_of([made(**changes)], FOO, has_backends=True)


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection", "Upgrade", "TE", "Host"])
def test_headers_of_the_proxy_are_not_for_tenants(name: str) -> None:
    for made in (request_headers, response_headers):
        with pytest.raises(Unusable, match="belongs to the proxy"):
            filters_of([made(remove=[name])], FOO, has_backends=True)
        with pytest.raises(Unusable, match="belongs to the proxy"):
            filters_of([made(add=[{"name": name, "value": "5"}])], FOO, has_backends=True)


@pytest.mark.parametrize(
    ("filters", "message", "reason"),
    [
        ([{"type": "RequestMirror", "requestMirror": {}}], "RequestMirror is not served", "UnsupportedValue"),
        ([{"type": "ExtensionRef", "extensionRef": {}}], "ExtensionRef is not served", "UnsupportedValue"),
        ([{"type": "CORS", "cors": {}}], "CORS is not served", "UnsupportedValue"),
        ([{"type": "URLRewrite"}], "URLRewrite needs the field urlRewrite", "UnsupportedValue"),
        ([rewrite(hostname="a\nb")], "no DNS name", "UnsupportedValue"),
        ([rewrite(hostname="*.a")], "no DNS name", "UnsupportedValue"),
        ([rewrite(path=full("/a b"))], "characters", "UnsupportedValue"),
        ([rewrite(path=prefix("x"))], "does not begin with /", "UnsupportedValue"),
        ([rewrite(path=full("/a?b=c"))], "characters", "UnsupportedValue"),
        ([rewrite(path={"type": "Regex"})], "type Regex is not served", "UnsupportedValue"),
        ([rewrite(), rewrite()], "URLRewrite is there twice", "IncompatibleFilters"),
        ([request_headers(), request_headers()], "twice", "IncompatibleFilters"),
        ([rewrite(), redirect()], "cannot be together", "IncompatibleFilters"),
        ([redirect()], "cannot be together with backendRefs", "IncompatibleFilters"),
        ([request_headers(set=[{"name": "Host", "value": "a/b"}])], "no DNS name", "UnsupportedValue"),
        ([request_headers(replace=[])], "replace is not served", "UnsupportedValue"),
    ],
)
def test_what_is_not_served_is_said_in_the_routes_status(filters: list[Object], message: str, reason: str) -> None:
    _, made = read(gateway(HTTP), route({**TO_WEB, "filters": filters}))
    assert made.wishes.rules == []
    (parent,) = route_status(made, 0.0)["parents"]
    accepted = next(c for c in parent["conditions"] if c["type"] == "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", reason)
    assert message in accepted["message"]
    assert accepted["message"].startswith("rules[0].filters: ")


@pytest.mark.parametrize(
    "fields",
    [{"scheme": "ftp"}, {"statusCode": 200}, {"port": 0}, {"port": "80; x"}, {"hostname": "a b"}, {"query": "x"}],
)
def test_a_redirect_leads_to_a_url(fields: Object) -> None:
    with pytest.raises(Unusable, match="RequestRedirect"):
        filters_of([redirect(**fields)], FOO, has_backends=False)


def test_a_prefix_is_replaced_where_there_is_one() -> None:
    for paths in ([("/foo", True)], [("/foo", False), ("/bar", False)]):
        with pytest.raises(Unusable, match="wants one match of the rule"):
            filters_of([rewrite(path=prefix("/x"))], paths, has_backends=True)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ({"name": "gone", "port": 80}, "BackendNotFound"),
        ({"name": "web", "port": 81}, "BackendNotFound"),
        ({"name": "web", "port": 80, "kind": "Bucket"}, "InvalidKind"),
        ({"name": "web", "port": 80, "namespace": "b"}, "RefNotPermitted"),
    ],
)
def test_backends_that_cannot_be_resolved_say_why_and_answer_500(reference: Object, reason: str) -> None:
    _, made = read(gateway(HTTP), route({"backendRefs": [reference]}))
    (parent,) = route_status(made, 0.0)["parents"]
    conditions = {c["type"]: (c["status"], c["reason"]) for c in parent["conditions"]}
    assert conditions == {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("False", reason)}
    assert not made.wishes.groups[0].resolved


@pytest.mark.parametrize(
    "broken",
    [
        route("x"),
        route({**TO_WEB, "filters": "x"}),
        route({**TO_WEB, "filters": [7]}),
        route({**TO_WEB, "filters": [{"type": {"a": 1}}]}),
        route({**TO_WEB, "filters": [request_headers(set=["x"])]}),
        route({**TO_WEB, "filters": [request_headers(set=[{"name": 7, "value": {}}])]}),
        route({**TO_WEB, "filters": [rewrite(hostname=7)]}),
        route({**TO_WEB, "filters": [rewrite(path="/x")]}),
        route({"backendRefs": [{"name": "web", "port": 80, "weight": "x"}]}),
        route({"backendRefs": [{}]}),
        route({**TO_WEB, "matches": [{"path": 7}]}),
        {"metadata": {"name": "r", "namespace": "a"}, "spec": {"parentRefs": [3]}},
    ],
)
def test_a_route_that_no_definition_checked_is_in_nobodys_way(broken: Object) -> None:
    good = route(TO_WEB)
    _, (first, second) = gateways.read_all([gateway(HTTP)], [broken, good], WORLD)
    assert first.wishes.rules == []
    assert first.wishes.problems or not first.parents[0].accepted[0]
    assert [rule.path for rule in second.wishes.rules] == ["/"]
    merge([first.wishes, second.wishes])


def test_a_gateway_that_no_definition_checked_is_in_nobodys_way() -> None:
    broken = {"metadata": {"name": "odd", "namespace": "a"}, "spec": {"listeners": [{"port": {}}, 7]}}
    (first, second), routes = gateways.read_all([broken, gateway(HTTP)], [route(TO_WEB)], WORLD)
    assert (first.listeners, len(second.listeners)) == ([], 1)
    assert routes[0].parents[0].accepted[0]


def test_tenants_words_are_values_of_a_map(tmp_path: Path) -> None:
    filters = [
        request_headers(set=[{"name": "X-A", "value": "%[src] if { TRUE } # very-special"}]),
        rewrite(hostname="secret.example", path=full("/very-special")),
    ]
    _, made = read(gateway(HTTP), route({**TO_WEB, "filters": filters}))
    listening = Listening(("192.0.2.1",), 10080, 10443, tmp_path / "s")
    files = files_of(merge([made.wishes]), listening, Path("/f"), b"")
    text = files["haproxy.cfg"].decode()
    assert "special" not in text
    assert "secret" not in text
    assert "http-request set-header X-A %[str(route_a_r_0:0),map_str(/f/values.map)]" in text
    assert files["values.map"].decode().splitlines() == [
        "route_a_r_0:0 %[src] if { TRUE } # very-special",
        "route_a_r_0:1 secret.example",
        "route_a_r_0:2 /very-special",
    ]
    assert values_of(made.wishes.groups) == files["values.map"]


# A real haproxy.


class Mirror(Answering):
    """A server that says what it was asked, and has some headers of its own."""

    def __init__(self) -> None:
        def answer(request: http.server.BaseHTTPRequestHandler) -> tuple[bytes, dict[str, str]]:
            headers = [[name.lower(), value] for name, value in request.headers.items()]
            body = json.dumps({"path": request.path, "headers": headers}).encode()
            return body, {"X-Own": "own", "X-Kept": "kept"}

        super().__init__(answer)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    made = Mirror()
    yield made
    made.close()


class Asked:
    def __init__(self, running: Running, host: str, path: str, headers: dict[str, str]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", running.listening.http, timeout=30)
        try:
            connection.request("GET", path, headers={"Host": host, **headers})
            answer = connection.getresponse()
            self.status, self.headers = answer.status, answer.headers
            text = answer.read().decode()
            self.seen = json.loads(text) if answer.status == 200 else {"headers": [], "path": ""}
        finally:
            connection.close()

    def request_header(self, name: str) -> list[str]:
        return [value for key, value in self.seen["headers"] if key == name]


def serve(running: Running, mirror: Mirror, **rules: tuple[str, list[Object]]) -> None:
    """Each rule at a host of its own, by its prefix."""
    served, groups = [], []
    for host, (path, described) in rules.items():
        sends = not any(filter_["type"] == "RequestRedirect" for filter_ in described)
        filters = filters_of(described, [(path, False)], has_backends=sends)
        served.append(PathRule(host, path, f"g_{host}"))
        groups.append(TargetGroup(f"g_{host}", (mirror.target,) if sends else (), filters=filters))
    running.serve(*served, groups=tuple(groups))
    first, (path, _) = next(iter(rules.items()))
    running.wait(lambda: Asked(running, first, path, {}).status != 404)


@pytest.mark.root
def test_headers_of_requests_and_answers_are_changed(running: Running, mirror: Mirror) -> None:
    values = ["plain", "%[src]", "a # b", "'x' \"y\" \\ $HOME ${HOME}", "{ TRUE } if x", "a,b;c=d", "%%", "~" * 4000]
    every = [{"name": f"X-V{number}", "value": value} for number, value in enumerate(values)]
    serve(
        running,
        mirror,
        values=("/", [request_headers(set=every[:-1]), response_headers(set=every[:-1])]),
        long=("/", [request_headers(set=every[-1:])]),
        changed=(
            "/",
            [
                request_headers(
                    set=[{"name": "x-one", "value": "new"}],
                    add=[{"name": "X-Two", "value": "more"}],
                    remove=["x-three"],
                ),
                response_headers(
                    set=[{"name": "X-Kept", "value": "new"}], add=[{"name": "X-More", "value": "m"}], remove=["x-own"]
                ),
            ],
        ),
    )
    asked = Asked(running, "values", "/", {})
    for number, value in enumerate(values[:-1]):
        assert asked.request_header(f"x-v{number}") == [value]
        assert asked.headers.get_all(f"X-V{number}") == [value]
    assert Asked(running, "long", "/", {}).request_header("x-v7") == [values[-1]]
    changed = Asked(running, "changed", "/", {"X-One": "old", "X-Two": "old", "X-Three": "old", "X-Four": "old"})
    assert changed.request_header("x-one") == ["new"]
    assert changed.request_header("x-two") == ["old", "more"]
    assert changed.request_header("x-three") == []
    assert changed.request_header("x-four") == ["old"]
    assert changed.headers.get_all("X-Kept") == ["new"]
    assert changed.headers.get_all("X-More") == ["m"]
    assert changed.headers.get_all("X-Own") is None
    assert Asked(running, "values", "/", {"X-One": "old"}).request_header("x-one") == ["old"], "another route's"


@pytest.mark.root
def test_hosts_and_paths_are_rewritten(running: Running, mirror: Mirror) -> None:
    table = [
        # asked for, prefix, in its place, what the endpoint sees
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/a/b?x=%20&y", "/", "/new", "/new/a/b?x=%20&y"),
        ("/foo/%2e%2e/a", "/foo", "/x%20y", "/x%20y/%2e%2e/a"),
    ]
    rules = {f"r{number}": (row[1], [rewrite(path=prefix(row[2]))]) for number, row in enumerate(table)}
    rules |= {
        "whole": ("/", [rewrite(path=full("/all"))]),
        "host": ("/", [rewrite(hostname="inside.example")]),
        "set": ("/", [request_headers(set=[{"name": "Host", "value": "other.example"}])]),
    }
    serve(running, mirror, **rules)
    for number, (path, _, _, seen) in enumerate(table):
        asked = Asked(running, f"r{number}", path, {})
        assert asked.seen["path"] == seen, table[number]
        assert asked.request_header("host") == [f"r{number}"]
    assert Asked(running, "whole", "/a/b?q=1", {}).seen["path"] == "/all?q=1"
    host = Asked(running, "host", "/a", {})
    assert (host.request_header("host"), host.seen["path"]) == (["inside.example"], "/a")
    assert host.request_header("x-forwarded-host") == ["host"]
    assert Asked(running, "set", "/", {}).request_header("host") == ["other.example"]


@pytest.mark.root
def test_clients_are_redirected(running: Running, mirror: Mirror) -> None:
    rules: dict[str, tuple[str, list[Object]]] = {
        "to-tls": ("/", [redirect(scheme="https")]),
        "port": ("/", [redirect(port=8080, statusCode=301)]),
        "known": ("/", [redirect(scheme="https", port=443)]),
        "plain": ("/", [redirect(port=80)]),
        "host": ("/", [redirect(hostname="new.example", statusCode=308)]),
        "whole": ("/", [redirect(path=full("/all"), statusCode=303)]),
        "prefix": ("/foo", [redirect(path=prefix("/bar"), statusCode=307)]),
        "nothing": ("/foo", [redirect(path=prefix(""))]),
        "all": ("/foo", [redirect(scheme="https", hostname="n.example", port=8443, path=prefix("/x"))]),
        "said": ("/", [redirect(hostname="n.example"), response_headers(set=[{"name": "X-Why", "value": "moved"}])]),
    }
    serve(running, mirror, **rules)
    for host, path, status, location in (
        ("to-tls", "/a?b=c", 302, "https://to-tls/a?b=c"),
        ("to-tls", "/a?", 302, "https://to-tls/a"),
        ("port", "/", 301, "http://port:8080/"),
        ("known", "/", 302, "https://known/"),
        ("plain", "/a%20b", 302, "http://plain/a%20b"),
        ("host", "/a", 308, "http://new.example/a"),
        ("whole", "/a/b?c", 303, "http://whole/all?c"),
        ("prefix", "/foo/a?b", 307, "http://prefix/bar/a?b"),
        ("prefix", "/foo", 307, "http://prefix/bar"),
        ("nothing", "/foo", 302, "http://nothing/"),
        ("nothing", "/foo/a", 302, "http://nothing/a"),
        ("all", "/foo/a", 302, "https://n.example:8443/x/a"),
    ):
        asked = Asked(running, host, path, {})
        assert (asked.status, asked.headers["Location"]) == (status, location), (host, path)
    assert Asked(running, "TO-tls:10080", "/", {}).headers["Location"] == "https://to-tls/"
    assert Asked(running, "said", "/", {}).headers["X-Why"] == "moved"


@pytest.mark.root
def test_a_rule_without_a_backend_that_exists_answers_500(running: Running, mirror: Mirror) -> None:
    gone, idle = TargetGroup("gone", resolved=False), TargetGroup("idle")
    running.serve(PathRule("gone", "/", "gone"), PathRule("idle", "/", "idle"), groups=(gone, idle))
    running.wait(lambda: Asked(running, "gone", "/", {}).status == 500)
    assert Asked(running, "idle", "/", {}).status == 503
    assert running.serve(PathRule("gone", "/", "gone"), groups=(TargetGroup("gone", (mirror.target,)),)), (
        "a reload, as more than endpoints has changed"
    )
    running.wait(lambda: Asked(running, "gone", "/", {}).status == 200)
