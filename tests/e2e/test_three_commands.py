"""docs/addons.md: dashboard, metrics and a load balancer in three commands, run as they are written there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.visits import Visit, chromium
from tests.machine import Machine, wait_for
from tests.machine import machine as new_machine

pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("chromium", "prometheus"))), reason="apt-get install chromium prometheus"
    ),
]
DOCUMENT = Path(__file__).parents[2] / "docs" / "addons.md"


def commands() -> list[str]:
    """What a reader types after "in three commands"."""
    listing = DOCUMENT.read_text().partition("in three commands")[2].partition("```console\n")[2].partition("```")[0]
    return [line.removeprefix("# ") for line in listing.splitlines()]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Machine]:
    """A machine on which nothing has run, whose `tiphys` keeps its data in the test's folder."""
    with new_machine("tiphys-three") as made:
        programs = made.folder / "bin"
        programs.mkdir()
        wrapper = programs / "tiphys"
        script = f'#!/bin/sh\nverb=$1; shift\nexec {made.tiphys_program} "$verb" --data-dir {made.folder}/data "$@"\n'
        wrapper.write_text(script)
        wrapper.chmod(0o755)
        made.environment["PATH"] = f"{programs}:{made.environment['PATH']}"
        yield made


def test_the_three_commands_do_what_they_say(cluster: Machine) -> None:
    up, load_balancer, dashboard = commands()
    cluster.run("sh", "-c", up, timeout=300)
    cluster.run("sh", "-c", load_balancer, timeout=60)
    log = cluster.folder / "dashboard.log"
    process = cluster.start("sh", "-c", f"exec {dashboard}", output=log)
    try:
        address = wait_for(lambda: outside(cluster), 60, "an address outside")
        assert wait_for(lambda: cluster.run("curl", "-sm2", "-o/dev/null", "-w%{http_code}", f"http://{address}/",
                                            check=False).stdout == "404", 60, "an answer of httpd")  # fmt: skip
        wait_for(lambda: cluster.run("kubectl", "top", "nodes", check=False).returncode == 0, 90, "kubectl top")
        url, code = wait_for(lambda: re.findall(r"Dashboard: (\S+)/\n  code to log in: (\S+)", log.read_text()), 30)[0]
        with chromium(cluster) as browser:
            visit = Visit(browser, url)
            visit.log_in(code, by="Code")
            visit.open("/r/core/v1/services")
            visit.page.get_by_role("row").filter(has_text="web").get_by_text(address).wait_for()
            charts(visit)
            visit.close()
    finally:
        process.terminate()
        process.wait(10)


def outside(cluster: Machine) -> str:
    ingress = cluster.get("service", "web")["status"]["loadBalancer"].get("ingress") or [{}]
    return str(ingress[0].get("ip", ""))


def charts(visit: Visit) -> None:
    """Prometheus' figures, each with a line that is drawn: of the API server, of containers and of the node."""
    visit.open("/charts")
    wait_for(lambda: re.search(r"(\d+) of \1 targets are up", visit.page.inner_text("body")), 120, "all targets")
    for name in (r"^API requests by verb: now .*\bGET [\d.,]+", r"^Containers on nodes: now \S+ \d+$",
                 r"^Memory by namespace: now .*default ", r"^Memory of nodes: now \S+ \d+ %$"):  # fmt: skip
        visit.page.get_by_role("img", name=re.compile(name)).wait_for(timeout=180_000)
        assert visit.drawn(name), name
