"""Levels of the Pod Security Standards, the policy that the labels of a namespace make of them, and exemptions. Pure.

Source: https://kubernetes.io/docs/concepts/security/pod-security-admission/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tiphys.api import fielderrors
from tiphys.api.object import Object
from tiphys.apiserver.admission.pods.podsecuritychecks import Finding, findings

PREFIX = "pod-security.kubernetes.io/"
LEVELS = ("privileged", "baseline", "restricted")
PRIVILEGED, RESTRICTED = LEVELS[0], LEVELS[-1]
MODES = ("enforce", "audit", "warn")
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)")
_LATEST = 36


def is_version(text: str) -> bool:
    return _VERSION.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class PodSecurityLevel:
    name: str = PRIVILEGED
    version: str = "latest"

    @property
    def minor(self) -> int:
        match = _VERSION.fullmatch(self.version)
        return min(int(match[1]), _LATEST) if match else _LATEST

    @property
    def strictness(self) -> int:
        return LEVELS.index(self.name)

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"

    def check(self, meta: Object, spec: Object) -> list[Finding]:
        return findings(self.name, self.minor, meta, spec)


Policy = Mapping[str, PodSecurityLevel]
"""The level of each mode."""


@dataclass(frozen=True, slots=True)
class PodSecurityRules:
    """What the server is set to: the policy of namespaces whose labels say nothing, and whom no policy concerns."""

    defaults: Policy = field(default_factory=lambda: dict.fromkeys(MODES, PodSecurityLevel()))
    usernames: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    runtime_classes: frozenset[str] = frozenset()


def policy_of(labels: Mapping[str, str], defaults: Policy) -> Policy:
    """A label that makes no sense counts as the strictest level, if it is what is enforced, or else the widest; for a
    version, as the latest. Anyone who enforces more than the default and says nothing of warnings gets those, too."""
    if not any(name.startswith(PREFIX) for name in labels):
        return defaults
    policy = {mode: _level(labels, mode, defaults[mode]) for mode in MODES}
    enforce, warn = policy["enforce"], policy["warn"]
    said = labels.get(PREFIX + "enforce") in LEVELS
    if PREFIX + "warn" not in labels and said and enforce.strictness > warn.strictness:
        version = warn.version if PREFIX + "warn-version" in labels else enforce.version
        policy["warn"] = PodSecurityLevel(enforce.name, version)
    return policy


def _level(labels: Mapping[str, str], mode: str, default: PodSecurityLevel) -> PodSecurityLevel:
    name = labels.get(PREFIX + mode, default.name)
    version = labels.get(f"{PREFIX}{mode}-version", default.version)
    if name not in LEVELS:
        name = RESTRICTED if mode == "enforce" else PRIVILEGED
    return PodSecurityLevel(name, version if is_version(version) else "latest")


def is_privileged(policy: Policy) -> bool:
    return all(level.name == PRIVILEGED for level in policy.values())


def bad_labels(labels: Mapping[str, str]) -> list[fielderrors.FieldError]:
    bad = []
    for mode in MODES:
        level = labels.get(PREFIX + mode)
        if level is not None and level not in LEVELS:
            path = f"metadata.labels[{PREFIX}{mode}]"
            bad.append(fielderrors.invalid(path, level, f"must be one of {', '.join(LEVELS)}"))
        version = labels.get(f"{PREFIX}{mode}-version")
        if version not in (None, "latest") and not is_version(str(version)):
            path = f"metadata.labels[{PREFIX}{mode}-version]"
            bad.append(fielderrors.invalid(path, version, 'must be "latest" or "v1.x"'))
    return bad


def ignored(labels: Mapping[str, str], policy: Policy, defaults: Policy) -> str:
    """The levels that the labels of a namespace ask for and that count for nothing, as it is exempt; empty if none."""
    if is_privileged(policy) or policy == defaults:
        return ""
    asked = [mode for mode in MODES if PREFIX + mode in labels or f"{PREFIX}{mode}-version" in labels]
    return ", ".join(f"{mode}={policy[mode]}" for mode in asked if policy[mode].name != PRIVILEGED)
