"""CredentialProviderConfig: the programs that give credentials for images, read from a file or a folder, and checked.

Source: https://kubernetes.io/docs/reference/config-api/kubelet-config.v1/#kubelet-config-k8s-io-v1-CredentialProviderConfig
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.api.fielderrors import FieldError, aggregate, duplicate, forbidden, invalid, not_supported, required
from tiphys.api.gotext import quote
from tiphys.api.meta.names import qualified_name
from tiphys.kubelet.images.locations import LocationError, parse_location
from tiphys.runtime import durations, yamltext

GROUP = "kubelet.config.k8s.io"
_SUFFIXES = (".json", ".yaml", ".yml")
V1 = "credentialprovider.kubelet.k8s.io/v1"
API_VERSIONS = (V1, f"{V1}alpha1", f"{V1}beta1")
_CACHE_TYPES = ("ServiceAccount", "Token")

_TEXTS = "a list of texts"
_ATTRIBUTES = {
    "serviceAccountTokenAudience": str,
    "cacheType": str,
    "requireServiceAccount": bool,
    "requiredServiceAccountAnnotationKeys": list,
    "optionalServiceAccountAnnotationKeys": list,
}
_FIELDS = {"name": str, "matchImages": list, "defaultCacheDuration": str, "apiVersion": str, "args": list, "env": list}


class ProviderConfigError(ValueError):
    """The configuration is not one, or does not hold together."""


@dataclass(frozen=True, slots=True)
class TokenAttributes:
    """``required`` and ``optional`` are keys of annotations of the service account; ``required_account`` is None if
    it was not said whether a pod without a service account gets credentials."""

    audience: str
    cache_type: str
    required_account: bool | None
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """``cache_seconds`` is None if it was not said."""

    name: str
    match_images: tuple[str, ...]
    cache_seconds: float | None
    api_version: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    tokens: TokenAttributes | None = None


def read_providers(path: str) -> tuple[list[Provider], str]:
    """What is configured, in order, and a digest of all that was read. Raises ``ProviderConfigError``."""
    if not path:
        raise ProviderConfigError("credential provider config path is empty")
    providers: dict[str, Provider] = {}
    digest = hashlib.sha256()
    for file in _files(path):
        try:
            data = file.read_bytes()
        except OSError as error:
            raise ProviderConfigError(f"unable to read file {quote(str(file))}: {error.strerror}") from error
        digest.update(len(data).to_bytes(8, "big") + data)
        try:
            given = list(_decode(data))
        except ProviderConfigError as error:
            raise ProviderConfigError(f"error decoding config {quote(str(file))}: {error}") from error
        for provider in given:
            if provider.name in providers:
                raise ProviderConfigError(
                    f"duplicate provider name {quote(provider.name)} found in configuration file(s)"
                )
            providers[provider.name] = provider
    return list(providers.values()), f"sha256:{digest.hexdigest()}"


def _files(path: str) -> list[Path]:
    place = Path(path)
    try:
        if not place.is_dir():
            place.stat()
            return [place]
        files = sorted(
            entry.path for entry in os.scandir(place) if not entry.is_dir() and entry.name.endswith(_SUFFIXES)
        )
    except OSError as error:
        raise ProviderConfigError(f"unable to access path {quote(path)}: {error.strerror}") from error
    if not files:
        raise ProviderConfigError(f"no configuration files found in directory {quote(path)}")
    return [Path(file) for file in files]


def _decode(data: bytes) -> Iterator[Provider]:
    try:
        document = yamltext.load(data)
    except yamltext.YAMLError as error:
        raise ProviderConfigError(str(error)) from error
    if not isinstance(document, dict):
        raise ProviderConfigError("it holds no object")
    kind, version = document.get("kind"), str(document.get("apiVersion") or "")
    group, _, number = version.partition("/")
    if kind != "CredentialProviderConfig" or group != GROUP or number not in ("v1", "v1alpha1", "v1beta1"):
        raise ProviderConfigError(f"no kind {quote(str(kind))} is registered for version {quote(version)}")
    _check(document, {"kind": str, "apiVersion": str, "providers": list}, "")
    for index, entry in enumerate(document.get("providers") or []):
        yield _provider(
            entry, f"providers[{index}]", fields=_FIELDS | ({"tokenAttributes": dict} if number == "v1" else {})
        )


def _check(given: Any, fields: Mapping[str, type], where: str) -> None:
    """Raises ``ProviderConfigError`` for what is unknown, and for a value of another type."""
    if not isinstance(given, dict):
        raise ProviderConfigError(f"{where} is not an object")
    head = f"{where}." if where else ""
    if unknown := [name for name in given if name not in fields]:
        raise ProviderConfigError(f"strict decoding error: unknown field {quote(head + str(unknown[0]))}")
    for name, value in given.items():
        wrong = value is not None and not isinstance(value, fields[name])
        if wrong or (isinstance(value, list) and name not in ("env", "providers") and not _all_texts(value)):
            raise ProviderConfigError(
                f"{head}{name} is not of the type {_TEXTS if isinstance(value, list) else fields[name].__name__}"
            )


def _all_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _provider(entry: Any, where: str, fields: Mapping[str, type]) -> Provider:
    _check(entry, fields, where)
    for index, pair in enumerate(entry.get("env") or []):
        _check(pair, {"name": str, "value": str}, f"{where}.env[{index}]")
    seconds = None
    if (text := entry.get("defaultCacheDuration")) is not None:
        try:
            seconds = durations.seconds(text)
        except durations.DurationError as error:
            raise ProviderConfigError(str(error)) from error
    return Provider(
        entry.get("name") or "",
        tuple(entry.get("matchImages") or ()),
        seconds,
        entry.get("apiVersion") or "",
        tuple(entry.get("args") or ()),
        tuple((pair.get("name") or "", pair.get("value") or "") for pair in entry.get("env") or ()),
        _tokens(entry.get("tokenAttributes"), f"{where}.tokenAttributes"),
    )


def _tokens(given: Any, where: str) -> TokenAttributes | None:
    if given is None:
        return None
    _check(given, _ATTRIBUTES, where)
    return TokenAttributes(
        given.get("serviceAccountTokenAudience") or "",
        given.get("cacheType") or "",
        given.get("requireServiceAccount"),
        tuple(given.get("requiredServiceAccountAnnotationKeys") or ()),
        tuple(given.get("optionalServiceAccountAnnotationKeys") or ()),
    )


def problems(providers: list[Provider]) -> list[FieldError]:
    """What is wrong with the providers, as upstream says it."""
    errors = [] if providers else [required("providers", "at least 1 item in plugins is required")]
    seen: set[str] = set()
    for provider in providers:
        errors += _name_problems(provider.name)
        if provider.name in seen:
            errors.append(duplicate("providers.name", provider.name))
        seen.add(provider.name)
        if not provider.api_version:
            errors.append(required("providers.apiVersion"))
        elif provider.api_version not in API_VERSIONS:
            errors.append(not_supported("providers.apiVersion", provider.api_version, API_VERSIONS))
        if not provider.match_images:
            errors.append(required("providers.matchImages", "at least 1 item in matchImages is required"))
        for pattern in provider.match_images:
            try:
                parse_location(pattern)
            except LocationError as error:
                errors.append(invalid("providers.matchImages", pattern, f"match image is invalid: {error}"))
        if provider.cache_seconds is None:
            errors.append(required("providers.defaultCacheDuration"))
        elif provider.cache_seconds < 0:
            text = durations.seconds_text(provider.cache_seconds)
            errors.append(invalid("providers.defaultCacheDuration", text, "must be greater than or equal to 0"))
        if provider.tokens is not None:
            errors += _token_problems(provider.tokens, provider.api_version)
    return errors


def _name_problems(name: str) -> Iterator[FieldError]:
    for part, text in (("/", "'/'"), (" ", "spaces")):
        if part in name:
            yield invalid("providers.name", name, f"provider name cannot contain {text}")
    if name in (".", ".."):
        yield invalid("providers.name", name, f"provider name cannot be '{name}'")


def _token_problems(tokens: TokenAttributes, api_version: str) -> Iterator[FieldError]:
    path = "providers.tokenAttributes"
    if not tokens.audience:
        yield required(f"{path}.serviceAccountTokenAudience")
    if tokens.required_account is None:
        yield required(f"{path}.requireServiceAccount")
    if api_version != V1:
        yield forbidden(path, f"tokenAttributes is only supported for {V1} API version")
    if tokens.required_account is False and tokens.required:
        detail = "requireServiceAccount cannot be false when requiredServiceAccountAnnotationKeys is set"
        yield forbidden(f"{path}.requiredServiceAccountAnnotationKeys", detail)
    yield from _key_problems(f"{path}.requiredServiceAccountAnnotationKeys", tokens.required)
    yield from _key_problems(f"{path}.optionalServiceAccountAnnotationKeys", tokens.optional)
    if both := sorted({*tokens.required} & {*tokens.optional}):
        yield invalid(path, both, "annotation keys cannot be both required and optional")
    if not tokens.cache_type:
        known = ", ".join(_CACHE_TYPES)
        detail = f"cacheType is required to be set when tokenAttributes is specified. Supported values are: {known}"
        yield required(f"{path}.cacheType", detail)
    elif tokens.cache_type not in _CACHE_TYPES:
        yield not_supported(f"{path}.cacheType", tokens.cache_type, _CACHE_TYPES)


def _key_problems(path: str, keys: tuple[str, ...]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for key in keys:
        for message in qualified_name(key.lower()):
            yield invalid(path, key, message)
        if key in seen:
            yield duplicate(path, key)
        seen.add(key)


def configured(path: str, folder: str) -> tuple[list[Provider], str]:
    """The providers and the digest of their configuration; their programs are there. Raises ``ProviderConfigError``."""
    if not os.path.exists(folder):
        raise ProviderConfigError(f"plugin binary directory {folder} did not exist")
    providers, digest = read_providers(path)
    if errors := problems(providers):
        raise ProviderConfigError(f"failed to validate credential provider config: {aggregate(errors)}")
    for provider in providers:
        program = os.path.join(folder, provider.name)
        if not os.path.exists(program):
            raise ProviderConfigError(f"plugin binary executable {program} did not exist")
        if not os.path.isfile(program) or not os.access(program, os.X_OK):
            raise ProviderConfigError(f"error inspecting binary executable {program}: permission denied")
    return providers, digest
