"""Bootstrap tokens: who may sign, what the signature is, and when a token goes."""

from __future__ import annotations

import base64
from importlib import import_module

import pytest

from tiphys.api.object import Object
from tiphys.controlkit.objects import timestamp
from tiphys.controllers.access.bootstrap import tokens
from tiphys.controllers.access.bootstrap.signer import signed_data
from tiphys.controllers.manager import UnknownController, select
from tiphys.controllers.registry import ALIASES, CONTROLLERS, MISSING, ROWS, Row
from tiphys.runtime.lazily import Function
from tiphys.testing import Cluster

NOW = 1_767_225_600.0  # 2026-01-01


def secret(expires: float | str | None = None, name: str = "bootstrap-token-abcdef", **fields: str) -> Object:
    data = {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true"} | fields
    if expires is not None:
        data["expiration"] = expires if isinstance(expires, str) else timestamp(expires)
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "kube-system"},
        "type": tokens.SECRET_TYPE,
        "data": encoded,
    }


@pytest.mark.parametrize(
    ("found", "may_sign"),
    [
        (secret(), True),
        (secret(NOW + 1), True),
        (secret(NOW), False),
        (secret("tomorrow"), False),
        (secret(name="bootstrap-token-abcdeg"), False),
        (secret(name="abcdef"), False),
        (secret(**{"token-secret": ""}), False),
        (secret(**{"usage-bootstrap-signing": "false"}), False),
    ],
)
def test_who_may_sign(found: Object, may_sign: bool) -> None:
    assert (tokens.for_signing(found, NOW) == ("abcdef", "0123456789abcdef")) == may_sign


def test_the_signature_is_the_one_that_kubeadm_expects() -> None:
    made = tokens.signature("kind: Config\n", "abcdef", "0123456789abcdef")
    assert made == "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..3ZR7IfHD4V0NLYjj9trDyCFIZSwMzkyMpnxx9vCiSPI"


def test_signatures_of_tokens_that_are_gone_are_removed() -> None:
    data = {"kubeconfig": "text", "jws-kubeconfig-gone00": "x", "other": "stays"}
    wanted = signed_data(data, {"abcdef": "0123456789abcdef"})
    assert wanted is not None
    assert sorted(wanted) == ["jws-kubeconfig-abcdef", "kubeconfig", "other"]
    assert signed_data({"other": "x"}, {}) is None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_has_a_class(row: Row) -> None:
    assert isinstance(row.make, Function)
    assert isinstance(getattr(import_module(row.make.module), row.make.name), type)


def test_old_names_choose_the_same_controllers() -> None:
    assert set(ALIASES.values()) <= set(CONTROLLERS) | MISSING
    assert not MISSING & set(CONTROLLERS)
    chosen = select(["*", "bootstrapsigner", "tokencleaner", "-podgc"], CONTROLLERS)
    assert {"bootstrap-signer-controller", "token-cleaner-controller"} <= set(chosen)
    assert "pod-garbage-collector-controller" not in chosen
    assert "bootstrap-signer-controller" not in select(["*"], CONTROLLERS)
    with pytest.raises(UnknownController):
        select(["-podgarbage"], CONTROLLERS)


def test_cluster_info_is_signed_until_the_token_expires() -> None:
    with Cluster(nodes=0, controllers=("bootstrapsigner", "tokencleaner")) as cluster:
        meta = {"name": "cluster-info", "namespace": "kube-public"}
        cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"kubeconfig": "text"}})
        cluster.create(secret(cluster.clock.now() + 100))

        def data() -> Object:
            return dict((cluster.get("v1", "ConfigMap", "cluster-info", "kube-public") or {})["data"])

        cluster.run_for(50)
        signature = tokens.signature("text", "abcdef", "0123456789abcdef")
        assert data() == {"kubeconfig": "text", "jws-kubeconfig-abcdef": signature}
        cluster.run_for(60)
        assert cluster.get("v1", "Secret", "bootstrap-token-abcdef", "kube-system") is None
        assert data() == {"kubeconfig": "text"}
