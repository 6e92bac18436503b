"""A container's environment: services, ``envFrom``, ``env`` with its sources, and ``$(VAR)`` expansion. Pure.

Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables and
https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.api.object import Object
from tiphys.kubelet.pod.fields import FieldError, field_value, resource_value
from tiphys.kubelet.pod.pods import ContainerSpec, Pod, namespace_of


class EnvironmentFailure(Exception):
    """The environment cannot be made; the message is upstream's, for status and events."""


@dataclass(frozen=True, slots=True)
class EnvironmentSources:
    """What variables may refer to. Objects that do not exist are absent from the mappings."""

    config_maps: Mapping[str, Object] = field(default_factory=dict)
    secrets: Mapping[str, Object] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)
    pod_ips: Sequence[str] = ()
    host_ips: Sequence[str] = ()
    allocatable: Mapping[str, str] = field(default_factory=dict)
    read_env_file: Callable[[str, str, str], str] | None = None
    """(volume, path, key) → the value in an environment file of a volume, or ``""``."""


def referenced(container: ContainerSpec) -> tuple[set[str], set[str]]:
    """Names of the ConfigMaps and Secrets that the environment needs."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
    for source in container.get("envFrom") or []:
        for key, names in (("configMapRef", config_maps), ("secretRef", secrets)):
            if source.get(key):
                names.add(source[key].get("name", ""))
    for variable in container.get("env") or []:
        source = variable.get("valueFrom") or {}
        for key, names in (("configMapKeyRef", config_maps), ("secretKeyRef", secrets)):
            if source.get(key):
                names.add(source[key].get("name", ""))
    return config_maps, secrets


def make_environment(pod: Pod, container: ContainerSpec, sources: EnvironmentSources) -> dict[str, str]:
    """The variables of a container. Raises ``EnvironmentFailure`` if a source that must exist does not."""
    values: dict[str, str] = {}
    for origin in container.get("envFrom") or []:
        values |= _all_of(origin, sources, namespace_of(pod))
    lookup = Lookup(values, sources.services)
    for variable in container.get("env") or []:
        value = _value_of(pod, container, variable, sources, lookup)
        if value is not None:
            values[variable["name"]] = value
    return values | {key: text for key, text in sources.services.items() if key not in values}


def _all_of(origin: Object, sources: EnvironmentSources, namespace: str) -> dict[str, str]:
    prefix = origin.get("prefix") or ""
    for key, objects, kind in (
        ("configMapRef", sources.config_maps, "configmap"),
        ("secretRef", sources.secrets, "secret"),
    ):
        if reference := origin.get(key):
            name = reference.get("name", "")
            if name not in objects:
                if reference.get("optional"):
                    return {}
                raise EnvironmentFailure(f'{kind} "{name}" not found')
            return {f"{prefix}{k}": text for k, text in texts(objects[name]).items()}
    return {}


def texts(obj: Object) -> dict[str, str]:
    """The data of a ConfigMap or a Secret as text."""
    data = obj.get("data") or {}
    if obj.get("kind") != "Secret":
        return dict(data)
    return {key: base64.b64decode(value or "").decode("utf-8", "replace") for key, value in data.items()}


def _value_of(
    pod: Pod, container: ContainerSpec, variable: Object, sources: EnvironmentSources, lookup: Lookup
) -> str | None:
    """The value of one variable, or None if an optional source is missing."""
    if variable.get("value"):
        return expand(variable["value"], lookup)
    source = variable.get("valueFrom") or {}
    try:
        if selector := source.get("fieldRef"):
            return field_value(pod, selector.get("fieldPath", ""), pod_ips=sources.pod_ips, host_ips=sources.host_ips)
        if selector := source.get("resourceFieldRef"):
            return resource_value(pod, container, selector, sources.allocatable)
    except FieldError as error:
        raise EnvironmentFailure(str(error)) from error
    if selector := source.get("configMapKeyRef"):
        return _key_of(selector, sources.config_maps, "ConfigMap", namespace_of(pod))
    if selector := source.get("secretKeyRef"):
        return _key_of(selector, sources.secrets, "Secret", namespace_of(pod))
    if selector := source.get("fileKeyRef"):
        return _file_key(selector, sources)
    return ""


def _key_of(selector: Object, objects: Mapping[str, Object], kind: str, namespace: str) -> str | None:
    name, key, optional = selector.get("name", ""), selector.get("key", ""), bool(selector.get("optional"))
    if name not in objects:
        if optional:
            return None
        raise EnvironmentFailure(f'{kind.lower()} "{name}" not found')
    data = texts(objects[name])
    if key not in data:
        if optional:
            return None
        raise EnvironmentFailure(f"couldn't find key {key} in {kind} {namespace}/{name}")
    return data[key]


def _file_key(selector: Object, sources: EnvironmentSources) -> str | None:
    assert sources.read_env_file is not None
    value = sources.read_env_file(selector.get("volumeName", ""), selector.get("path", ""), selector.get("key", ""))
    if not value:
        if selector.get("optional"):
            return None
        raise EnvironmentFailure(
            f'environment variable key "{selector.get("key")}" not found in file "{selector.get("path")}"'
        )
    return value


class Lookup:
    """Finds a variable in several tables, the first that has it."""

    def __init__(self, *tables: Mapping[str, str]) -> None:
        self._tables = tables

    def __call__(self, name: str) -> str:
        for table in self._tables:
            if name in table:
                return table[name]
        return f"$({name})"  # an unknown reference stays as it is


def expand(text: str, lookup: Callable[[str], str]) -> str:
    """Replace ``$(NAME)`` by its value and ``$$`` by ``$``."""
    parts: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0 and dollar + 1 < len(text):
        parts.append(text[at:dollar])
        following = text[dollar + 1]
        at = dollar + 2
        if following == "$":
            parts.append("$")
        elif following == "(" and (end := text.find(")", at)) >= 0:
            parts.append(lookup(text[at:end]))
            at = end + 1
        else:
            parts.append("$" + following)
    return "".join(parts) + text[at:]


def expand_command(container: ContainerSpec, values: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Command and arguments with the environment filled in."""
    lookup = Lookup(values)
    command = [expand(word, lookup) for word in container.get("command") or []]
    return command, [expand(word, lookup) for word in container.get("args") or []]


def service_variables(services: Iterable[Object], namespace: str, *, links: bool) -> dict[str, str]:
    """Variables of the services visible to a pod in ``namespace``: its own namespace's, and always ``kubernetes``."""
    chosen: dict[str, Object] = {}
    for service in services:
        meta = service["metadata"]
        if service["spec"].get("clusterIP") in (None, "", "None"):
            continue
        if meta["namespace"] == "default" and meta["name"] == "kubernetes":
            chosen.setdefault("kubernetes", service)
        elif meta["namespace"] == namespace and links:
            chosen[meta["name"]] = service
    variables: dict[str, str] = {}
    for name in sorted(chosen):
        variables |= _variables_of(name, chosen[name]["spec"])
    return variables


def _variables_of(name: str, spec: Object) -> dict[str, str]:
    """The Docker-style variables of one service, such as ``WEB_SERVICE_HOST``."""
    prefix, address, ports = _variable_name(name), spec["clusterIP"], spec.get("ports") or []
    variables = {f"{prefix}_SERVICE_HOST": address}
    if ports:
        variables[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
    for port in ports:
        if port.get("name"):
            variables[f"{prefix}_SERVICE_PORT_{_variable_name(port['name'])}"] = str(port["port"])
    host = f"[{address}]" if ":" in address else address
    for index, port in enumerate(ports):
        protocol = port.get("protocol") or "TCP"
        url = f"{protocol.lower()}://{host}:{port['port']}"
        if index == 0:
            variables[f"{prefix}_PORT"] = url
        stem = f"{prefix}_PORT_{port['port']}_{protocol.upper()}"
        variables |= {
            stem: url,
            f"{stem}_PROTO": protocol.lower(),
            f"{stem}_PORT": str(port["port"]),
            f"{stem}_ADDR": address,
        }
    return variables


def _variable_name(name: str) -> str:
    return name.replace("-", "_").upper()
