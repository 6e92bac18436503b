"""What `tiphys up` imports before a node is Ready: not what a node can do without until then."""

from __future__ import annotations

import subprocess
import sys

LATER = (
    "prometheus_client",
    "tiphys.cel.parsing",
    "tiphys.addons.metricsserver",
    "tiphys.csi.local",
)

_SHOW = """
import sys, tiphys.cli.up
from tiphys.cli.programs.lists import meanwhile, preload_apiserver
from tiphys.cluster.settings import Settings
preload_apiserver()
for step in meanwhile(Settings()):
    step()
print(*sys.modules)
"""


def test_what_comes_later_is_not_imported_before() -> None:
    done = subprocess.run([sys.executable, "-c", _SHOW], capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert "tiphys.kubelet.kubelet" in imported
    assert [name for name in imported if name.startswith(LATER)] == []
