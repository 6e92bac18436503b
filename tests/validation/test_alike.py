"""Pods of one template: what is remembered about one must never be said of a pod that differs where rules look."""

from __future__ import annotations

from itertools import combinations
from random import Random
from typing import Any

from tests.apiserver.randomobjects import mutate
from tiphys.api.codec import complete
from tiphys.api.defaults import apply_defaults
from tiphys.api.meta import copy
from tiphys.api.object import Object
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind
from tiphys.validation import validate_create, warnings
from tiphys.validation.pods import pod as pods
from tiphys.validation.pods import podoptions
from tiphys.validation.pods.alike import Unobjectionable, likeness
from tiphys.validation.podwarnings import pod_warnings

POD = GroupVersionKind("", "v1", "Pod")
SCHEMA = schema_for(POD)
TOKEN = "kube-api-access-x7k2p"


def pod(name: str = "p", token: str = TOKEN, **spec: Any) -> Object:
    """A pod as it is when it is validated."""
    mounts = [{"name": "data", "mountPath": "/data"}, {"name": token, "mountPath": "/token", "readOnly": True}]
    obj: Object = {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "n", "labels": {"app": "a"}, "annotations": {"a": "b"}},
        "spec": {
            "serviceAccountName": "default",
            "containers": [
                {
                    "name": "c",
                    "image": "i",
                    "env": [{"name": "A", "value": "1"}],
                    "ports": [{"name": "http", "containerPort": 80}],
                    "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "1Gi"}},
                    "volumeMounts": mounts,
                    "livenessProbe": {"httpGet": {"port": "http", "path": "/"}},
                }
            ],
            "volumes": [
                {"name": "data", "emptyDir": {}},
                {"name": token, "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
            ],
            "tolerations": [{"key": "k", "operator": "Exists"}],
            "affinity": {"podAffinity": {}},
            "securityContext": {"runAsUser": 1},
            **spec,
        },
    }
    apply_defaults(obj, POD)
    return complete(obj, SCHEMA)


def test_what_is_remembered_never_changes_what_is_said_of_a_pod() -> None:
    """Pods that differ in one or a few fields, one after the other, so that each follows some that are right."""
    random, refused, warned, known = Random(11), 0, 0, 0
    for number in range(1500):
        obj = pod(random.choice(("p", "q", "p.q")))
        for _ in range(random.choice((0, 0, 1, 1, 1, 2, 3))):
            mutate(random, obj, SCHEMA)
        apply_defaults(obj, POD)
        complete(obj, SCHEMA)
        errs: list[Any] = []
        pods.pod_metadata_and_spec(errs, obj, podoptions.POD)
        text = likeness(obj)
        known += text is not None and text in pods._sound._texts
        before = copy(obj)
        shown = [str(error) for error in validate_create(obj, POD)]
        again = [str(error) for error in validate_create(obj, POD)]
        assert shown == again, number
        assert shown[: len(errs)] == [str(error) for error in errs], number
        assert bool(shown) == bool([*errs, *pods._new_spec(obj)]), number
        texts = pod_warnings(obj)
        for _ in range(2):
            own = [text for text in warnings(obj, None, POD) if "surprising behavior" not in text]
            assert own == texts, number
        assert obj == before
        refused, warned = refused + bool(shown), warned + bool(texts)
    assert refused > 200
    assert warned > 20
    assert known > 200


def test_values_that_python_takes_for_equal_are_told_apart() -> None:
    some = [None, False, True, 0, 1, 0.0, -0.0, 1.0, "", "0", "1", [], {}, [None], {"a": None}, "\x00", "\\u0000"]
    absent: Object = {"spec": {}}
    texts = [likeness(absent), *(likeness({"spec": {"x": value}}) for value in some)]
    assert all(one != other for one, other in combinations(texts, 2))
    annotated = {"spec": {}, "metadata": {"annotations": {"a": "b"}}}
    assert likeness(annotated) not in texts


def test_names_of_token_volumes_make_no_difference_unless_they_meet() -> None:
    other = "kube-api-access-aaaaa"
    assert likeness(pod("p", TOKEN)) == likeness(pod("q", other))
    extra = {"name": other, "emptyDir": {}}
    twice, distinct = pod("p", other), pod("p", TOKEN)
    for obj in (twice, distinct):
        obj["spec"]["volumes"].append(copy(extra))
    assert likeness(twice) != likeness(distinct)
    for _ in range(2):
        assert validate_create(distinct, POD) == []
        assert [str(error) for error in validate_create(twice, POD)] == [
            'spec.volumes[2].name: Duplicate value: "kube-api-access-aaaaa"'
        ]


def test_claims_of_the_pod_s_own_name_are_looked_at_each_time() -> None:
    template = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    volumes = [
        {"name": "v", "ephemeral": {"volumeClaimTemplate": template}},
        {"name": "w", "persistentVolumeClaim": {"claimName": "q-v"}},
    ]
    right, wrong = pod("p", volumes=volumes), pod("q", volumes=volumes)
    for obj in (right, wrong):
        obj["spec"]["containers"][0]["volumeMounts"] = []
    assert likeness(right) is None
    assert validate_create(right, POD) == []
    assert [error.field for error in validate_create(wrong, POD)] == ["spec.volumes[1].persistentVolumeClaim.claimName"]


def test_what_has_no_text_is_checked_each_time() -> None:
    seen: list[Object] = []

    def check(obj: Object) -> list[str]:
        seen.append(obj)
        return []

    unobjectionable = Unobjectionable()
    for obj in ({"spec": {"x": 2**70}}, {"spec": {"x": "\ud800"}}):
        for _ in range(2):
            assert unobjectionable.check(obj, check) == []
    assert len(seen) == 4
    for _ in range(2):
        assert unobjectionable.check({"spec": {"x": 1}}, check) == []
    assert len(seen) == 5
