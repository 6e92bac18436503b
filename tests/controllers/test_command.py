"""The controller manager's flags, where they decide what its controllers are given."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tiphys.controllers.command import configuration, parser


def test_without_a_flag_namespaces_get_the_authority_that_the_kubeconfig_trusts(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority-data": base64.b64encode(b"PEM").decode()}
    made = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    kubeconfig.write_text(json.dumps(made))
    given = tmp_path / "ca.crt"
    given.write_bytes(b"OTHER")
    flags = parser()
    words = ["--kubeconfig", str(kubeconfig), "--leader-elect=false"]
    assert configuration(flags.parse(words), flags).root_ca == b"PEM"
    assert configuration(flags.parse([*words, "--root-ca-file", str(given)]), flags).root_ca == b"OTHER"
