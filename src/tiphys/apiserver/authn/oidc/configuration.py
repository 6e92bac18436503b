"""The file ``--authentication-config``: issuers of tokens, what their claims make of a user, and anonymous callers.

Source: https://kubernetes.io/docs/reference/config-api/apiserver-config.v1/#apiserver-config-k8s-io-v1-AuthenticationConfiguration
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from tiphys.api import fielderrors
from tiphys.api.fielderrors import FieldError
from tiphys.api.object import Object
from tiphys.apiserver import configfile
from tiphys.apiserver.authn.oidc.settings import (
    AnonymousSettings,
    AuthenticationSettings,
    ClaimSource,
    IssuerSettings,
    Rule,
)
from tiphys.apiserver.authn.oidc.signatures import ALGORITHMS
from tiphys.apiserver.configfile import ConfigFileError
from tiphys.validation.shared.common import domain_prefixed_path

_PREFIXED = {"claim": str, "prefix": str, "expression": str}
_SHAPE: Object = {
    "jwt": [
        {
            "issuer": {
                **dict.fromkeys(("url", "discoveryURL", "certificateAuthority", "audienceMatchPolicy"), str),
                "audiences": [str],
                "egressSelectorType": str,
            },
            "claimValidationRules": [dict.fromkeys(("claim", "requiredValue", "expression", "message"), str)],
            "claimMappings": {
                "username": _PREFIXED,
                "groups": _PREFIXED,
                "uid": {"claim": str, "expression": str},
                "extra": [{"key": str, "valueExpression": str}],
            },
            "userValidationRules": [{"expression": str, "message": str}],
        }
    ],
    "anonymous": {"enabled": bool, "conditions": [{"path": str}]},
}
_KINDS = {
    (f"apiserver.config.k8s.io/{version}", "AuthenticationConfiguration"): _SHAPE
    for version in ("v1", "v1beta1", "v1alpha1")
}
_MOST = 64
_EMAIL = (
    "claims.email_verified must be used in claimMappings.username.expression or"
    " claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in"
    " claimMappings.username.expression"
)
_BOTH, _NEITHER = "claim and expression can't both be set", "claim or expression is required"


def read_settings(text: bytes, disallowed: Sequence[str] = ()) -> AuthenticationSettings:
    """``disallowed``: URLs that no issuer may have, those of service account tokens. Raises ``ConfigFileError``."""
    document = configfile.typed(configfile.parsed(text), _KINDS)
    rows = document.get("jwt") or []
    if problems := list(_problems(document, rows, disallowed)):
        raise ConfigFileError("; ".join(map(str, problems)))
    return AuthenticationSettings(tuple(map(_issuer, rows)), _anonymous(document.get("anonymous")))


def _anonymous(row: Object | None) -> AnonymousSettings | None:
    if row is None:
        return None
    conditions = row.get("conditions")
    paths = frozenset(one.get("path", "") for one in conditions) if conditions else None
    return AnonymousSettings(bool(row.get("enabled")), paths)


def _issuer(row: Object) -> IssuerSettings:
    issuer, mappings = row["issuer"], row["claimMappings"]
    authority = issuer.get("certificateAuthority") or ""
    return IssuerSettings(
        url=issuer["url"],
        audiences=tuple(issuer["audiences"]),
        username=_source(mappings.get("username")),
        discovery_url=issuer.get("discoveryURL") or "",
        authority=authority.encode() if authority else None,
        groups=_source(mappings.get("groups")),
        uid=_source(mappings.get("uid")),
        extra=tuple((one["key"], one["valueExpression"]) for one in mappings.get("extra") or ()),
        claim_rules=tuple(map(_rule, row.get("claimValidationRules") or ())),
        user_rules=tuple(map(_rule, row.get("userValidationRules") or ())),
        algorithms=ALGORITHMS,
    )


def _source(row: Object | None) -> ClaimSource:
    row = row or {}
    return ClaimSource(row.get("claim") or "", row.get("prefix") or "", row.get("expression") or "")


def _rule(row: Object) -> Rule:
    return Rule(*(row.get(name) or "" for name in ("claim", "requiredValue", "expression", "message")))


# -- what is wrong


def _problems(document: Object, rows: list[Object], disallowed: Sequence[str]) -> Iterator[FieldError]:
    if len(rows) > _MOST:
        yield fielderrors.too_many("jwt", len(rows), _MOST)
        return
    seen: dict[str, set[str]] = {"url": set(), "discoveryURL": set()}
    for number, row in enumerate(rows):
        path, issuer = f"jwt[{number}]", row.get("issuer") or {}
        yield from _issuer_problems(issuer, f"{path}.issuer", disallowed)
        yield from Expressions().problems(row, path)
        for name, known in seen.items():
            if (value := issuer.get(name) or "") and value in known:
                yield fielderrors.duplicate(f"{path}.issuer.{name}", value)
            known.add(value)
    anonymous = document.get("anonymous") or {}
    if anonymous.get("conditions") and not anonymous.get("enabled"):
        text = "enabled should be set to true when conditions are defined"
        yield fielderrors.invalid("anonymous.conditions", anonymous["conditions"], text)


def _issuer_problems(issuer: Object, path: str, disallowed: Sequence[str]) -> Iterator[FieldError]:
    url, discovery = issuer.get("url") or "", issuer.get("discoveryURL") or ""
    if url:
        yield from _url_problems(url, f"{path}.url", disallowed)
    else:
        yield fielderrors.required(f"{path}.url")
    if discovery:
        if url.rstrip("/") == discovery.rstrip("/"):
            yield fielderrors.invalid(f"{path}.discoveryURL", discovery, "discoveryURL must be different from URL")
        yield from _url_problems(discovery, f"{path}.discoveryURL", ())
    yield from _audience_problems(issuer, path)
    if authority := issuer.get("certificateAuthority"):
        from cryptography.x509 import load_pem_x509_certificates

        try:
            load_pem_x509_certificates(authority.encode())
        except ValueError as error:
            omitted = fielderrors.Rendered('"<omitted>"')
            yield fielderrors.invalid(f"{path}.certificateAuthority", omitted, str(error).partition("\n")[0])
    if issuer.get("egressSelectorType"):
        text = "egress selectors are not supported by Tiphys; remove the field"
        yield fielderrors.invalid(f"{path}.egressSelectorType", issuer["egressSelectorType"], text)


def _url_problems(url: str, path: str, disallowed: Sequence[str]) -> Iterator[FieldError]:
    if url in disallowed:
        text = f"URL must not overlap with disallowed issuers: [{' '.join(sorted(disallowed))}]"
        yield fielderrors.invalid(path, url, text)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        yield fielderrors.invalid(path, url, str(error))
        return
    if parts.scheme != "https":
        yield fielderrors.invalid(path, url, "URL scheme must be https")
    if "@" in parts.netloc:
        yield fielderrors.invalid(path, url, "URL must not contain a username or password")
    if parts.query:
        yield fielderrors.invalid(path, url, "URL must not contain a query")
    if parts.fragment:
        yield fielderrors.invalid(path, url, "URL must not contain a fragment")


def _audience_problems(issuer: Object, path: str) -> Iterator[FieldError]:
    audiences, policy = issuer.get("audiences") or [], issuer.get("audienceMatchPolicy") or ""
    if not audiences:
        yield fielderrors.required(f"{path}.audiences", f"at least one {path}.audiences is required")
        return
    seen = set[str]()
    for number, audience in enumerate(audiences):
        if not audience:
            yield fielderrors.required(f"{path}.audiences[{number}]")
        if audience in seen:
            yield fielderrors.duplicate(f"{path}.audiences[{number}]", audience)
        seen.add(audience)
    if len(audiences) > 1 and policy != "MatchAny":
        text = "audienceMatchPolicy must be MatchAny for multiple audiences"
        yield fielderrors.invalid(f"{path}.audienceMatchPolicy", policy, text)
    elif policy not in ("", "MatchAny"):
        text = "audienceMatchPolicy must be empty or MatchAny for single audience"
        yield fielderrors.invalid(f"{path}.audienceMatchPolicy", policy, text)


class Expressions:
    """The rules and mappings of one issuer; whether they look at ``email`` and ``email_verified`` is found out on the
    way."""

    def __init__(self) -> None:
        self._uses_email = False
        self._uses_verified = False

    def problems(self, row: Object, path: str) -> Iterator[FieldError]:
        mappings = row.get("claimMappings") or {}
        yield from self._claim_rules(row.get("claimValidationRules") or [], f"{path}.claimValidationRules")
        yield from self._mappings(mappings, f"{path}.claimMappings")
        if self._uses_email and not self._uses_verified:
            text = (mappings.get("username") or {}).get("expression") or ""
            yield fielderrors.invalid(f"{path}.claimMappings.username.expression", text, _EMAIL)
        yield from self._user_rules(row.get("userValidationRules") or [], f"{path}.userValidationRules")

    def _claim_rules(self, rows: list[Object], path: str) -> Iterator[FieldError]:
        seen = set[tuple[str, str]]()
        for number, row in enumerate(rows):
            at, claim, text = f"{path}[{number}]", row.get("claim") or "", row.get("expression") or ""
            if claim and text:
                yield fielderrors.invalid(at, claim, _BOTH)
            elif not (claim or text):
                yield fielderrors.required(at, _NEITHER)
            elif claim:
                if row.get("message"):
                    reason = "may not be specified when claim is set"
                    yield fielderrors.invalid(f"{at}.message", row["message"], reason)
                if ("claim", claim) in seen:
                    yield fielderrors.duplicate(f"{at}.claim", claim)
            else:
                if row.get("requiredValue"):
                    reason = "may not be specified when expression is set"
                    yield fielderrors.invalid(f"{at}.requiredValue", row["requiredValue"], reason)
                if ("expression", text) in seen:
                    yield fielderrors.duplicate(f"{at}.expression", text)
                else:
                    yield from self._compiled(text, f"{at}.expression", condition=True)
            seen |= {("claim", claim), ("expression", text)}

    def _mappings(self, row: Object, path: str) -> Iterator[FieldError]:
        username, groups, uid = (row.get(name) or {} for name in ("username", "groups", "uid"))
        yield from self._prefixed(username, f"{path}.username", required=True)
        yield from self._prefixed(groups, f"{path}.groups", required=False)
        if uid.get("claim") and uid.get("expression"):
            yield fielderrors.invalid(f"{path}.uid", "", _BOTH)
        elif uid.get("expression"):
            yield from self._compiled(uid["expression"], f"{path}.uid.expression")
        seen = set[str]()
        for number, extra in enumerate(row.get("extra") or ()):
            at, key = f"{path}.extra[{number}]", extra.get("key") or ""
            yield from _key_problems(key, f"{at}.key")
            if key in seen:
                yield fielderrors.duplicate(f"{at}.key", key)
            elif not extra.get("valueExpression"):
                yield fielderrors.required(f"{at}.valueExpression")
            else:
                yield from self._compiled(extra["valueExpression"], f"{at}.valueExpression")
            seen.add(key)

    def _prefixed(self, row: Object, path: str, *, required: bool) -> Iterator[FieldError]:
        claim, text = row.get("claim") or "", row.get("expression") or ""
        if claim and text:
            yield fielderrors.invalid(path, "", _BOTH)
        elif not (claim or text):
            if required:
                yield fielderrors.required(path, _NEITHER)
        elif text:
            if "prefix" in row:
                reason = "may not be specified when expression is set"
                yield fielderrors.invalid(f"{path}.prefix", row["prefix"], reason)
            yield from self._compiled(text, f"{path}.expression", is_username=required)
        elif "prefix" not in row:
            reason = "prefix is required when claim is set. It can be set to an empty string to disable prefixing"
            yield fielderrors.required(f"{path}.prefix", reason)

    def _user_rules(self, rows: list[Object], path: str) -> Iterator[FieldError]:
        from tiphys.cel import accessenvironments as environments
        from tiphys.cel.uses import UnfitExpression, compile_in

        seen = set[str]()
        for number, row in enumerate(rows):
            at, text = f"{path}[{number}].expression", row.get("expression") or ""
            if not text:
                yield fielderrors.required(at)
            elif text in seen:
                yield fielderrors.duplicate(at, text)
            else:
                try:
                    compile_in(environments.user(), text, environments.BOOL)
                except UnfitExpression as error:
                    yield fielderrors.invalid(at, text, str(error))
            seen.add(text)

    def _compiled(
        self, text: str, path: str, *, condition: bool = False, is_username: bool = False
    ) -> Iterator[FieldError]:
        from tiphys.cel import accessenvironments as environments
        from tiphys.cel.uses import UnfitExpression, compile_in

        try:
            compiled = compile_in(environments.claims(), text, environments.BOOL if condition else None)
        except UnfitExpression as error:
            yield fielderrors.invalid(path, text, str(error))
            return
        self._uses_email |= is_username and environments.selects_claim(compiled.tree, "email")
        self._uses_verified |= environments.selects_claim(compiled.tree, "email_verified")


def _key_problems(key: str, path: str) -> Iterator[FieldError]:
    problems: list[FieldError] = []
    domain_prefixed_path(problems, key, path)
    yield from problems
    if key != key.lower():
        yield fielderrors.invalid(path, key, "must be lowercase")
    domain = key.partition("/")[0] if "/" in key else ""
    if any(domain == name or domain.endswith(f".{name}") for name in ("k8s.io", "kubernetes.io")):
        text = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"
        yield fielderrors.invalid(path, key, text)
