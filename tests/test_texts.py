"""The check that runs beside every test (see conftest): which texts are Python's."""

from __future__ import annotations

import pytest

from tests.texts import python_in


@pytest.mark.parametrize(
    "text",
    [
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed",
        "got <class 'int'>",
        "<tiphys.api.X object at 0x7f00>",
        "'NoneType' object has no attribute 'get'",
        "KeyError: 'spec'",
        "[Errno 111] Connection refused",
        "Expecting value: line 1 column 1 (char 0)",
        "selector: {'matchLabels': 1}",
        "audiences ['x', 'y']",
    ],
)
def test_texts_of_python_are_found(text: str) -> None:
    assert python_in(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        'target audiences ["x"]',
        "selector: &LabelSelector{MatchLabels:map[string]string{app: bare,},}",
        "spec.x: Invalid value: \"map\": object['a'] must be set",
        "a lowercase RFC 1123 label (e.g. 'my-name',  or '123-abc')",
        "dial tcp 10.0.0.1:443: connect: connection refused",
    ],
)
def test_others_are_not(text: str) -> None:
    assert python_in(text) is None
