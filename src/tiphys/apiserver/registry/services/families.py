"""Which IP families a service has: what its user asks for, what its addresses say, and what the cluster offers.

Source: https://kubernetes.io/docs/concepts/services-networking/dual-stack/
"""

from __future__ import annotations

from tiphys.api import errors, fielderrors
from tiphys.api.fielderrors import FieldError
from tiphys.api.object import Object
from tiphys.apiserver.registry.services.fields import is_external_name, is_headless, same_addresses, same_families
from tiphys.validation.core.service import cluster_ip_fields

SINGLE, REQUIRE, PREFER = "SingleStack", "RequireDualStack", "PreferDualStack"
_POLICY = "spec.ipFamilyPolicy"
_OTHER = {"IPv4": "IPv6", "IPv6": "IPv4"}


def family_of(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def resolve_families(service: Object, old: Object | None, offered: tuple[str, ...]) -> None:
    """Fill in ``ipFamilyPolicy`` and ``ipFamilies``; ``offered`` are the cluster's, its default first. Raises 422."""
    spec = service["spec"]
    if is_external_name(service) or (old is not None and keeps_preferred(service, old)):
        return
    headless_alone = is_headless(service) and not spec.get("selector")
    if spec.get("ipFamilyPolicy") is None:
        kept = (old or {}).get("spec", {}).get("ipFamilyPolicy")
        spec["ipFamilyPolicy"] = kept or (REQUIRE if headless_alone else SINGLE)
    _refuse(service, cluster_ip_fields(spec, (old or {}).get("spec") or {}))
    problems = _reduce(service, old) if old is not None else []
    _refuse(service, problems + _check_counts(spec) + _infer(spec, offered))
    if not headless_alone:
        _refuse(service, _check_offered(spec, offered))
    families = spec.get("ipFamilies") or [offered[0]]
    grows = spec["ipFamilyPolicy"] != SINGLE and len(families) == 1
    if grows and (headless_alone or len(offered) == 2):
        families = [*families, _OTHER[families[0]]]
    spec["ipFamilies"] = families


def keeps_preferred(new: Object, old: Object) -> bool:
    """Whether a service that prefers two families stays as it is, even if the cluster offers another number now."""
    kind = new["spec"].get("type")
    return (
        kind == old["spec"].get("type")
        and kind in ("ClusterIP", "NodePort", "LoadBalancer")
        and new["spec"].get("ipFamilyPolicy") == PREFER
        and old["spec"].get("ipFamilyPolicy") in (PREFER, None)
        and same_addresses(new, old)
        and same_families(new, old)
    )


def _refuse(service: Object, problems: list[FieldError]) -> None:
    if problems:
        raise errors.invalid("", "Service", service["metadata"].get("name", ""), problems)


def _reduce(service: Object, old: Object) -> list[FieldError]:
    """Going back to a single stack drops the second address; with another policy that is an error."""
    problems: list[FieldError] = []
    spec = service["spec"]
    for name, what, same in (("clusterIPs", "cluster IP", same_addresses), ("ipFamilies", "IP family", same_families)):
        now, then = spec.get(name) or [], old["spec"].get(name) or []
        if spec["ipFamilyPolicy"] == SINGLE:
            if same(service, old) and len(now) > 1:
                spec[name] = now[:1]
        elif now and len(now) < len(then):
            text = f"must be 'SingleStack' to release the secondary {what}"
            problems.append(fielderrors.invalid(_POLICY, spec["ipFamilyPolicy"], text))
    return problems


def _check_counts(spec: Object) -> list[FieldError]:
    problems: list[FieldError] = []
    if spec["ipFamilyPolicy"] == SINGLE:
        for name, what in (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")):
            if len(spec.get(name) or ()) == 2:
                text = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                problems.append(fielderrors.invalid(_POLICY, SINGLE, text))
    return problems


def _infer(spec: Object, offered: tuple[str, ...]) -> list[FieldError]:
    """Families of addresses that the user names."""
    problems: list[FieldError] = []
    families = list(spec.get("ipFamilies") or ())
    for index, address in enumerate(spec.get("clusterIPs") or ()):
        if address == "None":
            break
        if index < len(families):
            continue
        family = family_of(address)
        if family in offered:
            families.append(family)
        else:
            text = f"{family} is not configured on this cluster"
            problems.append(fielderrors.invalid(f"spec.clusterIPs[{index}]", spec["clusterIPs"], text))
    if families:
        spec["ipFamilies"] = families
    return problems


def _check_offered(spec: Object, offered: tuple[str, ...]) -> list[FieldError]:
    problems: list[FieldError] = []
    if spec["ipFamilyPolicy"] == REQUIRE and len(offered) < 2:
        text = "this cluster is not configured for dual-stack services"
        problems.append(fielderrors.invalid(_POLICY, REQUIRE, text))
    for index, family in enumerate(spec.get("ipFamilies") or ()):
        if family not in offered:
            problems.append(fielderrors.invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster"))
    return problems
