"""Conversations with a Kubernetes v1.36 API server, and how a server's answers are compared with its.

``cases/*.json`` holds lists of cases. A case has ``steps`` (requests, in order), the ``answers`` that v1.36 gave, and
requests that clean up. What differs from run to run (uids, times, allocated addresses) is masked, in the recording and
in what is compared with it. ``wire.zip`` holds each API type filled in, as JSON and as protobuf.
"""

from __future__ import annotations

import http.client
import json
import re
import secrets
import ssl
import time
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
FILES = tuple(sorted(path.stem for path in (FOLDER / "cases").glob("*.json")))

_MASKED_KEYS = {
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "lastTransitionTime",
    "lastUpdateTime",
    "lastProbeTime",
    "lastHeartbeatTime",
    "time",
    "startTime",
    "renewTime",
    "acquireTime",
    "expirationTimestamp",
    "token",
    "caBundle",
    "buildDate",
    "gitCommit",
    "goVersion",
    "compiler",
    "platform",
    "gitVersion",
    "gitTreeState",
    "storageVersionHash",
    "remainingItemCount",
    "continue",
    "selfLink",
    "responseStatusTimestamp",
    "hash",
    "serverRelativeURL",
    "generateNameSuffix",
}
_MASKS = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<uid>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"), "<time>"),
    (re.compile(r"\b10\.96\.\d+\.\d+\b"), "<clusterip>"),
    (re.compile(r"\bkube-api-access-[a-z0-9]{5}\b"), "kube-api-access-<suffix>"),
    (re.compile(r"in record \(\d+\)"), "in record (<resourceVersion>)"),
)
_AGE = re.compile(r"\d+s").fullmatch
"""An age in a table, of an object made a moment ago."""
_EARLIER_ANSWER = re.compile(r"\$\{(\d+):([^}]+)\}")
"""``${0:metadata.uid}`` in a request is that value of the first step's answer."""


@cache
def cases(file: str) -> list[dict[str, Any]]:
    """The cases of ``cases/FILE.json``; do not change them."""
    loaded: list[dict[str, Any]] = json.loads((FOLDER / "cases" / f"{file}.json").read_text())
    return loaded


@cache
def wire_samples() -> dict[str, bytes]:
    """File name, such as ``core.v1.Pod.pb``, to content."""
    with zipfile.ZipFile(FOLDER / "wire.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


class Replayer:
    """Sends the requests of a case to a server; ``RUNID`` in them stands for a name that no earlier run used."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._address = (host, port)
        self._token = token
        self._run = "r" + secrets.token_hex(3)
        self._tls = ssl.create_default_context()
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE

    def differences(self, case: dict[str, Any]) -> list[str]:
        """One line for each value in which the server's answers differ from the recorded ones."""
        seen = self._observe(json.loads(json.dumps(case).replace("RUNID", self._run)))
        lines = []
        for number, (recorded, got) in enumerate(zip(case["answers"], seen, strict=True)):
            lines += [f"step {number}{line}" for line in _differences(recorded, got)]
        return lines

    def _observe(self, case: dict[str, Any]) -> list[dict[str, Any]]:
        answers: list[Any] = []
        records = []
        for step in case["steps"]:
            status, answer, warning = self._answer(step, answers)
            answers.append(json.loads(json.dumps(answer)))
            record = {"status": status, "body": self._mask(_project(answer, step))}
            records.append(record | ({"warning": self._mask(warning)} if warning else {}))
        for step in case.get("cleanup", []):
            self._answer(step, answers)
        return records

    def _answer(self, step: dict[str, Any], answers: list[Any]) -> tuple[int, Any, str | None]:
        """A step with ``until`` is sent again until its condition holds, ``within`` seconds at the most."""
        deadline = time.monotonic() + step.get("within", 10)
        while True:
            status, answer, warning = self._send(step, answers)
            wanted = step.get("until")
            if not wanted or _holds(wanted, status, answer) or time.monotonic() > deadline:
                return status, answer, warning
            time.sleep(0.05)

    def _send(self, step: dict[str, Any], answers: list[Any]) -> tuple[int, Any, str | None]:
        headers = {"Accept": "application/json", **step.get("headers", {})}
        body = step.get("body")
        if body is not None:
            body = _filled(body if isinstance(body, str) else json.dumps(body), answers).encode()
            headers.setdefault("Content-Type", "application/json")
        if not step.get("anonymous"):
            headers.setdefault("Authorization", f"Bearer {self._token}")
        connection = http.client.HTTPSConnection(*self._address, context=self._tls, timeout=30)
        try:
            connection.request(step["method"], _filled(step["path"], answers), body, headers)
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
        finally:
            connection.close()
        is_json = "json" in response.getheader("Content-Type", "")
        return response.status, _parsed(text) if is_json else text, response.getheader("Warning")

    def _mask(self, value: Any, key: str = "") -> Any:
        if key in _MASKED_KEYS and isinstance(value, (str, int)):
            return f"<{key}>" if value != "" else ""
        if key == "nodePort" and isinstance(value, int) and value >= 30000:
            return "<nodePort>"
        if isinstance(value, dict):
            return {name.replace(self._run, "RUNID"): self._mask(item, name) for name, item in value.items()}
        if isinstance(value, list):
            masked = [self._mask(item) for item in value]
            return sorted(masked, key=json.dumps) if key == "causes" else masked
        if isinstance(value, str):
            value = value.replace(self._run, "RUNID")
            for pattern, name in _MASKS:
                value = pattern.sub(name, value)
        return value


def _parsed(text: str) -> Any:
    """A JSON document, or the list of those of a stream."""
    try:
        return json.loads(text.strip())
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def _filled(text: str, answers: list[Any]) -> str:
    return _EARLIER_ANSWER.sub(lambda match: str(_at(answers[int(match[1])], match[2])), text)


def _at(value: Any, path: str) -> Any:
    """The value at a dotted path, None if it is not there."""
    for part in path.split("."):
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value


def _holds(wanted: dict[str, Any], status: int, answer: Any) -> bool:
    return status == wanted.get("status", status) and (
        "path" not in wanted or str(_at(answer, wanted["path"])) == wanted["equals"]
    )


def _project(answer: Any, step: dict[str, Any]) -> Any:
    """What the step compares: the answer without what it ignores, or only the paths that it names."""
    compared = step.get("compare")
    if compared == "status":
        return None
    if compared is not None:
        return {path: _at(answer, path) for path in compared}
    for path in step.get("ignore", []):
        head, _, last = path.rpartition(".")
        parent = _at(answer, head) if head else answer
        if isinstance(parent, dict):
            parent.pop(last, None)
    return answer


def _differences(recorded: Any, got: Any, path: str = "") -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(got, dict):
        for key in sorted(recorded.keys() | got.keys()):
            yield from _differences(recorded.get(key, "<absent>"), got.get(key, "<absent>"), f"{path}.{key}")
    elif isinstance(recorded, list) and isinstance(got, list) and len(recorded) == len(got):
        for index, (one, other) in enumerate(zip(recorded, got, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif recorded != got and not (".cells" in path and _AGE(str(recorded)) and _AGE(str(got))):
        yield f"{path}: v1.36 gave {json.dumps(recorded)[:400]}, this server {json.dumps(got)[:400]}"
