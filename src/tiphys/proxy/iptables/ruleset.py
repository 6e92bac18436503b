"""All rules as one thing: takes changed services and gives the text that brings the kernel there (pure).

A change of endpoints names that service's own chains only. A service that appears or goes changes the chains that
services share; those are written as a whole, as iptables finds a single rule no faster.

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-mode-iptables
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from tiphys.proxy.iptables import base, names
from tiphys.proxy.iptables.rules import SHARED, Chain, Rules, ServiceRules
from tiphys.proxy.rules import Options
from tiphys.proxy.state import ServiceKey

_T = TypeVar("_T")
NOTHING = ServiceRules()
AT_ONCE = 200
"""Services of one text. What iptables-restore 1.8.9 needs grows with the square of it: 47 s for 4,000 at once, 4 s in
parts (two busy cores)."""


class Ruleset:
    """What the kernel should hold. ``update`` and ``rebuild`` return inputs of ``iptables-restore --noflush``."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._services: dict[ServiceKey, ServiceRules] = {}

    def update(self, changes: Mapping[ServiceKey, ServiceRules]) -> list[str]:
        """Take the changed services' new rules (``NOTHING`` for gone ones); returns the texts, one after the other."""
        chains: list[dict[str, Rules]] = []
        stale: set[str] = set()
        shared: set[Chain] = set()
        for key, new in changes.items():
            old = self._services.get(key, NOTHING)
            changed = {name: lines for name, lines in new.chains.items() if old.chains.get(name) != lines}
            if changed:
                chains.append(changed)
            stale |= old.chains.keys() - new.chains.keys()
            shared |= {chain for chain in SHARED if old.shared.get(chain) != new.shared.get(chain)}
            if new.chains or new.shared:
                self._services[key] = new
            else:
                self._services.pop(key, None)
        return self._texts(chains, stale, shared)

    def rebuild(self, present: Iterable[str]) -> list[str]:
        """The texts that make the tables what they should be, whatever they hold; ``present`` are the chains of the
        table nat."""
        chains = [service.chains for service in self._services.values()]
        wanted = {name for of_service in chains for name in of_service}
        stale = {name for name in present if names.is_service_chain(name) and name not in wanted}
        every = [(table, name) for table, listed in names.FIXED.items() for name in listed]
        first, *more = self._texts(chains, stale, every)
        # Services' chains lead to it.
        return [self._text({}, (), [("nat", names.MARK_MASQ)]) + first, *more]

    def _texts(
        self, chains: Sequence[dict[str, Rules]], stale: Collection[str], shared: Collection[Chain]
    ) -> list[str]:
        """The services' own chains, then with the last of them what leads to them, then what nothing leads to any more:
        in parts, as one large text takes far longer than many small ones."""
        written = list(parts(chains, AT_ONCE)) or [[]]
        again = merged(chains)
        gone = list(parts(sorted((name for name in stale if name not in again), key=names.removal_order), 3 * AT_ONCE))
        texts = [self._text(merged(part), (), ()) for part in written[:-1]]
        texts.append(self._text(merged(written[-1]), gone[0] if gone else (), shared))
        texts += [self._text({}, part, ()) for part in gone[1:]]
        return [text for text in texts if text]

    def _text(self, chains: Mapping[str, Rules], stale: Iterable[str], shared: Iterable[Chain]) -> str:
        """``:NAME`` makes a chain or empties it; a chain can be removed when nothing jumps to it any more."""
        filled = {chain: self._shared_rules(chain) for chain in sorted(shared)}
        parts = []
        for table in ("filter", "nat"):
            content = {name: lines for (where, name), lines in filled.items() if where == table}
            gone: list[str] = []
            if table == "nat":
                content |= {name: list(lines) for name, lines in chains.items()}
                gone = list(stale)
            if content or gone:
                parts.append(_table(table, content, gone))
        return "".join(parts)

    def _shared_rules(self, chain: Chain) -> list[str]:
        own = [rule for service in self._services.values() for rule in service.shared.get(chain, ())]
        return [*base.before(chain, self.options), *own, *base.after(chain, self.options)]


def parts(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def merged(chains: Iterable[dict[str, Rules]]) -> dict[str, Rules]:
    return {name: lines for of_service in chains for name, lines in of_service.items()}


def _table(table: str, content: Mapping[str, list[str]], gone: list[str]) -> str:
    lines = [f"*{table}", *(f":{name} - [0:0]" for name in (*content, *gone))]
    lines += [f"-A {name} {rule}" for name, rules_ in content.items() for rule in rules_]
    lines += [f"-X {name}" for name in gone]
    return "\n".join([*lines, "COMMIT", ""])
