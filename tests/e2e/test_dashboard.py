"""The dashboard in a real browser, on a real cluster: what people do with it, by mouse and by keyboard.

Chromium is Debian's; it runs in the cluster's network namespace. The tests run in order, on one cluster.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser: apt-get install chromium"),
]
ROOT = Path(__file__).parents[2]
AXE = ROOT / "dashboard" / "node_modules" / "axe-core" / "axe.min.js"
PORT = 8443
SHOP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: http
        image: tiphys.local/demo:1
        command: [sh, -c, "i=0; while :; do i=$((i+1)); echo request $i; sleep 0.2; done"]
      - {name: sidecar, image: "tiphys.local/demo:1", command: [sh, -c, "echo spans flushed; sleep 100000"]}
---
apiVersion: v1
kind: Pod
metadata: {name: too-big}
spec:
  nodeSelector: {disk: ssd}
  containers: [{name: main, image: "tiphys.local/demo:1", resources: {requests: {cpu: "64"}}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {currency: EUR, greeting: hello}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress], ingress: []}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machine]:
    with new_machine("tiphys-web") as made:
        made.tiphys("up", timeout=180)
        made.apply(SHOP)
        made.kubectl("create", "serviceaccount", "owner")
        made.kubectl(
            "create", "clusterrolebinding", "owner", "--clusterrole=cluster-admin", "--serviceaccount=default:owner"
        )
        made.kubectl("create", "serviceaccount", "reader")
        made.kubectl("create", "rolebinding", "reader", "--clusterrole=view", "--serviceaccount=default:reader")
        made.kubectl("rollout", "status", "deploy/web", "--timeout=90s", timeout=100)
        yield made


@pytest.fixture(scope="module")
def url(cluster: Machine) -> Iterator[str]:
    """The server as its pod runs it, without any credential of its own."""
    authority = cluster.folder / "data" / "pki" / "ca.crt"
    server = cluster.status()["server"]
    flags = (f"--server={server}", f"--certificate-authority={authority}", f"--cert-dir={cluster.folder}/certificates")
    log = cluster.folder / "dashboard.log"
    process = cluster.start(
        cluster.tiphys_program,
        "dashboard-server",
        *flags,
        f"--secure-port={PORT}",
        "--bind-address=127.0.0.1",
        output=log,
    )
    address = f"https://127.0.0.1:{PORT}"
    try:
        wait_for(
            lambda: cluster.run("curl", "-fsk", f"{address}/readyz", check=False).stdout == "ok", 30, "the dashboard"
        )
        yield address
    finally:
        process.terminate()
        process.wait(10)
        assert "eyJ" not in log.read_text(), "a token is in the log"


@pytest.fixture(scope="module")
def browser(cluster: Machine) -> Iterator[Any]:
    wrapper = cluster.folder / "chromium"
    wrapper.write_text(f'#!/bin/sh\nexec nsenter --net=/run/netns/{cluster.namespace} chromium "$@"\n')
    wrapper.chmod(0o755)
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=str(wrapper), args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


class Visit:
    """One window, and what went wrong in it."""

    def __init__(self, browser: Any, url: str) -> None:
        self.context = browser.new_context(ignore_https_errors=True, viewport={"width": 1440, "height": 900})
        self.page = self.context.new_page()
        self.url = url
        self.troubles: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on(
            "console", lambda said: self.troubles.append(said.text) if "Content Security" in said.text else None
        )
        self.page.on("request", lambda request: self.hosts.add(re.sub(r"^(\w+://[^/]*).*", r"\1", request.url)))
        self.page.set_default_timeout(20_000)

    def log_in(self, token: str) -> None:
        self.page.goto(self.url)
        self.page.get_by_label("Token").fill(token)
        self.page.keyboard.press("Enter")
        self.page.get_by_role("navigation", name="Main").wait_for()

    def open(self, route: str) -> None:
        self.page.evaluate("route => { location.hash = route }", route)

    def see(self, text: str) -> None:
        self.page.get_by_text(text).first.wait_for()

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    def close(self) -> None:
        self.context.close()
        assert self.troubles == []
        assert self.hosts <= {self.url, self.url.replace("https", "wss")}, "nothing is asked of another host"


@pytest.fixture
def visit(browser: Any, url: str) -> Iterator[Visit]:
    made = Visit(browser, url)
    yield made
    made.close()


@pytest.fixture(scope="module")
def owner(cluster: Machine, browser: Any, url: str) -> Iterator[Visit]:
    made = Visit(browser, url)
    made.log_in(cluster.kubectl("create", "token", "owner").strip())
    yield made
    made.close()


def pod_of(cluster: Machine) -> str:
    name: str = cluster.get("pods", "-l", "app=web")["items"][0]["metadata"]["name"]
    return name


def test_who_has_no_token_stays_outside(visit: Visit) -> None:
    visit.page.goto(visit.url)
    visit.page.get_by_label("Token").fill("nonsense")
    visit.page.keyboard.press("Enter")
    visit.see("does not accept this token")


def test_a_session_leaves_no_token_in_the_browser(owner: Visit) -> None:
    kept = owner.page.evaluate(
        "JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie, location.href])"
    )
    assert "eyJ" not in kept
    assert "__Host-tiphys" not in kept, "scripts cannot read the cookie"


def test_a_new_tab_is_logged_in_and_a_reload_too(owner: Visit) -> None:
    tab = owner.context.new_page()
    tab.goto(f"{owner.url}/#/r/core/v1/configmaps")
    tab.get_by_role("link", name="settings", exact=True).wait_for()
    tab.reload()
    tab.get_by_role("link", name="settings", exact=True).wait_for()
    tab.close()


def test_a_table_is_live(cluster: Machine, owner: Visit) -> None:
    owner.open("/r/core/v1/configmaps")
    owner.see("settings")
    cluster.kubectl("create", "configmap", "fresh")
    owner.page.get_by_role("link", name="fresh", exact=True).wait_for()
    cluster.kubectl("delete", "configmap", "fresh")
    owner.page.get_by_role("link", name="fresh", exact=True).wait_for(state="detached")


def test_an_edit_is_tried_shown_and_written(cluster: Machine, owner: Visit) -> None:
    owner.open("/o/core/v1/configmaps/default/settings")
    owner.button("Edit").click()
    owner.page.locator("dialog .cm-content").get_by_text("currency", exact=True).wait_for()
    replace(owner, "currency: EUR", "currency: CHF")
    owner.button("Review changes").click()
    owner.see("The server accepts this (dry run)")
    assert cluster.get("configmap", "settings")["data"]["currency"] == "EUR", "nothing is written yet"
    owner.button("Apply").click()
    owner.page.locator("dialog").wait_for(state="detached")
    assert cluster.get("configmap", "settings")["data"]["currency"] == "CHF"


def replace(visit: Visit, old: str, new: str) -> None:
    """Change a text in the editor as a person does: select it, and type."""
    visit.page.locator("dialog .cm-content").click()
    visit.page.keyboard.press("Control+f")
    field = visit.page.locator(".cm-search input[name=search]")
    field.fill(old)
    visit.page.locator(".cm-search input[name=replace]").fill(new)
    visit.page.locator(".cm-search button[name=replaceAll]").click()
    visit.page.keyboard.press("Escape")


def test_a_conflict_is_shown_and_both_changes_can_stand(cluster: Machine, owner: Visit) -> None:
    owner.open("/o/core/v1/configmaps/default/settings")
    owner.button("Edit").click()
    owner.page.locator("dialog .cm-content").get_by_text("greeting", exact=True).wait_for()
    replace(owner, "greeting: hello", "greeting: ahoy")
    cluster.kubectl("patch", "configmap", "settings", "-p", '{"data":{"currency":"SEK"}}')
    owner.button("Review changes").click()
    owner.see("Somebody changed this object meanwhile")
    owner.see("both can stand")
    owner.button("Put my change on the newest version").click()
    owner.button("Review changes").click()
    owner.button("Apply").click()
    owner.page.locator("dialog").wait_for(state="detached")
    assert cluster.get("configmap", "settings")["data"] == {"currency": "SEK", "greeting": "ahoy"}


def test_what_is_wrong_is_marked_while_typing_and_refused_by_the_server(owner: Visit) -> None:
    owner.open("/o/apps/v1/deployments/default/web")
    owner.button("Edit").click()
    owner.page.locator("dialog .cm-content").get_by_text("replicas").first.wait_for()
    replace(owner, "replicas: 2\n", "replica: 2\n")
    owner.page.locator(".cm-lintRange-error").first.wait_for()
    owner.button("Review changes").click()
    owner.page.get_by_role("alert").get_by_text("unknown field").first.wait_for()
    owner.button("Cancel").click()


def test_a_deployment_is_scaled_and_rolled_back_by_its_history(cluster: Machine, owner: Visit) -> None:
    owner.open("/o/apps/v1/deployments/default/web")
    owner.button("Scale").click()
    owner.page.get_by_label("Replicas").fill("1")
    owner.page.keyboard.press("Enter")
    wait_for(lambda: cluster.get("deploy", "web")["spec"]["replicas"] == 1, 10, "one replica")
    owner.page.get_by_role("tree").or_(owner.page.locator(".tree")).get_by_text("ReplicaSet").first.wait_for()
    cluster.kubectl("set", "env", "deploy/web", "COLOUR=blue")
    owner.page.get_by_role("tab", name="History").click()
    owner.button("Compare and roll back").first.click()
    owner.page.locator("dialog [data-diff]").get_by_text("COLOUR").first.wait_for()
    owner.page.get_by_role("button", name=re.compile("^Roll back to revision")).click()
    owner.page.locator("dialog").wait_for(state="detached")
    containers = cluster.get("deploy", "web")["spec"]["template"]["spec"]["containers"]
    assert "env" not in containers[0]
    cluster.kubectl("rollout", "status", "deploy/web", "--timeout=60s", timeout=70)


def test_logs_follow_and_are_found(cluster: Machine, owner: Visit) -> None:
    wait_for(lambda: len(cluster.get("pods", "-l", "app=web")["items"]) == 1, 30, "one pod")
    owner.open(f"/o/core/v1/pods/default/{pod_of(cluster)}?tab=logs")
    log = owner.page.get_by_role("log")
    log.get_by_text("request").last.wait_for()

    def last() -> int:
        return max(map(int, re.findall(r"request (\d+)", log.inner_text())))

    before = last()
    wait_for(lambda: last() > before + 3, 10, "further lines")
    owner.page.get_by_label("Find in the log").fill("spans")
    owner.page.get_by_label("Only hits").check()
    log.get_by_text("flushed").wait_for()
    assert "request" not in log.inner_text()
    with owner.page.expect_download() as download:
        owner.page.get_by_role("button", name="Save the log").click()
    assert "request 1\n" in Path(download.value.path()).read_text()


def test_a_terminal_runs_commands(cluster: Machine, owner: Visit) -> None:
    owner.open(f"/o/core/v1/pods/default/{pod_of(cluster)}?tab=terminal")
    owner.see("connected")
    owner.page.keyboard.type("echo $((6*7)) > /tmp/answer; stty size\n")
    read = ("exec", pod_of(cluster), "-c", "http", "--", "cat", "/tmp/answer")
    wait_for(lambda: cluster.run("kubectl", *read, check=False).stdout == "42\n", 15, "the command")
    owner.page.locator(".xterm").get_by_text(re.compile(r"\d+ \d\d+")).first.wait_for()


def test_files_are_saved_and_sent(cluster: Machine, owner: Visit) -> None:
    owner.open(f"/o/core/v1/pods/default/{pod_of(cluster)}?tab=files")
    owner.page.get_by_role("link", name="tmp", exact=True).click()
    with owner.page.expect_download() as download:
        owner.button("Save answer").click()
    assert Path(download.value.path()).read_text() == "42\n"
    sent = cluster.folder / "sent.bin"
    sent.write_bytes(bytes(range(256)) * 300)
    owner.page.locator("input[type=file]").set_input_files(str(sent))
    owner.see("sent.bin is in /tmp")
    read = ("exec", pod_of(cluster), "-c", "http", "--", "md5sum", "/tmp/sent.bin")
    assert cluster.kubectl(*read).split()[0] == cluster.run("md5sum", sent).stdout.split()[0]


def test_a_pending_pod_says_what_would_let_it_run(owner: Visit) -> None:
    owner.open("/o/core/v1/pods/default/too-big")
    owner.see("The scheduler says:")
    owner.see("label the node disk=ssd, or drop it from nodeSelector")
    owner.see("64 are requested")


def test_views_of_storage_policies_and_access(owner: Visit) -> None:
    owner.open("/storage")
    owner.see("local.tiphys")
    owner.open("/policies")
    owner.see("nothing")
    owner.open("/access")
    owner.see("default/owner")


def test_a_node_is_cordoned(cluster: Machine, owner: Visit) -> None:
    (node,) = cluster.get("nodes")["items"]
    owner.open(f"/o/core/v1/nodes/-/{node['metadata']['name']}")
    for word, wanted in (("Cordon", True), ("Uncordon", None)):
        owner.button("More actions").click()
        owner.page.get_by_role("menuitem", name=word, exact=True).click()
        wait_for(
            lambda wanted=wanted: cluster.get("nodes")["items"][0]["spec"].get("unschedulable") == wanted, 10, word
        )


def test_custom_resources_appear_by_themselves(cluster: Machine, owner: Visit) -> None:
    cluster.apply(
        """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ships.argo.example}
spec:
  group: argo.example
  scope: Namespaced
  names: {plural: ships, singular: ship, kind: Ship}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {oars: {type: integer}}}}}}
    additionalPrinterColumns: [{name: Oars, type: integer, jsonPath: .spec.oars}]
"""
    )
    owner.page.get_by_text("argo.example").first.click()
    owner.page.get_by_role("link", name="Ship", exact=True).click()
    owner.see("No Ships here")
    cluster.apply("apiVersion: argo.example/v1\nkind: Ship\nmetadata: {name: argo}\nspec: {oars: 50}\n")
    row = owner.page.get_by_role("row").filter(has_text="argo")
    row.get_by_text("50").wait_for()
    cluster.kubectl("delete", "ship", "argo")
    owner.see("No Ships here")
    cluster.kubectl("delete", "crd", "ships.argo.example")


def test_by_keyboard_alone_an_object_is_found_and_deleted(cluster: Machine, owner: Visit) -> None:
    cluster.kubectl("create", "configmap", "doomed")
    keyboard = owner.page.keyboard
    owner.open("/")
    owner.page.get_by_role("heading", name="Cluster").first.wait_for()
    keyboard.press("Control+k")
    owner.page.get_by_role("combobox", name="Go to").wait_for()
    keyboard.type("cm")
    keyboard.press("Enter")
    owner.page.get_by_role("link", name="doomed", exact=True).wait_for()
    keyboard.press("/")
    keyboard.type("doomed")
    owner.page.get_by_role("grid").focus()
    keyboard.press("j")
    owner.page.locator(".vt-row:focus").wait_for()
    keyboard.press("d")
    owner.page.get_by_role("dialog").get_by_text("Delete ConfigMap doomed?").wait_for()
    owner.button("Delete").focus()
    keyboard.press("Enter")
    wait_for(lambda: cluster.run("kubectl", "get", "cm", "doomed", check=False).returncode == 1, 10, "its end")


def test_rbac_decides_what_is_shown(cluster: Machine, visit: Visit) -> None:
    visit.log_in(cluster.kubectl("create", "token", "reader").strip())
    visit.page.get_by_label("Namespace", exact=True).wait_for()
    visit.open("/r/core/v1/secrets")
    visit.see("You may not see this")
    namespace = visit.page.locator("input#namespace")
    namespace.fill("default")
    namespace.press("Enter")
    visit.see('cannot list resource "secrets"')
    visit.open("/r/core/v1/configmaps")
    visit.page.get_by_role("link", name="settings", exact=True).click()
    visit.button("Delete").click()
    visit.page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    visit.see('cannot delete resource "configmaps"')
    assert cluster.get("configmap", "settings")["data"]["currency"] == "SEK"


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: npm ci in dashboard/")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(cluster: Machine, owner: Visit, scheme: str) -> None:
    owner.page.emulate_media(color_scheme=scheme)
    pod = f"/o/core/v1/pods/default/{pod_of(cluster)}"
    routes = ("/", "/r/core/v1/pods", pod, f"{pod}?tab=logs", f"{pod}?tab=yaml", "/o/core/v1/pods/default/too-big",
              "/o/apps/v1/deployments/default/web?tab=history", "/storage", "/policies", "/access")  # fmt: skip
    source = AXE.read_text()
    for route in routes:
        owner.open(route)
        owner.page.locator("h1").first.wait_for()
        owner.page.wait_for_timeout(700)
        owner.page.evaluate(source)
        tags = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
        result = owner.page.evaluate("options => axe.run(document, options)", tags)
        faults = [(each["id"], [node["html"][:200] for node in each["nodes"]][:3]) for each in result["violations"]]
        assert faults == [], f"{route}: {json.dumps(faults, indent=1)}"


def test_logging_out_ends_what_is_open(owner: Visit) -> None:
    owner.open("/r/core/v1/pods")
    owner.page.get_by_role("grid").wait_for()
    asked = "fetch('/k8s/api/v1/pods').then(answer => answer.status)"
    assert owner.page.evaluate(asked) == 401, "the cookie alone opens nothing"
    key = owner.page.evaluate("sessionStorage.getItem('tiphys.key')")
    with_key = f"fetch('/k8s/api/v1/pods', {{headers: {{'x-tiphys-key': '{key}'}}}}).then(answer => answer.status)"
    assert owner.page.evaluate(with_key) == 200
    owner.page.get_by_role("button", name=re.compile("^Logged in as")).click()
    owner.page.get_by_role("menuitem", name="Log out").click()
    owner.page.get_by_label("Token").wait_for()
    assert owner.page.evaluate(with_key) == 401
