"""One valid object of every kind, as small as it can be: what tests start from that are about every kind.

``BASES`` maps (group, plural) to the object without its head and, where any will do, without its name.
"""

from __future__ import annotations

import base64
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tiphys.api.meta import copy
from tiphys.api.object import Object
from tiphys.api.scheme import Resource

LABELS = {"app": "x"}
SELECTOR = {"matchLabels": LABELS}
POD = {"containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10"}]}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": POD}
JOB = {"template": {"spec": {**POD, "restartPolicy": "Never"}}}
ONCE = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
USER = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}
SERVICE_HOOK = {"service": {"namespace": "a", "name": "hook"}}
HOOK = {"admissionReviewVersions": ["v1"], "sideEffects": "None", "name": "a.example.com"}
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
BASES: dict[tuple[str, str], Object] = {
    ("", "configmaps"): {"data": {"a": "1"}},
    ("", "endpoints"): {"subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]},
    ("", "events"): {
        "involvedObject": {"kind": "Pod", "namespace": "a", "name": "x"},
        "reason": "Seen",
        "type": "Normal",
    },
    ("", "limitranges"): {"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}]}},
    ("", "namespaces"): {},
    ("", "nodes"): {},
    ("", "persistentvolumeclaims"): {"spec": ONCE},
    ("", "persistentvolumes"): {
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/tmp"}}
    },
    ("", "pods"): {"spec": POD},
    ("", "podtemplates"): {"template": TEMPLATE},
    ("", "replicationcontrollers"): {"spec": {"replicas": 0, "selector": LABELS, "template": TEMPLATE}},
    ("", "resourcequotas"): {"spec": {"hard": {"pods": "10"}}},
    ("", "secrets"): {"data": {"a": "MQ=="}},
    ("", "serviceaccounts"): {},
    ("", "services"): {"spec": {"selector": LABELS, "ports": [{"port": 80}]}},
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"): {
        "spec": {
            "matchConstraints": {"resourceRules": [RULE]},
            "reinvocationPolicy": "Never",
            "mutations": [
                {
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": 'Object{metadata: Object.metadata{labels: {"a": "b"}}}'},
                }
            ],
        }
    },
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"): {"spec": {"policyName": "none"}},
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): {
        "webhooks": [{**HOOK, "clientConfig": SERVICE_HOOK, "failurePolicy": "Ignore"}]
    },
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"): {
        "spec": {"matchConstraints": {"resourceRules": [RULE]}, "validations": [{"expression": "true"}]}
    },
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"): {
        "spec": {"policyName": "none", "validationActions": ["Deny"]}
    },
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): {
        "webhooks": [{**HOOK, "clientConfig": SERVICE_HOOK, "failurePolicy": "Ignore"}]
    },
    ("apiextensions.k8s.io", "customresourcedefinitions"): {
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"kind": "Thing", "plural": "things"},
            "scope": "Namespaced",
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        },
    },
    ("apiregistration.k8s.io", "apiservices"): {
        "metadata": {"name": "v1.example.org"},
        "spec": {"group": "example.org", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10},
    },
    ("apps", "controllerrevisions"): {"revision": 1, "data": {"a": 1}},
    ("apps", "daemonsets"): {"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    ("apps", "deployments"): {"spec": {"replicas": 0, "selector": SELECTOR, "template": TEMPLATE}},
    ("apps", "replicasets"): {"spec": {"replicas": 0, "selector": SELECTOR, "template": TEMPLATE}},
    ("apps", "statefulsets"): {"spec": {"replicas": 0, "serviceName": "x", "selector": SELECTOR, "template": TEMPLATE}},
    ("autoscaling", "horizontalpodautoscalers"): {
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}}
    },
    ("batch", "cronjobs"): {"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": JOB}}},
    ("batch", "jobs"): {"spec": JOB},
    ("certificates.k8s.io", "certificatesigningrequests"): {
        "spec": {"request": "", "signerName": "example.com/a", "usages": ["client auth"]}
    },
    ("coordination.k8s.io", "leases"): {"spec": {"holderIdentity": "me", "leaseDurationSeconds": 10}},
    ("discovery.k8s.io", "endpointslices"): {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"]}],
        "ports": [{"name": "", "port": 80}],
    },
    ("events.k8s.io", "events"): {
        "eventTime": "2020-01-01T00:00:00.000000Z",
        "reportingController": "example.com/c",
        "reportingInstance": "i",
        "action": "Looking",
        "reason": "Seen",
        "type": "Normal",
        "regarding": {"kind": "Pod", "namespace": "a", "name": "x"},
    },
    ("flowcontrol.apiserver.k8s.io", "flowschemas"): {
        "spec": {"priorityLevelConfiguration": {"name": "global-default"}, "matchingPrecedence": 1000}
    },
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"): {
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}}}
    },
    ("networking.k8s.io", "ingressclasses"): {"spec": {"controller": "example.com/c"}},
    ("networking.k8s.io", "ingresses"): {
        "spec": {"defaultBackend": {"service": {"name": "x", "port": {"number": 80}}}}
    },
    ("networking.k8s.io", "ipaddresses"): {
        "metadata": {"name": "192.0.2.77"},
        "spec": {"parentRef": {"resource": "services", "namespace": "a", "name": "x"}},
    },
    ("networking.k8s.io", "networkpolicies"): {"spec": {"podSelector": SELECTOR, "policyTypes": ["Ingress"]}},
    ("networking.k8s.io", "servicecidrs"): {"spec": {"cidrs": ["10.97.0.0/24"]}},
    ("node.k8s.io", "runtimeclasses"): {"handler": "runc"},
    ("policy", "poddisruptionbudgets"): {"spec": {"minAvailable": 1, "selector": SELECTOR}},
    ("rbac.authorization.k8s.io", "clusterrolebindings"): {
        "subjects": [USER],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
    },
    ("rbac.authorization.k8s.io", "clusterroles"): {
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    },
    ("rbac.authorization.k8s.io", "rolebindings"): {
        "subjects": [USER],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
    },
    ("rbac.authorization.k8s.io", "roles"): {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    ("resource.k8s.io", "deviceclasses"): {
        "spec": {"selectors": [{"cel": {"expression": 'device.driver == "d.example.com"'}}]}
    },
    ("resource.k8s.io", "resourceclaims"): {
        "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "x"}}]}}
    },
    ("resource.k8s.io", "resourceclaimtemplates"): {
        "spec": {"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "x"}}]}}}
    },
    ("resource.k8s.io", "resourceslices"): {
        "spec": {
            "driver": "d.example.com",
            "nodeName": "n",
            "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "d"}],
        }
    },
    ("scheduling.k8s.io", "priorityclasses"): {"value": 100},
    ("storage.k8s.io", "csidrivers"): {"spec": {"attachRequired": False}},
    ("storage.k8s.io", "csinodes"): {"spec": {"drivers": [{"name": "d.example.com", "nodeID": "n"}]}},
    ("storage.k8s.io", "csistoragecapacities"): {"storageClassName": "x", "capacity": "1Gi"},
    ("storage.k8s.io", "storageclasses"): {"provisioner": "example.com/p"},
    ("storage.k8s.io", "volumeattachments"): {
        "spec": {"attacher": "d.example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}
    },
    ("storage.k8s.io", "volumeattributesclasses"): {"driverName": "d.example.com", "parameters": {"a": "b"}},
}
"""The text of a signing request is put in by ``base``, as it takes a key to make one."""


def base(resource: Resource, version: str) -> Object:
    """A new copy of a kind's object, with its head and a name."""
    found: Object = copy(BASES[resource.group, resource.plural])
    found.setdefault("metadata", {}).setdefault("name", "x")
    if resource.plural == "certificatesigningrequests":
        found["spec"]["request"] = signing_request()
    return {"kind": resource.kind, "apiVersion": resource.gvk(version).api_version, **found}


@cache
def signing_request() -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "jane")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    made = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(made.public_bytes(Encoding.PEM)).decode()


def collection(resource: Resource, version: str, namespace: str = "a") -> str:
    """The path of a kind's objects."""
    root = f"/apis/{resource.group}/{version}" if resource.group else f"/api/{version}"
    return f"{root}/namespaces/{namespace}/{resource.plural}" if resource.namespaced else f"{root}/{resource.plural}"
