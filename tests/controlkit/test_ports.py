"""The ports of controller manager and scheduler, over TLS: who gets through, and what is there."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.controlplane import ControlPlane, control_plane
from tests.wire.certificates import Authority

COMPONENTS = ("kube-controller-manager", "kube-scheduler")


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("plane")) as made:
        yield made


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize(
    ("path", "user", "status"),
    [
        *(("/healthz", "", 200), ("/livez", "", 200), ("/readyz", "", 200), ("/metrics", "", 403)),
        *(("/metrics", "nobody", 403), ("/metrics", "watcher", 200), ("/metrics/slis", "watcher", 200)),
        *(("/statusz", "watcher", 200), ("/flagz", "watcher", 200), ("/configz", "watcher", 403)),
        *(("/configz", "admin", 200), ("/nothing", "admin", 404), ("/healthz", "stranger", 401)),
    ],
)
def test_the_api_server_says_who_may(plane: ControlPlane, component: str, path: str, user: str, status: int) -> None:
    answer = plane.get(component, path, user=user)
    assert answer.status == status, answer.text
    if status == 403:
        name = user or "system:anonymous"
        said = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 403}
        said |= {"message": f'forbidden: User "{name}" cannot get path "{path}"', "reason": "Forbidden", "details": {}}
        assert json.loads(answer.text) == said


@pytest.mark.parametrize("component", COMPONENTS)
def test_profiles_are_for_those_who_may_see_them(plane: ControlPlane, component: str) -> None:
    assert plane.get(component, "/debug/pprof/", user="watcher").status == 403
    assert "<a href='profile?seconds=30'>" in plane.get(component, "/debug/pprof/", user="admin").text
    tasks = plane.get(component, "/debug/pprof/goroutine?debug=1", user="admin").text
    assert "thread MainThread" in tasks
    assert plane.get(component, "/debug/pprof/heap", user="admin").status == 404


@pytest.mark.parametrize("component", COMPONENTS)
def test_client_certificates_are_those_of_the_cluster(plane: ControlPlane, component: str) -> None:
    known, stranger = plane.clients, Authority("stranger")
    assert plane.get(component, "/metrics", user="nobody", authority=known).status == 403
    assert "nobody" in plane.get(component, "/metrics", user="nobody", authority=known).text
    assert plane.get(component, "/metrics", user="nobody", authority=stranger).status == 401


@pytest.mark.parametrize("component", COMPONENTS)
def test_health_names_its_checks(plane: ControlPlane, component: str) -> None:
    verbose = plane.get(component, "/healthz?verbose").text.splitlines()
    assert "[+]leaderElection ok" in verbose
    assert verbose[-1] == "healthz check passed"
    assert "[+]leaderElection excluded: ok" in plane.get(component, "/healthz?verbose&exclude=leaderElection").text
    assert plane.get(component, "/healthz/leaderElection", user="admin").text == "ok"
    assert plane.get(component, "/healthz/nothing", user="admin").status == 404
    indicators = plane.get(component, "/metrics/slis", user="watcher").text
    assert 'kubernetes_healthcheck{name="leaderElection",type="healthz"} 1' in indicators
    assert 'kubernetes_healthchecks_total{name="leaderElection",status="success",type="healthz"}' in indicators


@pytest.mark.parametrize("component", COMPONENTS)
def test_pages_for_people_and_programs(plane: ControlPlane, component: str) -> None:
    text = plane.get(component, "/flagz", user="watcher").text
    assert text.startswith(f"\n{component} flagz\nWarning: ")
    assert f"\nsecure-port:{plane.ports[component]}\n" in text
    assert "\nkube-api-burst:" in text
    asked = "application/json;as=Statusz;g=config.k8s.io;v=v1beta1"
    answer = plane.get(component, "/statusz", user="watcher", accept=asked)
    status = json.loads(answer.text)
    assert (status["kind"], status["metadata"]) == ("Statusz", {"name": component})
    assert "/healthz" in status["paths"]
    assert plane.get(component, "/statusz", user="watcher", accept="application/json").status == 406


def test_configurations_are_shown_without_keys(plane: ControlPlane) -> None:
    manager = json.loads(plane.get("kube-controller-manager", "/configz", user="admin").text)
    shown = manager["kubecontrollermanager.config.k8s.io"]
    assert shown["concurrentGcSyncs"] == 20
    assert "serviceAccountSigningKey" not in shown
    assert "profiles" in json.loads(plane.get("kube-scheduler", "/configz", user="admin").text)["componentconfig"]
