"""A client of Prometheus' HTTP API: which series there are, and what a query answers, both bounded in size and time.

Source: https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson

from tiphys.wire.client import SocketTransport, parse_url
from tiphys.wire.http import Headers, Request

_MOST_BYTES = 16 << 20
"""Of an answer: some 60,000 series."""
_AT_ONCE = 16


class PrometheusError(Exception):
    """Prometheus did not answer, or said that it cannot; the message has its words."""


class Sample(NamedTuple):
    """One value; ``at`` in seconds since the epoch."""

    labels: dict[str, str]
    at: float
    value: float


class Prometheus:
    """``timeout``: seconds for a whole answer, waiting for other questions included."""

    def __init__(
        self, url: str, timeout: float, tls: ssl.SSLContext | None = None, token: Callable[[], str] | None = None
    ) -> None:
        """Raises ``ValueError`` for a URL that is none."""
        address = parse_url(url)
        self._path = address.path
        self._transport = SocketTransport(address.host, address.port, tls if address.secure else None)
        self._token = token
        self._timeout = timeout
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def close(self) -> None:
        await self._transport.close()

    async def series(self, match: str, start: float, end: float) -> list[dict[str, str]]:
        """The labels of each series that had a value in that time. Raises ``PrometheusError``."""
        rows: list[dict[str, str]] = await self._ask("series", {"match[]": match, "start": str(start), "end": str(end)})
        return rows

    async def query(self, text: str) -> list[Sample]:
        """The values of now. Raises ``PrometheusError``."""
        data = await self._ask("query", {"query": text, "timeout": f"{self._timeout:.0f}s"})
        if data.get("resultType") != "vector":
            raise PrometheusError(f"the answer is a {data.get('resultType')} and no vector: {text}")
        return [Sample(row["metric"], row["value"][0], float(row["value"][1])) for row in data["result"]]

    async def _ask(self, what: str, form: dict[str, str]) -> Any:
        headers = Headers({"accept": "application/json"})
        request = Request("GET", f"{self._path}/api/v1/{what}", urlencode(form), headers)
        try:
            if self._token is not None:
                headers["authorization"] = f"Bearer {self._token()}"
            async with asyncio.timeout(self._timeout), self._slots:
                response = await self._transport.send(request)
                body = await response.read(_MOST_BYTES)
            answer = orjson.loads(body)
        except TimeoutError as error:
            raise PrometheusError(f"no answer within {self._timeout:g} s") from error
        except (OSError, orjson.JSONDecodeError) as error:  # ssl.SSLError is the first, as ConnectionError
            raise PrometheusError(str(error)) from error
        if not isinstance(answer, dict) or answer.get("status") != "success":
            said = answer.get("error") if isinstance(answer, dict) else None
            raise PrometheusError(f"{said or 'an answer that is none'} (status {response.status})")
        return answer["data"]
