"""Calls of EC2's APIs: by boto3, in a thread each, as that waits for the network; its errors become ``CloudError``.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tiphys.cloud.provider import CloudError
from tiphys.runtime.component import CannotStart, read_file

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ec2Config:
    """The file of ``--cloud-config``, as JSON.

    Keys come from where boto3 looks for them: the environment, a profile, the machine's role.
    """

    region: str
    endpoint: str = ""
    """Of all APIs, in place of the region's own."""
    vpc: str = ""
    """Empty: that of the nodes."""
    subnets: Sequence[str] = ()
    """Where load balancers are; empty: in those of the nodes."""
    internal: bool = False
    """Whether load balancers have addresses of the network's own only."""
    route_table: str = ""
    """Empty: the main one of the network."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """On all that is made."""


def read_config(path: Path | None) -> Ec2Config:
    """Raises ``CannotStart``, which names the field."""
    if path is None:
        raise CannotStart('--cloud-config is needed: a JSON file such as {"region": "eu-central-1"}')
    try:
        document = json.loads(read_file(path, "--cloud-config"))
    except ValueError as error:
        raise CannotStart(f"{path} is not JSON: {error}") from error
    known = {one.name: one.type for one in fields(Ec2Config)}
    if not isinstance(document, dict) or not isinstance(document.get("region"), str):
        raise CannotStart(f"{path}: region is needed, such as eu-central-1")
    if unknown := sorted(document.keys() - known.keys()):
        raise CannotStart(f"{path}: {unknown[0]} is not known; there are {', '.join(known)}")
    return Ec2Config(**document)


class Session:
    """``call("ec2", "describe_instances", …)``; ``every`` follows the pages of an answer."""

    def __init__(self, config: Ec2Config) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise CannotStart("--cloud-provider=ec2 needs boto3; install it: pip install 'tiphys[ec2]'") from error
        options = Config(connect_timeout=10, read_timeout=30, retries={"max_attempts": 3, "mode": "standard"})
        made = boto3.session.Session(region_name=config.region)
        self._clients = {
            name: made.client(name, endpoint_url=config.endpoint or None, config=options) for name in ("ec2", "elbv2")
        }

    async def call(self, service: str, action: str, **arguments: Any) -> Answer:
        """Raises ``CloudError`` with the cloud's own code and message."""
        answer: Answer = await self._in_thread(service, action, lambda client: getattr(client, action)(**arguments))
        return answer

    async def every(self, service: str, action: str, part: str, **arguments: Any) -> list[Answer]:
        """The entries of ``part`` of all pages. Raises ``CloudError``."""

        def read(client: Any) -> list[Answer]:
            pages = client.get_paginator(action).paginate(**arguments)
            return [entry for page in pages for entry in page.get(part) or ()]

        entries: list[Answer] = await self._in_thread(service, action, read)
        return entries

    async def _in_thread(self, service: str, action: str, work: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return await asyncio.to_thread(work, self._clients[service])
        except ClientError as error:
            raise CallRefused(action, error.response.get("Error") or {}) from error
        except BotoCoreError as error:
            raise CloudError(f"{action}: {error}") from error

    async def close(self) -> None:
        for client in self._clients.values():
            await asyncio.to_thread(client.close)


class CallRefused(CloudError):
    """An answer that is an error. ``code`` is the cloud's."""

    def __init__(self, action: str, error: Mapping[str, str]) -> None:
        self.code = error.get("Code", "")
        super().__init__(f"{action}: {self.code}: {' '.join((error.get('Message') or '').split())}")
