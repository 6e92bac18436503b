"""What the configuration of each admission plugin says, from its document to what the plugin takes. Pure.

Every function takes the parsed document, or None without one, and raises ``ConfigFileError``, which names the plugin
and the field. Source: https://kubernetes.io/docs/reference/config-api/
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiphys.api import fielderrors
from tiphys.api.fielderrors import FieldError
from tiphys.api.meta.names import dns1123_label, dns1123_subdomain
from tiphys.api.object import Object
from tiphys.apiserver.admission.limitedresources import LimitedResource
from tiphys.apiserver.admission.pods.podsecuritylevels import (
    LEVELS,
    MODES,
    PRIVILEGED,
    PodSecurityLevel,
    PodSecurityRules,
    is_version,
)
from tiphys.apiserver.configfile import ConfigFileError, Kinds, checked, typed

if TYPE_CHECKING:
    from tiphys.apiserver.admission.optional.eventratelimit import Limit
    from tiphys.apiserver.admission.optional.imagepolicy import ImagePolicy
    from tiphys.apiserver.admission.optional.podtolerations import TolerationRules

_STRINGS = [str]
_TOLERATIONS = [{"key": str, "operator": str, "value": str, "effect": str, "tolerationSeconds": int}]
_EXEMPT = ("usernames", "namespaces", "runtimeClasses")
_POD_SECURITY = {
    "defaults": {name: str for mode in MODES for name in (mode, f"{mode}-version")},
    "exemptions": dict.fromkeys(_EXEMPT, _STRINGS),
}
_SCOPES = [{"scopeName": str, "operator": str, "values": _STRINGS}]
_QUOTA = {
    "limitedResources": [{"apiGroup": str, "resource": str, "matchContains": _STRINGS, "matchScopes": _SCOPES}],
}
_WEBHOOK = {"kubeConfigFile": str, "staticManifestsDir": str}
_KINDS: Mapping[str, Kinds] = {
    "PodSecurity": {
        (f"pod-security.admission.config.k8s.io/{version}", "PodSecurityConfiguration"): _POD_SECURITY
        for version in ("v1", "v1beta1", "v1alpha1")
    },
    "ResourceQuota": {
        ("apiserver.config.k8s.io/v1", "ResourceQuotaConfiguration"): _QUOTA,
        **{(f"resourcequota.admission.k8s.io/{v}", "Configuration"): _QUOTA for v in ("v1beta1", "v1alpha1")},
    },
    "EventRateLimit": {
        ("eventratelimit.admission.k8s.io/v1alpha1", "Configuration"): {
            "limits": [{"type": str, "qps": int, "burst": int, "cacheSize": int}]
        }
    },
    "PodTolerationRestriction": {
        ("podtolerationrestriction.admission.k8s.io/v1alpha1", "Configuration"): {
            "default": _TOLERATIONS,
            "whitelist": _TOLERATIONS,
        }
    },
    "webhooks": {
        ("apiserver.config.k8s.io/v1", "WebhookAdmissionConfiguration"): _WEBHOOK,
        ("apiserver.config.k8s.io/v1alpha1", "WebhookAdmission"): _WEBHOOK,
    },
}
_IMAGE_POLICY = {
    "imagePolicy": {"kubeConfigFile": str, "allowTTL": int, "denyTTL": int, "retryBackoff": int, "defaultAllow": bool}
}
_NODE_SELECTORS = {"podNodeSelectorPluginConfig": {"*": str}}
_LONGEST_TTL, _LONGEST_PAUSE = 30 * 60.0, 5 * 60.0


def pod_security(document: Any) -> PodSecurityRules:
    if document is None:
        return PodSecurityRules()
    rules = _typed("PodSecurity", document)
    defaults, exempt = rules.get("defaults") or {}, rules.get("exemptions") or {}
    levels = {
        mode: PodSecurityLevel(defaults.get(mode) or PRIVILEGED, defaults.get(f"{mode}-version") or "latest")
        for mode in MODES
    }
    problems = [problem for mode, level in levels.items() for problem in _level_problems(mode, level)]
    _refuse("PodSecurity", [*problems, *_exemption_problems(exempt)])
    return PodSecurityRules(levels, *(frozenset(exempt.get(n) or ()) for n in _EXEMPT))


def _level_problems(mode: str, level: PodSecurityLevel) -> list[FieldError]:
    problems = []
    if level.name not in LEVELS:
        text = f"must be one of {', '.join(LEVELS)}"
        problems.append(fielderrors.invalid(f"defaults.{mode}", level.name, text))
    if level.version != "latest" and not is_version(level.version):
        path = f"defaults.{mode}-version"
        problems.append(fielderrors.invalid(path, level.version, 'must be "latest" or "v1.x"'))
    return problems


def _exemption_problems(exempt: Object) -> list[FieldError]:
    checks = {"namespaces": dns1123_label, "runtimeClasses": dns1123_subdomain}
    problems = []
    for field, names in exempt.items():
        seen: set[str] = set()
        for number, name in enumerate(names):
            path = f"exemptions.{field}[{number}]"
            if field == "usernames":
                wrong = [] if name else ["username must not be empty"]
            else:
                wrong = checks[field](name)
            if wrong:
                problems.append(fielderrors.invalid(path, name, ", ".join(wrong)))
            elif name in seen:
                problems.append(fielderrors.duplicate(path, name))
            seen.add(name)
    return problems


def limited_resources(document: Any) -> tuple[LimitedResource, ...]:
    """What nobody may use without a quota."""
    rows = [] if document is None else _typed("ResourceQuota", document).get("limitedResources") or []
    missing = [n for n, row in enumerate(rows) if not row.get("resource")]
    _refuse("ResourceQuota", [fielderrors.required(f"limitedResources[{n}].resource") for n in missing])
    return tuple(
        LimitedResource(
            row.get("apiGroup", ""),
            row["resource"],
            tuple(row.get("matchContains") or ()),
            tuple(row.get("matchScopes") or ()),
        )
        for row in rows
    )


def event_limits(document: Any) -> tuple[Limit, ...]:
    from tiphys.apiserver.admission.optional.eventratelimit import Limit

    if document is None:
        return ()
    rows = _typed("EventRateLimit", document).get("limits") or []
    if not rows:
        _refuse("EventRateLimit", [fielderrors.invalid("limits", rows, "must not be empty")])
    _refuse("EventRateLimit", [problem for n, row in enumerate(rows) for problem in _limit_problems(row, n)])
    return tuple(Limit(row["type"], float(row["qps"]), row["burst"], row.get("cacheSize") or 4096) for row in rows)


def _limit_problems(row: Object, number: int) -> list[FieldError]:
    from tiphys.apiserver.admission.optional.eventratelimit import TYPES

    path, type = f"limits[{number}]", row.get("type", "")
    problems = [] if type in TYPES else [fielderrors.not_supported(f"{path}.type", type, TYPES)]
    problems += [
        fielderrors.invalid(f"{path}.{name}", row.get(name, 0), "must be positive")
        for name in ("burst", "qps")
        if row.get(name, 0) <= 0
    ]
    if type != "Server" and row.get("cacheSize", 0) < 0:
        problems.append(fielderrors.invalid(f"{path}.cacheSize", row["cacheSize"], "must not be negative"))
    return problems


def toleration_rules(document: Any) -> TolerationRules:
    from tiphys.apiserver.admission.optional.podtolerations import TolerationRules
    from tiphys.validation.pods.placement import tolerations as toleration_problems
    from tiphys.validation.pods.podoptions import POD

    if document is None:
        return TolerationRules()
    rules = _typed("PodTolerationRestriction", document)
    problems: list[FieldError] = []
    for name in ("default", "whitelist"):
        toleration_problems(problems, rules.get(name) or [], f"podtolerationrestriction.{name}", POD)
    _refuse("PodTolerationRestriction", problems)
    return TolerationRules(rules.get("default") or (), rules.get("whitelist") or ())


def node_selectors(document: Any) -> Mapping[str, str]:
    if document is None:
        return {}
    selectors: Mapping[str, str] = _checked("PodNodeSelector", document, _NODE_SELECTORS).get(
        "podNodeSelectorPluginConfig", {}
    )
    return selectors


def image_policy(document: Any) -> ImagePolicy:
    """Times are whole numbers: seconds, and for the pause before a retry milliseconds; -1 turns them off."""
    if document is None:
        raise ConfigFileError(
            "the admission plugin ImagePolicyWebhook needs a configuration; name it in --admission-control-config-file"
        )
    row = _checked("ImagePolicyWebhook", document, _IMAGE_POLICY).get("imagePolicy") or {}
    if not row.get("kubeConfigFile"):
        _refuse("ImagePolicyWebhook", [fielderrors.required("imagePolicy.kubeConfigFile")])
    from tiphys.apiserver.admission.optional.imagepolicy import ImagePolicy

    return ImagePolicy(
        Path(row["kubeConfigFile"]),
        _time(row, "allowTTL", 1.0, 300.0, 1.0, _LONGEST_TTL),
        _time(row, "denyTTL", 1.0, 30.0, 1.0, _LONGEST_TTL),
        _time(row, "retryBackoff", 0.001, 0.5, 1e-9, _LONGEST_PAUSE),
        bool(row.get("defaultAllow")),
    )


def _time(row: Object, name: str, unit: float, default: float, least: float, most: float) -> float:
    value = row.get(name, 0)
    if value == 0:
        return default
    if value == -1:
        return 0.0
    if not least <= value * unit <= most:
        text = f"valid value is between {least:g}s and {most:g}s"
        _refuse("ImagePolicyWebhook", [fielderrors.invalid(f"imagePolicy.{name}", value, text)])
    return float(value * unit)


def webhook_kubeconfig(plugin: str, document: Any) -> Path | None:
    """The kubeconfig whose users are the credentials for webhooks."""
    if document is None:
        return None
    try:
        webhooks = typed(document, _KINDS["webhooks"])
    except ConfigFileError as error:
        raise ConfigFileError(f"the configuration of the admission plugin {plugin}: {error}") from None
    if webhooks.get("staticManifestsDir"):
        reason = "is not supported by Tiphys, nor by upstream unless a feature gate is on; remove it"
        _refuse(plugin, [fielderrors.forbidden("staticManifestsDir", reason)])
    file = webhooks.get("kubeConfigFile") or ""
    if file and not Path(file).is_absolute():
        _refuse(plugin, [fielderrors.invalid("kubeConfigFile", file, "must be an absolute file path")])
    return Path(file) if file else None


def _typed(plugin: str, document: Any) -> Object:
    try:
        return typed(document, _KINDS[plugin])
    except ConfigFileError as error:
        raise ConfigFileError(f"the configuration of the admission plugin {plugin}: {error}") from None


def _checked(plugin: str, document: Any, shape: Any) -> Object:
    try:
        checked_document: Object = checked(document, shape)
    except ConfigFileError as error:
        raise ConfigFileError(f"the configuration of the admission plugin {plugin}: {error}") from None
    return checked_document


def _refuse(plugin: str, problems: list[FieldError]) -> None:
    if problems:
        texts = "; ".join(map(str, problems))
        raise ConfigFileError(f"the configuration of the admission plugin {plugin}: {texts}")
