"""Values in error messages: whole while somebody may read them, and the part that matters of what is larger."""

from __future__ import annotations

import pytest

from tiphys.api.object import Object
from tiphys.validation.shared import internal
from tiphys.validation.shared.internal import internal_value, pod_spec_diff, spec_diff


def volumes(count: int, last: str = "") -> Object:
    items = [{"name": f"v{number}"} for number in range(count)]
    return {"volumes": [*items, {"name": last}] if last else items}


def test_what_differs_at_the_end_of_a_long_list_is_shown() -> None:
    text = pod_spec_diff(volumes(5000, "before"), volumes(5000, "after"))
    assert '-   "Name": "before",\n+   "Name": "after",\n' in text
    assert '"v4999"' not in text


def test_what_differs_in_a_large_map_is_shown() -> None:
    labels = {f"k{number}": "v" for number in range(5000)}
    text = pod_spec_diff({"nodeSelector": {**labels, "z": "1"}}, {"nodeSelector": {**labels, "z": "2"}})
    assert '-  "z": "1"\n+  "z": "2"\n' in text


def test_a_difference_is_as_upstreams_while_it_is_small() -> None:
    assert spec_diff("NodeSelectorTerm", {}, {"matchFields": [{"key": "a", "operator": "In", "values": ["b"]}]}) == (
        "@@ -1,4 +1,12 @@\n"
        ' {\n  "MatchExpressions": null,\n- "MatchFields": null\n'
        '+ "MatchFields": [\n+  {\n+   "Key": "a",\n+   "Operator": "In",\n'
        '+   "Values": [\n+    "b"\n+   ]\n+  }\n+ ]\n }\n'
    )


@pytest.mark.parametrize("count", [1000, 100_000])
def test_a_value_shows_a_bounded_number_of_fields(count: int) -> None:
    shown = internal_value("PodSpec", volumes(count))
    assert shown is not None
    fields = sum(len(volume) for volume in shown["Volumes"])
    assert min(count, 500) <= len(shown["Volumes"])
    assert fields <= internal._MOST_FIELDS * 1.1


def test_what_takes_the_square_is_bounded() -> None:
    """Neighbours that change places are the worst for the comparison: a longest match at every line."""
    names = [str(number) for number in range(100_000)]
    swapped = [name for pair in zip(names[1::2], names[::2], strict=True) for name in pair]
    text = internal.difference(names, swapped)
    assert text.count("\n") < 3 * internal._MOST_LINES
    assert '-"1"' in text.replace(" ", "")
