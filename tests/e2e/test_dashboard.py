"""The dashboard in a real browser, on a real cluster: what people do with it, by mouse and by keyboard.

Chromium is Debian's; it runs in the cluster's network namespace. The tests run in order, on one cluster.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.visits import Visit, chromium
from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine
from tiphys.cli.status import proportional_memory

pytest.importorskip("playwright.sync_api")
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
        ports: [{containerPort: 8080}]
        resources: {requests: {cpu: 10m, memory: 16Mi}}
        command: [sh, -c, "httpd -p 8080 -h /tmp; i=0; while :; do i=$((i+1)); echo request $i; sleep 0.2; done"]
      - {name: sidecar, image: "tiphys.local/demo:1", command: [sh, -c, "echo spans flushed; sleep 100000"]}
---
apiVersion: v1
kind: Pod
metadata: {name: too-big}
spec:
  nodeSelector: {disk: ssd}
  containers: [{name: main, image: "tiphys.local/demo:1", resources: {requests: {cpu: "64"}}}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, labels: {app: agent}}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: main, image: "tiphys.local/demo:1", command: [sleep, "100000"]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shell}
spec:
  replicas: 0
  selector: {matchLabels: {app: shell}}
  template: {metadata: {labels: {app: shell}}, spec: {containers: [{name: c, image: "tiphys.local/demo:1"}]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: records}
spec: {accessModes: [ReadWriteOnce], storageClassName: local, resources: {requests: {storage: 64Mi}}}
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
    with chromium(cluster) as made:
        yield made


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


def names_of(cluster: Machine, selector: str) -> set[str]:
    return {pod["metadata"]["name"] for pod in cluster.get("pods", "-l", selector)["items"]}


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


def test_every_kind_that_can_be_listed_is_there(cluster: Machine, owner: Visit) -> None:
    found = cluster.kubectl("api-resources", "--verbs=list", "--no-headers").splitlines()
    served = {(line.split()[-3].rpartition("/")[0], line.split()[0]) for line in found}
    links = "Array.from(document.querySelectorAll('nav a[href^=\"#/r/\"]'), link => link.getAttribute('href'))"
    shown = {(group, plural) for _, _, group, _, plural in (link.split("/") for link in owner.page.evaluate(links))}
    assert {("" if group == "core" else group, plural) for group, plural in shown} == served


def test_a_table_is_filtered_by_words_labels_and_namespace(cluster: Machine, owner: Visit) -> None:
    owner.open("/r/core/v1/pods")
    owner.page.get_by_role("grid").wait_for()
    web, agents = names_of(cluster, "app=web"), names_of(cluster, "app=agent")
    field = owner.page.get_by_label("Filter: words, app=web, app!=web")
    for words, wanted in (("app=web", web), ("app!=web", agents | {"too-big"}), ("too-b pend", {"too-big"})):
        field.fill(words)
        wait_for(lambda wanted=wanted: set(owner.rows()) == wanted, 60, words)
    field.fill("")
    chosen = owner.page.locator("select#namespace")
    chosen.select_option("kube-public")
    owner.see("The namespace kube-public has none.")
    chosen.select_option("")
    wait_for(lambda: set(owner.rows()) >= web, 60, "all pods")


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


def test_fields_are_completed_from_the_published_schema(owner: Visit) -> None:
    owner.open("/o/core/v1/configmaps/default/settings")
    owner.button("Edit").click()
    owner.page.locator("dialog .cm-content").get_by_text("currency", exact=True).wait_for()
    replace(owner, "kind: ConfigMap", r"kind: ConfigMap\nimmut")
    owner.page.locator("dialog .cm-line").get_by_text(re.compile("^immut$")).click()
    owner.page.keyboard.press("End")
    owner.page.keyboard.press("Control+Space")
    owner.page.locator(".cm-tooltip-autocomplete").get_by_text("immutable", exact=True).wait_for()
    owner.see("Immutable, if set to true, ensures that data stored")
    owner.page.keyboard.press("Escape")
    owner.button("Cancel").click()


def test_a_deployment_is_scaled_and_rolled_back_by_its_history(cluster: Machine, owner: Visit) -> None:
    owner.open("/o/apps/v1/deployments/default/web")
    owner.button("Scale").click()
    owner.page.get_by_label("Replicas").fill("1")
    owner.page.keyboard.press("Enter")
    wait_for(lambda: cluster.get("deploy", "web")["spec"]["replicas"] == 1, 60, "one replica")
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


def test_a_restart_replaces_the_pods(cluster: Machine, owner: Visit) -> None:
    wait_for(lambda: len(cluster.get("pods", "-l", "app=web")["items"]) == 1, 30, "one pod")
    before = pod_of(cluster)
    owner.open("/o/apps/v1/deployments/default/web")
    owner.act("Restart")
    template = wait_for(
        lambda: cluster.get("deploy", "web")["spec"]["template"]["metadata"].get("annotations"), 60, "the annotation"
    )
    assert list(template) == ["kubectl.kubernetes.io/restartedAt"]
    wait_for(lambda: before not in names_of(cluster, "app=web"), 30, "that the pod before goes")
    cluster.kubectl("rollout", "status", "deploy/web", "--timeout=60s", timeout=70)


def test_deletion_takes_what_is_owned_or_leaves_it(cluster: Machine, owner: Visit) -> None:
    sets = lambda: cluster.get("replicasets", "-l", "app=shell")["items"]  # noqa: E731
    wait_for(lambda: len(sets()) == 1, 60, "the ReplicaSet")
    owner.open("/o/apps/v1/deployments/default/shell")
    owner.button("Delete").click()
    owner.page.get_by_role("dialog").get_by_text("Alone", exact=True).click()
    owner.page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    owner.page.locator("dialog").wait_for(state="detached")
    wait_for(lambda: cluster.run("kubectl", "get", "deploy", "shell", check=False).returncode == 1, 60, "its end")
    (left,) = sets()
    wait_for(lambda: "ownerReferences" not in sets()[0]["metadata"], 60, "that nobody owns it")
    owner.open(f"/o/apps/v1/replicasets/default/{left['metadata']['name']}")
    owner.button("Delete").click()
    owner.page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    wait_for(lambda: not sets(), 60, "its end")


def test_a_pod_shows_who_made_it_what_happened_and_how_long_each_part_took(cluster: Machine, owner: Visit) -> None:
    pod = cluster.get("pod", pod_of(cluster))
    owner.open(f"/o/core/v1/pods/default/{pod['metadata']['name']}")
    tree = owner.page.locator(".tree")
    for kind in ("Deployment", "ReplicaSet", "Pod"):
        tree.get_by_text(kind, exact=True).wait_for()
    events = owner.page.get_by_role("group", name="Events")
    for reason, by in (("Scheduled", "default-scheduler"), ("Started", "kubelet")):
        events.get_by_role("row").filter(has=owner.page.get_by_role("cell", name=reason, exact=True)).filter(
            has_text=by
        ).first.wait_for()
    steps = owner.page.locator(".timeline").get_by_role("listitem")
    steps.last.wait_for()
    said = [steps.nth(number).get_attribute("aria-label").rpartition(", ") for number in range(steps.count())]
    parts = [part for part, _, _ in said]
    assert parts[:2] == ["finds a node, by scheduler", "sandbox, volumes, network, by kubelet"]
    assert {"starts http, by runtime", "starts sidecar, by runtime"} < set(parts)
    assert parts[-1] == "becomes ready, by app"
    (ready,) = [each for each in pod["status"]["conditions"] if each["type"] == "Ready"]
    took = seconds_between(pod["metadata"]["creationTimestamp"], ready["lastTransitionTime"])
    card = owner.page.locator(".card").filter(has_text="From created to ready")
    shown = card.get_by_text(re.compile(r"^(\d+ ms|\d+\.\d s|\d+s)$")).first.inner_text()
    assert in_seconds(shown) == pytest.approx(max(took, 1.0), abs=0.05)


def seconds_between(first: str, second: str) -> float:
    return (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds()


def in_seconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+) ?(ms|s)", text).groups()
    return float(number) / (1000 if unit == "ms" else 1)


def test_usage_is_drawn(cluster: Machine, owner: Visit) -> None:
    both = r"(?=.*http [\d.]+ [KM]iB).*sidecar [\d.]+ [KM]iB"
    for route, named in ((f"/o/core/v1/pods/default/{pod_of(cluster)}", both),
                         (f"/o/core/v1/nodes/-/{node_of(cluster)}", r"\S+ [\d.]+ [MG]iB")):  # fmt: skip
        wait_for(
            lambda: cluster.run("kubectl", "top", "pod", pod_of(cluster), check=False).returncode == 0, 90, "figures"
        )
        owner.open(f"{route}?tab=usage")
        chart = rf"^Memory of \S+: now {named}$"
        owner.page.get_by_role("img", name=re.compile(chart)).wait_for(timeout=60_000)
        assert owner.drawn(chart)


def node_of(cluster: Machine) -> str:
    name: str = cluster.get("nodes")["items"][0]["metadata"]["name"]
    return name


def test_logs_follow_and_are_found(cluster: Machine, owner: Visit) -> None:
    wait_for(lambda: len(cluster.get("pods", "-l", "app=web")["items"]) == 1, 30, "one pod")
    owner.open(f"/o/core/v1/pods/default/{pod_of(cluster)}?tab=logs")
    log = owner.page.get_by_role("log")
    log.get_by_text("request").last.wait_for()

    def last() -> int:
        return max(map(int, re.findall(r"request (\d+)", log.inner_text())))

    before = last()
    wait_for(lambda: last() > before + 3, 60, "further lines")
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
    wait_for(lambda: cluster.run("kubectl", *read, check=False).stdout == "42\n", 60, "the command")
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


def test_the_command_to_forward_a_port_works(cluster: Machine, owner: Visit) -> None:
    owner.open(f"/o/core/v1/pods/default/{pod_of(cluster)}")
    command = owner.page.get_by_text("kubectl port-forward").inner_text()
    process = cluster.start(*command.split())
    try:
        asked = lambda: cluster.run("curl", "-fs", "http://127.0.0.1:8080/answer", check=False).stdout  # noqa: E731
        assert wait_for(asked, 60, "the file of the test before") == "42\n"
    finally:
        process.terminate()
        process.wait(10)


def test_a_pending_pod_says_what_would_let_it_run(owner: Visit) -> None:
    owner.open("/o/core/v1/pods/default/too-big")
    owner.see("The scheduler says:")
    owner.see("label the node disk=ssd, or drop it from nodeSelector")
    owner.see("64 are requested")


def test_views_of_storage_policies_and_access(cluster: Machine, owner: Visit) -> None:
    owner.open("/storage")
    claims = owner.page.locator(".card").filter(has_text="Claims (1)")
    claims.get_by_role("row").filter(has_text="records").filter(has_text="Pending").wait_for()
    owner.see("local.tiphys")
    owner.open("/policies")
    owner.see("nothing")
    for side in ("From", "to"):
        owner.page.get_by_label(side, exact=True).fill(f"default/{pod_of(cluster)}")
    owner.page.get_by_role("status").get_by_text("as closed let nothing of this through").wait_for()
    owner.open("/access")
    owner.page.get_by_label("Who can").select_option("delete")
    owner.page.get_by_label("Resource").fill("secrets")
    owner.page.get_by_role("cell", name="default/owner", exact=True).wait_for()
    assert owner.page.get_by_role("cell", name="default/reader", exact=True).count() == 0
    owner.page.get_by_role("tab", name="What somebody can").click()
    owner.page.get_by_label("Subject").fill("ServiceAccount default/reader")
    owner.page.get_by_role("heading", name="ClusterRole view in default").wait_for()


def test_a_nodes_bars_say_what_is_used_and_requested(cluster: Machine, owner: Visit) -> None:
    owner.open(f"/o/core/v1/nodes/-/{node_of(cluster)}")
    pods = len([pod for pod in cluster.get("pods", "-A")["items"] if pod["spec"].get("nodeName")])
    bar = lambda name: owner.page.get_by_role("meter", name=re.compile(f"^{name}"))  # noqa: E731
    bar(f"Pods: {pods} of 110$").wait_for()
    assert bar("Pods").get_attribute("aria-valuenow") == str(round(100 * pods / 110))
    bar(r"CPU: .* used, 10m requested of \d").wait_for(timeout=60_000)
    bar(r"Memory: .* used, 16.0 MiB requested of .* GiB$").wait_for()


def test_a_node_is_cordoned(cluster: Machine, owner: Visit) -> None:
    (node,) = cluster.get("nodes")["items"]
    owner.open(f"/o/core/v1/nodes/-/{node['metadata']['name']}")
    for word, wanted in (("Cordon", True), ("Uncordon", None)):
        owner.act(word)
        wait_for(
            lambda wanted=wanted: cluster.get("nodes")["items"][0]["spec"].get("unschedulable") == wanted, 60, word
        )


BUDGET = """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
"""


def test_a_node_is_drained_as_budgets_allow(cluster: Machine, owner: Visit) -> None:
    cluster.apply(BUDGET)
    wait_for(lambda: cluster.get("pdb", "web").get("status", {}).get("expectedPods") == 1, 30, "the budget's status")
    leaving, name = pod_of(cluster), node_of(cluster)
    owner.open(f"/o/core/v1/nodes/-/{name}")
    owner.act("Drain")
    owner.button("Drain").click()
    rows = owner.page.get_by_role("dialog").get_by_role("row")
    rows.filter(has_text=leaving).get_by_text("waits: Cannot evict pod").wait_for()
    rows.filter(has_text="agent-").get_by_text("stays: of a DaemonSet").wait_for()
    assert cluster.get("node", name)["spec"]["unschedulable"] is True
    assert pod_of(cluster) == leaving
    cluster.kubectl("delete", "pdb", "web")
    rows.filter(has_text=leaving).get_by_text("gone").wait_for(timeout=60_000)
    owner.see(f"{name} is drained: 1 pod left")
    owner.page.locator("dialog footer").get_by_role("button", name="Close").click()
    assert {pod["spec"].get("nodeName") for pod in cluster.get("pods", "-l", "app=web")["items"]} == {None}
    owner.act("Uncordon")
    cluster.kubectl("rollout", "status", "deploy/web", "--timeout=60s", timeout=70)


def test_dark_and_light_by_the_system_and_by_choice(owner: Visit) -> None:
    owner.open("/")

    def brightness() -> float:
        colour = owner.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / (3 * 255)

    owner.page.emulate_media(color_scheme="dark")
    wait_for(lambda: brightness() < 0.2, 60, "a dark page")
    owner.page.emulate_media(color_scheme="light")
    wait_for(lambda: brightness() > 0.8, 60, "a light page")
    owner.page.get_by_role("heading", name="Cluster").first.wait_for()
    owner.page.keyboard.press("t")
    wait_for(lambda: brightness() < 0.2, 60, "a page that is dark by choice")
    for _ in range(2):
        owner.page.keyboard.press("t")


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
    wait_for(lambda: cluster.run("kubectl", "get", "cm", "doomed", check=False).returncode == 1, 60, "its end")


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


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: npm install in dashboard/")
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


MANY = 5000


@pytest.mark.slow
def test_five_thousand_pods_scroll(cluster: Machine, browser: Any, owner: Visit) -> None:
    """Pods that no scheduler takes, and what their table costs."""
    python = cluster.tiphys_program.parent / "python"
    cluster.run(python, "-c", MAKE, cluster.folder / "kubeconfig", str(MANY), timeout=280)
    owner.open("/r/core/v1/pods")
    status = owner.page.get_by_role("status").first
    began = time.monotonic()
    wait_for(lambda: status.inner_text().startswith("5,0"), 60, "all rows")
    listed = time.monotonic() - began
    frame = owner.page.get_by_role("grid").evaluate(SCROLL)
    owner.context.new_cdp_session(owner.page).send("HeapProfiler.collectGarbage")
    rows, memory = owner.page.locator(".vt-row").count(), largest_renderer(browser)
    field = owner.page.get_by_label("Filter: words, app=web, app!=web")
    began = time.monotonic()
    field.fill("many-4321")
    wait_for(lambda: owner.rows() == ["many-4321"], 60, "the one row")
    found = time.monotonic() - began
    times = f"listed in {listed:.1f} s, found in {found:.1f} s, a frame takes {frame:.0f} ms"
    print(f"\n{MANY} pods: {times}; {rows} rows exist, {memory:.0f} MB")
    assert rows < 100
    assert memory < 200
    field.fill("")


def largest_renderer(browser: Any) -> float:
    """Megabytes of the largest process of pages, each page that is shared counted in parts."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    pages = [each["id"] for each in processes if each["type"] == "renderer"]
    return max(proportional_memory(pid) for pid in pages) * 1024 / 1e6


MAKE = """
import asyncio, sys
from pathlib import Path
from tiphys.client.kubeconfig import connected
from tiphys.client.resources import PODS

SPEC = {"schedulerName": "nobody", "containers": [{"name": "c", "image": "none.example/none:1"}]}

def pod(number):
    meta = {"name": f"many-{number}", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": SPEC}

async def main():
    async with connected(Path(sys.argv[1]), "many") as client:
        for first in range(0, int(sys.argv[2]), 50):
            await asyncio.gather(*(client.create(PODS, pod(n), namespace="default") for n in range(first, first + 50)))

asyncio.run(main())
"""
SCROLL = """async grid => {
    const times = [];
    let last = performance.now();
    for (let n = 1; n <= 100; n++) {
        grid.scrollTop = n * grid.scrollHeight / 100;
        await new Promise(requestAnimationFrame);
        times.push(performance.now() - last);
        last = performance.now();
    }
    return times.sort((a, b) => a - b)[50];
}"""


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
