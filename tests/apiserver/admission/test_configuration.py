"""The configuration file of admission: how it is read, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.apiworld import World, pod, run
from tests.apiserver.reviewer import reviewing, run_real
from tiphys.apiserver.admission import pluginconfigs
from tiphys.apiserver.admission.configuration import read_admission_configuration
from tiphys.apiserver.config import Config
from tiphys.apiserver.configfile import ConfigFileError
from tiphys.apiserver.webhooks.credentials import WebhookCredentials

Object = dict[str, Any]

PODS = "/api/v1/namespaces/{}/pods"


def written(folder: Path, text: str, name: str = "admission.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_plugin_is_configured_inline_or_by_a_file_beside(tmp_path: Path) -> None:
    written(tmp_path, "podNodeSelectorPluginConfig: {a: b=c}\n", "selectors.yaml")
    path = written(
        tmp_path,
        """
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- {name: PodNodeSelector, path: selectors.yaml}
- {name: PodSecurity, configuration: {kind: K}, path: no-such-file}
- {name: PodSecurity, configuration: {kind: Other}}
- {name: EventRateLimit}
""",
    )
    assert read_admission_configuration(path) == {
        "PodNodeSelector": {"podNodeSelectorPluginConfig": {"a": "b=c"}},
        "PodSecurity": {"kind": "K"},
    }


def test_the_file_may_be_that_of_one_old_plugin(tmp_path: Path) -> None:
    path = written(tmp_path, "podNodeSelectorPluginConfig: {a: b=c}\n")
    assert set(read_admission_configuration(path)) == {"PodNodeSelector"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "admission.yaml: it is not YAML"),
        ("kind: Pod", "admission.yaml: it holds 'Pod' of None; write AdmissionConfiguration of"),
        (
            "{apiVersion: apiserver.config.k8s.io/v1, kind: AdmissionConfiguration, plugins: [{nme: x}]}",
            'admission.yaml: unknown field "plugins[0].nme"',
        ),
        (
            "{apiVersion: apiserver.config.k8s.io/v1, kind: AdmissionConfiguration, plugins: [{path: none}]}",
            "none: No such file or directory",
        ),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigFileError) as refused:
        read_admission_configuration(written(tmp_path, text))
    assert message in str(refused.value)


EVENTS = {"apiVersion": "eventratelimit.admission.k8s.io/v1alpha1", "kind": "Configuration"}
SECURITY = {"apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration"}
QUOTA = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "ResourceQuotaConfiguration"}
TOLERATIONS = {"apiVersion": "podtolerationrestriction.admission.k8s.io/v1alpha1", "kind": "Configuration"}
WEBHOOKS = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration"}


@pytest.mark.parametrize(
    ("read", "document", "message"),
    [
        (pluginconfigs.event_limits, {**EVENTS, "limits": []}, "limits: Invalid value: []: must not be empty"),
        (
            pluginconfigs.event_limits,
            {**EVENTS, "limits": [{"type": "X", "qps": 0, "burst": 1, "cacheSize": -1}]},
            'limits[0].type: Unsupported value: "X": supported values: "Namespace", "Server", "SourceAndObject",'
            ' "User";'
            " limits[0].qps: Invalid value: 0: must be positive;"
            " limits[0].cacheSize: Invalid value: -1: must not be negative",
        ),
        (
            pluginconfigs.pod_security,
            {
                **SECURITY,
                "defaults": {"enforce": "strict", "warn-version": "1.2"},
                "exemptions": {"usernames": ["", "a", "a"]},
            },
            'defaults.enforce: Invalid value: "strict": must be one of privileged, baseline, restricted;'
            ' defaults.warn-version: Invalid value: "1.2": must be "latest" or "v1.x";'
            ' exemptions.usernames[0]: Invalid value: "": username must not be empty;'
            ' exemptions.usernames[2]: Duplicate value: "a"',
        ),
        (pluginconfigs.pod_security, {**SECURITY, "defaults": {"enforced": "x"}}, 'unknown field "defaults.enforced"'),
        (
            pluginconfigs.limited_resources,
            {**QUOTA, "limitedResources": [{}]},
            "limitedResources[0].resource: Required value",
        ),
        (
            pluginconfigs.toleration_rules,
            {**TOLERATIONS, "default": [{"operator": "Equal"}]},
            "podtolerationrestriction.default[0].operator: Invalid value",
        ),
        (pluginconfigs.image_policy, None, "ImagePolicyWebhook needs a configuration"),
        (
            pluginconfigs.image_policy,
            {"imagePolicy": {"kubeConfigFile": "/k", "allowTTL": 3600}},
            "imagePolicy.allowTTL: Invalid value: 3600: valid value is between 1s and 1800s",
        ),
        (
            lambda document: pluginconfigs.webhook_kubeconfig("W", document),
            {**WEBHOOKS, "kubeConfigFile": "relative"},
            'kubeConfigFile: Invalid value: "relative": must be an absolute file path',
        ),
        (
            lambda document: pluginconfigs.webhook_kubeconfig("W", document),
            {**WEBHOOKS, "staticManifestsDir": "/x"},
            "staticManifestsDir: Forbidden: is not supported",
        ),
    ],
)
def test_a_plugin_refuses_a_configuration_by_the_field(read: Any, document: Any, message: str) -> None:
    with pytest.raises(ConfigFileError) as refused:
        read(document)
    assert message in str(refused.value)


def test_pod_security_has_defaults_and_exemptions() -> None:
    document = {
        **SECURITY,
        "defaults": {"enforce": "baseline", "warn": "restricted", "warn-version": "v1.30"},
        "exemptions": {"usernames": ["root"], "namespaces": ["kube-system"], "runtimeClasses": ["vm"]},
    }
    bad = {"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": True}}]}

    async def work(world: World) -> None:
        for namespace in ("a", "kube-system"):
            if namespace == "a":
                await world.namespace(namespace)
            else:
                path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
                await world.json("POST", path, {"metadata": {"name": "default"}})
        refused = await world.json("POST", PODS.format("a"), {**pod("p"), "spec": bad})
        assert refused["message"].startswith(
            'pods "p" is forbidden: violates PodSecurity "baseline:latest": privileged'
        )
        warned = await world.raw("POST", PODS.format("a"), pod("w"))
        assert warned.status == 201
        assert 'would violate PodSecurity "restricted:v1.30"' in warned.headers["Warning"].replace("\\", "")
        root = ("root", ("system:masters",))
        assert (await world.raw("POST", PODS.format("a"), {**pod("x"), "spec": bad}, user=root)).status == 201
        assert (await world.raw("POST", PODS.format("kube-system"), {**pod("y"), "spec": bad})).status == 201
        await world.json("POST", "/apis/node.k8s.io/v1/runtimeclasses", {"metadata": {"name": "vm"}, "handler": "vm"})
        await world.settle()
        spec = {**bad, "runtimeClassName": "vm"}
        assert (await world.raw("POST", PODS.format("a"), {**pod("z"), "spec": spec})).status == 201
        labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/audit": "privileged"}
        headers = {"content_type": "application/merge-patch+json"}
        for namespace, warning in (
            (
                "kube-system",
                'namespace "kube-system" is exempt from Pod Security, and the policy (enforce=restricted:latest)'
                " will be ignored",
            ),
            ("a", 'existing pods in namespace "a" violate the new PodSecurity enforce level "restricted:latest"'),
        ):
            body = {"metadata": {"labels": labels}}
            answer = await world.raw("PATCH", f"/api/v1/namespaces/{namespace}", body, **headers)
            assert warning in answer.headers["Warning"].replace("\\", "")

    run(work, Config(seed=1, admission_config={"PodSecurity": document}))


def test_what_is_limited_needs_a_quota() -> None:
    limited = [
        {"resource": "pods", "matchContains": ["requests.example.com/gpu"]},
        {"resource": "pods", "matchScopes": [{"scopeName": "PriorityClass", "operator": "In", "values": ["big"]}]},
    ]
    gpu = {"requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "1"}}

    async def work(world: World) -> None:
        await world.namespace("a")
        await world.json(
            "POST", "/apis/scheduling.k8s.io/v1/priorityclasses", {"metadata": {"name": "big"}, "value": 1}
        )
        await world.settle()
        spec = {"containers": [{"name": "c", "image": "i", "resources": gpu}]}
        assert (await world.raw("POST", PODS.format("a"), pod("plain"))).status == 201
        refused = await world.json("POST", PODS.format("a"), {**pod("p"), "spec": spec})
        message = 'pods "p" is forbidden: insufficient quota to consume: requests.example.com/gpu'
        assert (refused["code"], refused["message"]) == (403, message)
        refused = await world.json("POST", PODS.format("a"), pod("p", priorityClassName="big"))
        message = "insufficient quota to match these scopes: [{PriorityClass In [big]}]"
        assert (refused["code"], refused["message"]) == (500, message)
        quota = {
            "metadata": {"name": "q"},
            "spec": {"hard": {"requests.example.com/gpu": "1"}},
        }
        made = await world.json("POST", "/api/v1/namespaces/a/resourcequotas", quota)
        status = {"hard": {"requests.example.com/gpu": "1"}, "used": {"requests.example.com/gpu": "0"}}
        await world.json("PUT", "/api/v1/namespaces/a/resourcequotas/q/status", {**made, "status": status})
        await world.settle()
        assert (await world.raw("POST", PODS.format("a"), {**pod("p"), "spec": spec})).status == 201

    run(work, Config(seed=1, admission_config={"ResourceQuota": {**QUOTA, "limitedResources": limited}}))


@pytest.mark.parametrize("open", [False, True])
def test_a_server_of_the_administrator_decides_about_images(tmp_path: Path, open: bool) -> None:
    def answer(review: Object) -> Object | int:
        image = review["spec"]["containers"][0]["image"]
        if image == "broken":
            return 400
        return {
            "allowed": image == "good",
            "reason": "" if image == "worst" else "not that one",
            "auditAnnotations": {"k": "v"},
        }

    async def work(world: World) -> None:
        await world.namespace("a")

        async def make(name: str, image: str) -> Object:
            meta = {"name": name, "annotations": {"x.image-policy.k8s.io/ticket": "1", "other": "2"}}
            body = {"metadata": meta, "spec": {"containers": [{"name": "c", "image": image}]}}
            return await world.json("POST", PODS.format("a"), body)

        assert (await make("one", "good"))["kind"] == "Pod"
        assert (await make("two", "good"))["kind"] == "Pod"
        forbidden = 'pods "three" is forbidden: '
        refused = await make("three", "bad")
        assert refused["message"] == forbidden + "image policy webhook backend denied one or more images: not that one"
        refused = await make("three", "worst")
        assert refused["message"] == forbidden + "one or more images rejected by webhook backend"
        answer = await make("three", "broken")
        if open:
            assert answer["metadata"]["annotations"]["alpha.image-policy.k8s.io/failed-open"] == "true"
            kept = await world.json("GET", PODS.format("a") + "/three")
            assert kept["metadata"]["annotations"] == answer["metadata"]["annotations"]
        else:
            assert (answer["code"], answer["message"][: len(forbidden)]) == (403, forbidden)

    with reviewing(answer) as reviewer:
        policy = {"kubeConfigFile": str(reviewer.kubeconfig(tmp_path)), "defaultAllow": open}
        documents = {"ImagePolicyWebhook": {"imagePolicy": policy}}
        run_real(work, Config(seed=1, enable_admission_plugins=("ImagePolicyWebhook",), admission_config=documents))
        asked = [review["spec"]["containers"][0]["image"] for review in reviewer.asked]
    assert asked == ["good", "bad", "worst", "broken"]  # of two that are equal one is asked about
    assert reviewer.asked[0] == {
        "kind": "ImageReview",
        "apiVersion": "imagepolicy.k8s.io/v1alpha1",
        "metadata": {},
        "spec": {
            "containers": [{"image": "good"}],
            "annotations": {"x.image-policy.k8s.io/ticket": "1"},
            "namespace": "a",
        },
        "status": {"allowed": False},
    }


@pytest.mark.parametrize(
    ("host", "port", "token"),
    [
        ("a.example.com", 8443, "exact"),
        ("b.example.com", 443, "without port"),
        ("c.example.com", 443, "wild"),
        ("c.example.com", 444, "any"),
        ("w.ns.svc", 443, "service"),
        ("elsewhere", 443, "any"),
    ],
)
def test_a_webhook_is_shown_the_user_of_its_name(tmp_path: Path, host: str, port: int, token: str) -> None:
    path = written(
        tmp_path,
        """
users:
- {name: "a.example.com:8443", user: {token: exact}}
- {name: b.example.com, user: {token: without port}}
- {name: "*.example.com", user: {token: wild}}
- {name: "*.ns.svc", user: {token: service}}
- {name: "*", user: {token: any}}
""",
    )
    shown = WebhookCredentials(path).of(host, port)
    assert shown is not None
    assert shown.token is not None
    assert shown.token() == token


def test_without_a_name_that_fits_the_current_user_is_shown(tmp_path: Path) -> None:
    text = "users: [{name: u, user: {token: t}}]\n"
    assert WebhookCredentials(written(tmp_path, text)).of("h", 1) is None
    current = text + "contexts: [{name: c, context: {user: u}}]\ncurrent-context: c\n"
    assert WebhookCredentials(written(tmp_path, current)).of("h", 1) is not None
