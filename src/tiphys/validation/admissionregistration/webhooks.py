"""Webhooks which the server asks about a request: MutatingWebhookConfiguration and ValidatingWebhookConfiguration.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#validatingwebhookconfiguration-v1-admissionregistration-k8s-io
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from dataclasses import field as member

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.admissionregistration.matching import (
    FAILURE_POLICIES,
    MATCH_POLICIES,
    REINVOCATION_POLICIES,
    Context,
    match_conditions,
    rule_with_operations,
)
from tiphys.validation.shared.common import (
    Errors,
    equal,
    invalid_all,
    label_selector,
    one_of,
    with_repeats,
)
from tiphys.validation.shared.objectmeta import validate_meta
from tiphys.validation.shared.webhook import client_config

REVIEW_VERSIONS = ("v1", "v1beta1")
_SIDE_EFFECTS = ("None", "NoneOnDryRun", "Some", "Unknown")
_NO_SIDE_EFFECTS = ("None", "NoneOnDryRun")


@dataclass(frozen=True, slots=True)
class _Options:
    """What an update may keep, because an older server let it through."""

    same_conditions: bool = False
    no_side_effects: bool = True
    known_version: bool = True
    unique_names: bool = True
    bad_selector_values: bool = False
    stored: Collection[str] = member(default_factory=frozenset)


def validate_webhooks(obj: Object) -> Errors:
    return _configuration(obj, _Options())


def validate_webhooks_update(new: Object, old: Object) -> Errors:
    """The errors of a webhook configuration on update; what was stored wrong before stays allowed."""
    before: Sequence[Object] = old.get("webhooks") or []
    after: Sequence[Object] = new.get("webhooks") or []
    named = [hook.get("name") or "" for hook in before]
    conditions = [c.get("expression") or "" for hook in before for c in hook.get("matchConditions") or ()]
    same = len(before) == len(after) and all(
        equal(a.get("matchConditions"), b.get("matchConditions")) for a, b in zip(after, before, strict=True)
    )
    return _configuration(
        new,
        _Options(
            same_conditions=same,
            no_side_effects=all(hook.get("sideEffects") in _NO_SIDE_EFFECTS for hook in before),
            known_version=all(_knows_a_version(hook.get("admissionReviewVersions") or ()) for hook in before),
            unique_names=len(set(named)) == len(named),
            bad_selector_values=any(_bad_selectors(hook) for hook in before),
            stored=frozenset(conditions),
        ),
    )


def _knows_a_version(versions: Collection[str]) -> bool:
    return not versions or any(version in REVIEW_VERSIONS for version in versions)


def _bad_selectors(hook: Object) -> bool:
    errs: Errors = []
    for key in ("namespaceSelector", "objectSelector"):
        label_selector(errs, hook.get(key), "")
    return bool(errs)


def _configuration(obj: Object, options: _Options) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False, core=False)
    seen: set[str] = set()
    for i, hook in enumerate(obj.get("webhooks") or ()):
        at = f"webhooks[{i}]"
        _webhook(errs, hook, options, at)
        versions = hook.get("admissionReviewVersions") or []
        _review_versions(errs, versions, known=options.known_version, path=f"{at}.admissionReviewVersions")
        name = hook.get("name")
        if options.unique_names and name:
            if name in seen:
                errs.append(field.duplicate(f"{at}.name", name))
            seen.add(name)
    return errs


def _webhook(errs: Errors, hook: Object, options: _Options, path: str) -> None:
    """Validate one webhook; ``options`` allow what was stored wrong before. Appends to ``errs``."""
    _name(errs, hook.get("name") or "", f"{path}.name")
    for i, rule in enumerate(hook.get("rules") or ()):
        rule_with_operations(errs, rule, f"{path}.rules[{i}]")
    for key, known in (("failurePolicy", FAILURE_POLICIES), ("matchPolicy", MATCH_POLICIES)):
        if hook.get(key) is not None:
            one_of(errs, hook[key], f"{path}.{key}", known)
    allowed = _NO_SIDE_EFFECTS if options.no_side_effects else _SIDE_EFFECTS
    if hook.get("sideEffects") is None:
        errs.append(field.required(f"{path}.sideEffects", f"must specify one of {', '.join(allowed)}"))
    else:
        one_of(errs, hook["sideEffects"], f"{path}.sideEffects", allowed)
    timeout = hook.get("timeoutSeconds")
    if timeout is not None and not 1 <= timeout <= 30:
        text = "the timeout value must be between 1 and 30 seconds"
        errs.append(field.invalid(f"{path}.timeoutSeconds", timeout, text))
    for key in ("namespaceSelector", "objectSelector"):
        label_selector(errs, hook.get(key), f"{path}.{key}", allow_bad_values=options.bad_selector_values)
    if hook.get("reinvocationPolicy") is not None:
        one_of(errs, hook["reinvocationPolicy"], f"{path}.reinvocationPolicy", REINVOCATION_POLICIES)
    client_config(errs, hook.get("clientConfig") or {}, f"{path}.clientConfig")
    if not options.same_conditions:
        context = Context(stored=options.stored)
        match_conditions(errs, hook.get("matchConditions"), context, f"{path}.matchConditions")


def _name(errs: Errors, name: str, path: str) -> None:
    if not name:
        errs.append(field.required(path))
    elif problems := names.dns1123_subdomain(name):
        errs.append(field.invalid(path, name, ",".join(problems)))
    elif name.count(".") < 2:
        text = "should be a domain with at least three segments separated by dots"
        errs.append(field.invalid(path, name, text))


def _review_versions(errs: Errors, versions: Sequence[str], path: str, *, known: bool) -> None:
    if not versions:
        errs.append(field.required(path, f"must specify one of {', '.join(REVIEW_VERSIONS)}"))
        return
    for i, version, repeated in with_repeats(versions):
        if repeated:
            errs.append(field.invalid(f"{path}[{i}]", version, "duplicate version"))
        else:
            invalid_all(errs, f"{path}[{i}]", version, names.dns1035_label(version))
    if known and not _knows_a_version(versions):
        text = f"must include at least one of {', '.join(REVIEW_VERSIONS)}"
        errs.append(field.invalid(path, versions, text))
