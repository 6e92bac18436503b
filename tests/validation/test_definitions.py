"""Custom resource definitions and their schemas: what is refused, and how it is said."""

from __future__ import annotations

import pytest

from tests.validation.making import create
from tiphys.api.object import Object
from tiphys.validation.apiextensions.defaults import validate_defaults

_VERSION = (
    '{"Name":"v1","Served":true,"Storage":true,"Deprecated":false,"DeprecationWarning":null,"Schema":null,'
    '"Subresources":null,"AdditionalPrinterColumns":null,"SelectableFields":null}'
)
CASES: list[tuple[str, str, Object, list[str]]] = [
    (
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        {
            "metadata": {"name": "foos.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Namespaced",
                "names": {"plural": "foos", "kind": "Foo"},
                "versions": [
                    {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
                ],
            },
        },
        [],
    ),
    (
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        {
            "metadata": {"name": "x"},
            "spec": {
                "group": "k8s.io",
                "names": {"plural": "foos", "kind": "Foo"},
                "versions": [{"name": "v1", "served": True, "storage": True}],
            },
        },
        [
            'metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group',
            "spec.scope: Required value",
            "spec.versions[0].schema.openAPIV3Schema: Required value",
            (
                "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have"
                ' approval annotation "api-approved.kubernetes.io", see '
                "https://github.com/kubernetes/enhancements/pull/1111"
            ),
        ],
    ),
    (
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        {
            "metadata": {"name": "foos.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Namespaced",
                "names": {"plural": "foos", "kind": "Foo"},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {
                            "openAPIV3Schema": {
                                "type": "object",
                                "properties": {
                                    "spec": {
                                        "type": "object",
                                        "properties": {
                                            "a": {"type": "string", "default": "x", "pattern": "(?=a)"},
                                            "l": {"type": "array"},
                                            "m": {
                                                "type": "array",
                                                "items": {"type": "object", "properties": {"k": {"type": "string"}}},
                                                "x-kubernetes-list-type": "map",
                                                "x-kubernetes-list-map-keys": ["k", "z"],
                                            },
                                            "n": {},
                                            "o": {
                                                "type": "foo",
                                                "oneOf": [{"type": "string", "properties": {"q": {}}}],
                                            },
                                            "d": {"type": "object", "default": {"zz": 1}},
                                        },
                                        "x-kubernetes-validations": [{"rule": "", "message": "a\nb"}],
                                    },
                                    "metadata": {"type": "object", "properties": {"labels": {"type": "object"}}},
                                },
                            }
                        },
                    }
                ],
            },
        },
        [
            (
                "spec.validation.openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything "
                "other than name and generateName, but metadata is implicitly specified"
            ),
            (
                "spec.validation.openAPIV3Schema.properties[spec].properties[a].pattern: Invalid value: "
                '"(?=a)": must be a valid regular expression, but isn\'t: error parsing regexp: invalid or '
                "unsupported Perl syntax: `(?=`"
            ),
            ("spec.validation.openAPIV3Schema.properties[spec].properties[l].items: Required value: must be specified"),
            (
                "spec.validation.openAPIV3Schema.properties[spec].properties[n].type: Required value: must "
                "not be empty for specified object fields"
            ),
            (
                "spec.validation.openAPIV3Schema.properties[spec].properties[o].oneOf[0].type: Forbidden: "
                "must be empty to be structural"
            ),
            (
                "spec.validation.openAPIV3Schema.properties[spec].properties[m].x-kubernetes-list-map-keys: "
                'Invalid value: ["k","z"]: entries must all be names of item properties'
            ),
            (
                "spec.validation.openAPIV3Schema.properties[spec].properties[m].items.properties[k].default: "
                "Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or"
                " be a required property"
            ),
            (
                "spec.validation.openAPIV3Schema.properties[spec].properties[o].type: Unsupported value: "
                '"foo": supported values: "array", "boolean", "integer", "number", "object", "string"'
            ),
            (
                "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Required "
                "value: rule is not specified"
            ),
        ],
    ),
    (
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        {
            "metadata": {"name": "foos.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Namespaced",
                "names": {"plural": "foos", "kind": "Foo"},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": {"type": "object"}},
                        "subresources": {
                            "status": {},
                            "scale": {"specReplicasPath": "spec", "statusReplicasPath": ".spec.x"},
                        },
                        "additionalPrinterColumns": [{"name": "", "type": "x", "jsonPath": "a", "format": "q"}],
                        "selectableFields": [{"jsonPath": ".spec.x"}, {"jsonPath": "spec"}],
                    }
                ],
                "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v3"]}},
            },
        },
        [
            (
                'spec.subresources.scale.specReplicasPath: Invalid value: "spec": must be a simple json path '
                "starting with ."
            ),
            (
                'spec.subresources.scale.statusReplicasPath: Invalid value: ".spec.x": should be a json path '
                "under .status"
            ),
            "spec.additionalPrinterColumns[0].name: Required value",
            (
                'spec.additionalPrinterColumns[0].type: Invalid value: "x": must be one of '
                "boolean,date,integer,number,string"
            ),
            (
                'spec.additionalPrinterColumns[0].format: Invalid value: "q": must be one of '
                "byte,date,date-time,double,float,int32,int64,password"
            ),
            (
                'spec.additionalPrinterColumns[0].JSONPath: Invalid value: "a": must be a simple json path '
                "starting with ."
            ),
            (
                'spec.selectableFields[0].jsonPath: Invalid value: ".spec.x": is an invalid path: does not '
                "refer to a valid field"
            ),
            (
                'spec.selectableFields[1].jsonPath: Invalid value: "spec": is an invalid path: expected [ or '
                ". but got: spec"
            ),
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
            (
                'spec.conversion.conversionReviewVersions: Invalid value: ["v3"]: must include at least one '
                "of v1, v1beta1"
            ),
        ],
    ),
    (
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        {
            "metadata": {"name": "foos.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Namespaced",
                "names": {"plural": "foos", "kind": "Foo"},
                "versions": [
                    {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}},
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": {"type": "object"}},
                    },
                ],
            },
        },
        [
            f"spec.versions: Invalid value: [{_VERSION},{_VERSION}]: must contain unique version names",
            f"spec.versions: Invalid value: [{_VERSION},{_VERSION}]: must have exactly one version marked as"
            " storage version",
            'status.storedVersions: Invalid value: ["v1"]: must have the storage version v1',
        ],
    ),
]


@pytest.mark.parametrize(("api_version", "kind", "obj", "errors"), CASES)
def test_create(api_version: str, kind: str, obj: Object, errors: list[str]) -> None:
    assert create(api_version, kind, obj) == errors


SMALL = {"rule": "self > 3", "message": "small"}


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        (
            {"x": {"type": "integer", "default": 1, "x-kubernetes-validations": [SMALL]}},
            "properties[spec].properties[x].default",
            "Invalid value: 1: small",
        ),
        (
            {"x": {"type": "integer", "default": 4, "x-kubernetes-validations": [{"rule": "self > 3"}]}},
            None,
            "",
        ),
    ],
)
def test_a_default_is_held_against_the_rules_of_its_schema(spec: Object, field: str | None, message: str) -> None:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": spec}}}
    found = validate_defaults(schema, "spec.validation.openAPIV3Schema", pruned=True)
    expected = [] if field is None else [(f"spec.validation.openAPIV3Schema.{field}", message)]
    assert [(error.field, error.body) for error in found] == expected
