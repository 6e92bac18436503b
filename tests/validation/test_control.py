"""Admission, certificates, aggregation, flow control and devices: what is refused, and how it is said."""

from __future__ import annotations

import pytest

from tests.validation.making import create
from tiphys.api.object import Object

CASES: list[tuple[str, str, Object, list[str]]] = [
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        {
            "metadata": {"name": "x"},
            "webhooks": [
                {
                    "name": "a.b",
                    "clientConfig": {"service": {"name": "s"}},
                    "rules": [
                        {
                            "operations": ["*", "CREATE"],
                            "apiGroups": [""],
                            "apiVersions": [""],
                            "resources": ["*", "pods", "pods/*", "pods/status"],
                        }
                    ],
                    "timeoutSeconds": 40,
                    "admissionReviewVersions": ["v2"],
                }
            ],
        },
        [
            (
                'webhooks[0].name: Invalid value: "a.b": should be a domain with at least three segments '
                "separated by dots"
            ),
            (
                'webhooks[0].rules[0].operations: Invalid value: ["*","CREATE"]: if \'*\' is present, must not '
                "specify other operations"
            ),
            "webhooks[0].rules[0].apiVersions[0]: Required value",
            (
                "webhooks[0].rules[0].resources[3]: Invalid value: \"pods/status\": if 'pods/*' is present, "
                "must not specify pods/status"
            ),
            (
                'webhooks[0].rules[0].resources: Invalid value: ["*","pods","pods/*","pods/status"]: if \'*\' '
                "is present, must not specify other resources without subresources"
            ),
            "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
            ("webhooks[0].timeoutSeconds: Invalid value: 40: the timeout value must be between 1 and 30 seconds"),
            "webhooks[0].clientConfig.service.name: Required value",
            ('webhooks[0].admissionReviewVersions: Invalid value: ["v2"]: must include at least one of v1, v1beta1'),
        ],
    ),
    (
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        {
            "metadata": {"name": "x"},
            "webhooks": [
                {
                    "name": "a.b.c",
                    "clientConfig": {"url": "http://u:p@/x?y#z"},
                    "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                    "matchConditions": [
                        {"name": "", "expression": ""},
                        {"name": "b/c", "expression": "true"},
                        {"name": "b/c", "expression": "true"},
                    ],
                }
            ],
        },
        [
            (
                "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme;"
                " desired format: https://host[/path]"
            ),
            (
                'webhooks[0].clientConfig.url: Invalid value: "": host must be specified; desired format: '
                "https://host[/path]"
            ),
            ('webhooks[0].clientConfig.url: Invalid value: "u:p": user information is not permitted in the URL'),
            'webhooks[0].clientConfig.url: Invalid value: "z": fragments are not permitted in the URL',
            ('webhooks[0].clientConfig.url: Invalid value: "y": query parameters are not permitted in the URL'),
            "webhooks[0].matchConditions[0].expression: Required value",
            "webhooks[0].matchConditions[0].name: Required value",
            'webhooks[0].matchConditions[2].name: Duplicate value: "b/c"',
        ],
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
        {"metadata": {"name": "x"}, "spec": {}},
        [
            "spec.matchConstraints: Required value",
            ("spec.validations: Required value: validations or auditAnnotations must contain at least one item"),
            ("spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item"),
        ],
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
        {
            "metadata": {"name": "x"},
            "spec": {
                "paramKind": {"apiVersion": "a/b/c", "kind": ""},
                "matchConstraints": {"resourceRules": []},
                "validations": [{"expression": "", "message": "a\nb"}],
                "auditAnnotations": [{"key": "a b", "valueExpression": ""}],
                "variables": [{"name": "for", "expression": "1"}],
            },
        },
        [
            'spec.paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c',
            "spec.paramKind.kind: Required value",
            "spec.matchConstraints.resourceRules: Required value",
            'spec.variables[0].name: Invalid value: "for": must be a valid CEL identifier',
            "spec.validations[0].expression: Required value: expression is not specified",
            'spec.validations[0].message: Invalid value: "a\\nb": must not contain line breaks',
            (
                'spec.auditAnnotations[0].key: Invalid value: "x/a b": name part must consist of alphanumeric'
                " characters, '-', '_' or '.', and must start and end with an alphanumeric character"
            ),
            "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified",
        ],
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding",
        {"metadata": {"name": "x"}, "spec": {"paramRef": {}}},
        [
            "spec.policyName: Required value",
            "spec.paramRef: Required value: one of name or selector must be specified",
            "spec.paramRef.parameterNotFoundAction: Required value",
            "spec.validationActions: Required value: at least one validation action is required",
        ],
    ),
    (
        "certificates.k8s.io/v1",
        "CertificateSigningRequest",
        {"metadata": {"name": "x"}, "spec": {"request": "", "signerName": "kubernetes.io/x", "usages": ["x"]}},
        [
            'spec.request: Invalid value: "": PEM block type must be CERTIFICATE REQUEST',
            (
                'spec.usages[0]: Unsupported value: "x": supported values: "any", "cert sign", "client auth",'
                ' "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", '
                '"digital signature", "email protection", "encipher only", "ipsec end system", "ipsec '
                'tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc",'
                ' "ocsp signing", "s/mime", "server auth", "signing", "timestamping"'
            ),
        ],
    ),
    (
        "apiregistration.k8s.io/v1",
        "APIService",
        {"metadata": {"name": "x"}, "spec": {"group": "g", "version": "v1"}},
        [
            'metadata.name: Invalid value: "x": must be `spec.version+"."+spec.group`: "v1.g"',
            "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000",
            "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
        ],
    ),
    (
        "flowcontrol.apiserver.k8s.io/v1",
        "FlowSchema",
        {"metadata": {"name": "exempt"}, "spec": {}},
        [
            "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
            "spec: Invalid value: {\"matchingPrecedence\":1000}: spec of 'exempt' must equal the fixed value",
        ],
    ),
    (
        "flowcontrol.apiserver.k8s.io/v1",
        "PriorityLevelConfiguration",
        {
            "metadata": {"name": "x"},
            "spec": {
                "type": "Limited",
                "limited": {"limitResponse": {"type": "Queue", "queuing": {"queues": 1000, "handSize": 9}}},
            },
        },
        [
            (
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 9: required entropy bits of "
                "deckSize 1000 and handSize 9 should not be greater than 60"
            )
        ],
    ),
    (
        "resource.k8s.io/v1",
        "ResourceClaim",
        {
            "metadata": {"name": "x", "namespace": "d"},
            "spec": {
                "devices": {
                    "requests": [
                        {"name": "a"},
                        {"name": "a", "exactly": {"deviceClassName": "c"}},
                        {"name": "B", "exactly": {}},
                    ],
                    "constraints": [{"requests": ["zz"], "matchAttribute": "foo"}],
                    "config": [{}],
                }
            },
        },
        [
            ("spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"),
            (
                'spec.devices.requests[2].name: Invalid value: "B": a lowercase RFC 1123 label must consist '
                "of lower case alphanumeric characters or '-', and must start and end with an alphanumeric "
                "character"
            ),
            "spec.devices.requests[2].exactly.deviceClassName: Required value",
            'spec.devices.requests[1]: Duplicate value: "a"',
            (
                'spec.devices.constraints[0].requests[0]: Invalid value: "zz": must be the name of a request '
                "in the claim or the name of a request and a subrequest separated by '/'"
            ),
            (
                'spec.devices.constraints[0].matchAttribute: Invalid value: "foo": a fully qualified name '
                "must be a domain and a name separated by a slash"
            ),
            "spec.devices.config[0].opaque: Required value",
        ],
    ),
    (
        "resource.k8s.io/v1",
        "ResourceSlice",
        {
            "metadata": {"name": "x"},
            "spec": {
                "driver": "a",
                "pool": {"name": "p"},
                "devices": [
                    {
                        "name": "d",
                        "attributes": {
                            "9a": {
                                "string": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                                "int": 3,
                            },
                            "v": {"version": "1.0"},
                        },
                        "capacity": {"m": {"value": "1Gi", "requestPolicy": {}}},
                    }
                ],
            },
        },
        [
            "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
            (
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, "
                "`perDeviceNodeSelection` is required"
            ),
            (
                'spec.devices[0].attributes: Invalid value: "9a": a valid C identifier must start with '
                "alphabetic character or '_', followed by a string of alphanumeric characters or '_'"
            ),
            "spec.devices[0].attributes[9a].string: Too long: may not be more than 64 bytes",
            (
                'spec.devices[0].attributes[9a]: Invalid value: {"IntValue":3,"BoolValue":null,"StringValue":'
                '"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","VersionValue":null'
                ',"IntValues":null,"BoolValues":null,"StringValues":null,"VersionValues":null}: exactly one '
                "value must be specified"
            ),
            (
                'spec.devices[0].attributes[v].version: Invalid value: "1.0": must be a string compatible '
                "with semver.org spec 2.0.0"
            ),
            "spec.devices[0].capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true",
        ],
    ),
]


@pytest.mark.parametrize(("api_version", "kind", "obj", "errors"), CASES)
def test_create(api_version: str, kind: str, obj: Object, errors: list[str]) -> None:
    assert create(api_version, kind, obj) == errors
