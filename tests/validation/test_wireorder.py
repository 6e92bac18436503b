"""Structures in messages have their fields in the order of their type."""

from __future__ import annotations

from tests.validation.making import create


def test_a_selector_is_shown_in_the_order_of_its_type() -> None:
    requirement = {"values": ["b"], "operator": "In", "key": "-"}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchExpressions": [requirement], "matchLabels": {"b": "", "a": ""}}, "template": template}
    found = create("apps/v1", "Deployment", {"spec": spec})
    shown = '{"matchLabels":{"a":"","b":""},"matchExpressions":[{"key":"-","operator":"In","values":["b"]}]}'
    assert found[-1] == f"spec.selector: Invalid value: {shown}: invalid label selector"


def test_what_the_wire_form_leaves_out_is_not_shown() -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    requirement = {"key": "a", "operator": "In", "values": []}
    spec = {"selector": {"matchExpressions": [requirement]}, "template": template}
    found = create("apps/v1", "Deployment", {"spec": spec})
    shown = '{"matchExpressions":[{"key":"a","operator":"In"}]}'
    assert found[-1] == f"spec.selector: Invalid value: {shown}: invalid label selector"


def test_labels_that_are_wrong_make_no_selector() -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"a": "b c"}}, "template": template}
    found = create("apps/v1", "ReplicaSet", {"spec": spec})
    assert found[-1] == 'spec.selector: Invalid value: {"matchLabels":{"a":"b c"}}: invalid label selector'
