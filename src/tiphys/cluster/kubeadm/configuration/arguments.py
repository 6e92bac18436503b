"""Lists of ``{name, value}``: a component's flags as a configuration has them; one may stand several times. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Argument = Mapping[str, str]


def value(arguments: Iterable[Argument], name: str) -> str | None:
    """The last value of a flag; None if it is not given."""
    given = [argument.get("value", "") for argument in arguments if argument["name"] == name]
    return given[-1] if given else None


def command(program: str, base: Mapping[str, str], extra: Iterable[Argument]) -> list[str]:
    """The command line: our flags by name, those without that the user gives, and then the user's in their order."""
    given = list(extra)
    taken = {argument["name"] for argument in given}
    ours = [f"--{name}={text}" for name, text in sorted(base.items()) if name not in taken]
    return [program, *ours, *(f"--{argument['name']}={argument.get('value', '')}" for argument in given)]
