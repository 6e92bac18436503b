"""The controller manager's flags, where they decide what its controllers are given."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tiphys.client.options import ClientOptions
from tiphys.client.throttle import RequestRate
from tiphys.controllers.command import configuration, parser
from tiphys.runtime.component import CannotStart


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


def test_one_authority_signs_for_all_or_some_signers_have_their_own(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("a.crt", "a.key", "b.crt", "b.key", "kubeconfig")}
    for name, file in files.items():
        file.write_text(name)
    words = [f"--kubeconfig={files['kubeconfig']}", f"--root-ca-file={files['a.crt']}", "--leader-elect=false"]

    def signers(*more: str) -> dict[str, bytes]:
        flags = parser()
        made = configuration(flags.parse([*words, *more]), flags).signers
        return {name.removeprefix("kubernetes.io/"): pair.certificate for name, pair in made.items()}

    one = (f"--cluster-signing-cert-file={files['a.crt']}", f"--cluster-signing-key-file={files['a.key']}")
    serving = tuple(f"--cluster-signing-kubelet-serving-{kind}-file={files[f'b.{end}']}" for kind, end in
                    (("cert", "crt"), ("key", "key")))  # fmt: skip
    names = ("kubelet-serving", "kube-apiserver-client-kubelet", "kube-apiserver-client", "legacy-unknown")
    assert signers() == {}
    assert signers(*one) == dict.fromkeys(names, b"a.crt")
    assert signers(*serving) == {"kubelet-serving": b"b.crt"}
    with pytest.raises(CannotStart, match=r"cannot specify .* at the same time"):
        signers(*one, *serving)
    with pytest.raises(CannotStart, match=r"--cluster-signing-kubelet-serving-cert-file and .* need each other"):
        signers(serving[0])


def test_the_client_that_flags_describe(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text("CA")
    flags = parser()
    words = [f"--kubeconfig={file}", f"--root-ca-file={file}", "--master=https://10.0.0.1:6443", "--kube-api-qps=100"]
    assert configuration(flags.parse(words), flags).client == ClientOptions(
        "https://10.0.0.1:6443", RequestRate(100, 30)
    )
