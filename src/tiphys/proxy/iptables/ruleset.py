"""All rules as one thing: takes changed services and gives the text that brings the kernel there (pure).

A change of endpoints names that service's own chains only. A service that appears or goes changes the chains that
services share; those are written as a whole, as iptables finds a single rule no faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tiphys.proxy.iptables import base, names
from tiphys.proxy.iptables.rules import SHARED, Chain, Rules, ServiceRules
from tiphys.proxy.rules import Options
from tiphys.proxy.state import ServiceKey

NOTHING = ServiceRules()


class Ruleset:
    """What the kernel should hold. ``update`` and ``rebuild`` give the input of ``iptables-restore --noflush``."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._services: dict[ServiceKey, ServiceRules] = {}

    def update(self, changes: Mapping[ServiceKey, ServiceRules]) -> str:
        """Take the changed services' new rules (``NOTHING`` for gone ones); returns the text, or nothing."""
        chains: dict[str, Rules] = {}
        stale: set[str] = set()
        shared: set[Chain] = set()
        for key, new in changes.items():
            old = self._services.get(key, NOTHING)
            chains |= {name: lines for name, lines in new.chains.items() if old.chains.get(name) != lines}
            stale |= old.chains.keys() - new.chains.keys()
            shared |= {chain for chain in SHARED if old.shared.get(chain) != new.shared.get(chain)}
            if new.chains or new.shared:
                self._services[key] = new
            else:
                self._services.pop(key, None)
        return self._text(chains, stale - chains.keys(), shared)

    def rebuild(self, present: Iterable[str]) -> str:
        """The text that makes the tables what they should be, whatever they hold; ``present`` are the chains of the
        table nat."""
        chains = {name: lines for service in self._services.values() for name, lines in service.chains.items()}
        stale = {name for name in present if names.is_service_chain(name) and name not in chains}
        every = [(table, name) for table, listed in names.FIXED.items() for name in listed]
        return self._text(chains, stale, every)

    def _text(self, chains: Mapping[str, Rules], stale: Iterable[str], shared: Iterable[Chain]) -> str:
        """``:NAME`` makes a chain or empties it; a chain can be removed when nothing jumps to it any more."""
        filled = {chain: self._shared_rules(chain) for chain in sorted(shared)}
        parts = []
        for table in ("filter", "nat"):
            content = {name: lines for (where, name), lines in filled.items() if where == table}
            gone: list[str] = []
            if table == "nat":
                content |= {name: list(lines) for name, lines in chains.items()}
                gone = sorted(stale)
            if content or gone:
                parts.append(_table(table, content, gone))
        return "".join(parts)

    def _shared_rules(self, chain: Chain) -> list[str]:
        own = [rule for service in self._services.values() for rule in service.shared.get(chain, ())]
        return [*base.before(chain, self.options), *own, *base.after(chain, self.options)]


def _table(table: str, content: Mapping[str, list[str]], gone: list[str]) -> str:
    lines = [f"*{table}", *(f":{name} - [0:0]" for name in (*content, *gone))]
    lines += [f"-A {name} {rule}" for name, rules_ in content.items() for rule in rules_]
    lines += [f"-X {name}" for name in gone]
    return "\n".join([*lines, "COMMIT", ""])
