"""From what all objects ask for to what is served (pure): of two that want the same, the older one gets it.

Source: https://kubernetes.io/docs/concepts/services-networking/ingress/#multiple-matches
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tiphys.addons.ingress.ingresses import Wishes
from tiphys.addons.ingress.model import PathRule, Routing, ServedCertificate, Split, TargetGroup
from tiphys.api.meta.objects import key_of


def merge(all_wishes: Iterable[Wishes]) -> Routing:
    """What is served; the losers of conflicts have a problem more."""
    rules: dict[tuple[bool, str], str] = {}
    served: list[PathRule] = []
    groups: dict[str, TargetGroup] = {}
    splits: dict[str, Split] = {}
    hosts: dict[str, str] = {}
    certificates: list[ServedCertificate] = []
    for wishes in sorted(all_wishes, key=_age):
        owner = key_of(wishes.obj)
        for rule in wishes.rules:
            taken = [by for by in _takers(rule, rules) if by != owner]
            free = tuple(scheme for scheme in rule.schemes if (rule.exact, _key(rule, scheme)) not in rules)
            rules |= {(rule.exact, _key(rule, scheme)): owner for scheme in free}
            if free:
                served.append(replace(rule, schemes=free))
            if taken:
                wishes.problems.append(f"rule for {rule.host}{rule.path}: {taken[0]} has it already")
        for group in wishes.groups:
            groups.setdefault(group.name, group)
        for split in wishes.splits:
            splits.setdefault(split.name, split)
        for certificate in wishes.certificates:
            mine = tuple(host for host in certificate.hosts if hosts.setdefault(host, owner) == owner)
            if len(mine) < len(certificate.hosts):
                other = next(host for host in certificate.hosts if hosts[host] != owner)
                wishes.problems.append(f"tls for {other}: {hosts[other]} has it already")
            if mine or not certificate.hosts:
                certificates.append(ServedCertificate(certificate.name, certificate.pem, mine))
    used = {rule.group for rule in served}
    split_up = tuple(split for name, split in sorted(splits.items()) if name in used)
    used |= {group for split in split_up for group, _ in split.shares}
    served_groups = tuple(group for name, group in sorted(groups.items()) if name in used)
    return Routing(tuple(served), served_groups, tuple(certificates), split_up)


def _takers(rule: PathRule, rules: Mapping[tuple[bool, str], str]) -> list[str]:
    return [by for key in rule.keys if (by := rules.get(key)) is not None]


def _key(rule: PathRule, scheme: str) -> str:
    return replace(rule, schemes=(scheme,)).keys[0][1]


def _age(wishes: Wishes) -> tuple[str, str]:
    return str(wishes.obj["metadata"].get("creationTimestamp") or ""), key_of(wishes.obj)
