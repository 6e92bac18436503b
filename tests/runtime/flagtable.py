"""The table of docs/flags.md, made from the code: `python -m tests.runtime.flagtable` writes it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tiphys.runtime import featuregates, upstream
from tiphys.runtime.flags import FlagParser

PAGE = Path(__file__).parents[2] / "docs" / "flags.md"
START = "<!-- generated: python -m tests.runtime.flagtable -->"

PARSERS: Mapping[str, tuple[str, str]] = {
    "kube-apiserver": ("tiphys.apiserver.flags", "parser"),
    "kube-controller-manager": ("tiphys.controllers.command", "parser"),
    "kube-scheduler": ("tiphys.scheduler.command", "parser"),
    "kubelet": ("tiphys.kubelet.command", "parser"),
    "kube-proxy": ("tiphys.proxy.command", "parser"),
    "cloud-controller-manager": ("tiphys.cloud.command", "parser"),
}


def parser_of(component: str) -> FlagParser:
    module, name = PARSERS[component]
    make: Callable[[], FlagParser] = getattr(importlib.import_module(module), name)
    return make()


def action_of(parser: FlagParser, name: str) -> Any:
    return parser._option_string_actions.get(f"--{name}")


def go(value: Any) -> str:
    """A default of ours as it would be given."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case list() | tuple():
            return ",".join(map(str, value))
        case dict():
            return ",".join(f"{key}={item}" for key, item in value.items())
        case _:
            return str(value)


def own_default(parser: FlagParser, flag: upstream.UpstreamFlag) -> str:
    """Our default if it is another than upstream's, as text; empty if it is the same, or is found out elsewhere."""
    default = action_of(parser, flag.name).default
    if default is None:
        return ""
    text = f"{default}s" if flag.kind == "duration" and isinstance(default, float) else go(default)
    if flag.says_default(text):
        return ""
    return text or "none"


def _row(parser: FlagParser, flag: upstream.UpstreamFlag) -> str:
    if flag.name in parser.idle():
        same = "".join(f", `{text}`" for text in parser.same(flag.name) if text)
        why = parser.why(flag.name) and f": {parser.why(flag.name)}"
        shown = "only its default" + (f", or what Tiphys does: {same[2:]}" if same else "") + why
    else:
        action = action_of(parser, flag.name)
        choices = ", ".join(f"`{go(choice)}`" for choice in action.choices or () if go(choice))
        own = own_default(parser, flag)
        parts = ["works", f"with {choices}" if choices else "", f"default here: `{own}`" if own else ""]
        shown = "; ".join(filter(None, parts))
    return f"| `--{flag.name}` | {flag.kind} | {f'`{flag.default}`' if flag.default else ''} | {shown} |"


def lines() -> Iterator[str]:
    for component in PARSERS:
        parser = parser_of(component)
        flags, idle = upstream.flags_of(component), parser.idle()
        yield f"\n## {component}\n"
        yield (
            f"{len(flags) + 2} flags of upstream (with `--help` and `--version`): {len(flags) - len(idle) + 2} work,"
            f" {len(idle)} steer nothing.\n"
        )
        yield "| flag | type | upstream's default | in Tiphys |"
        yield "|---|---|---|---|"
        yield from (_row(parser, flag) for flag in flags.values())
        own = [name[2:] for name in parser._option_string_actions if name.startswith("--") and name[2:] not in flags]
        if more := sorted(set(own) - {"help", "version"}):
            yield f"\nOf Tiphys alone: {', '.join(f'`--{name}`' for name in more)}."
    yield "\n## Feature gates\n"
    yield "| gate | default | stage |"
    yield "|---|---|---|"
    for gate in featuregates.gates().values():
        yield f"| `{gate.name}` | {go(gate.default)} | {gate.stage}{', locked' if gate.locked else ''} |"


def page() -> str:
    """The page with its generated part rebuilt."""
    return PAGE.read_text().partition(START)[0] + START + "\n" + "\n".join(lines()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
