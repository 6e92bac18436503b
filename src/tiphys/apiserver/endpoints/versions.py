"""Work on an object that needs it in other versions, which a webhook has to be asked for while the work is under way.

Who owns which field is compared in the versions of the managers (``api.apply``), within pure functions. What they lack
is asked for between two runs of the same work: it ends early for want of a conversion, and begins again with it.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import orjson

from tiphys.api.object import Object
from tiphys.api.schema import Schema
from tiphys.apiserver.aside import aside
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.storage.converted import Conversions

T = TypeVar("T")


class _Wanted(Exception):
    """An object is needed in an API version."""

    def __init__(self, obj: Object, api_version: str) -> None:
        self.obj = obj
        self.api_version = api_version


class Versions:
    """The objects of one request in other versions: ``convert`` is the ``Converter`` for ``api.apply``."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._known: dict[tuple[bytes, str], Object] = {}

    def convert(self, obj: Object, source: str, wanted: str) -> tuple[Object, Schema] | None:
        converted = self._target.converter(obj, source, wanted)
        if converted is None or source == wanted or self._target.conversions is None:
            return converted
        known = self._known.get((orjson.dumps(obj), wanted))
        if known is None:
            raise _Wanted(obj, wanted)
        return known, converted[1]

    async def settle(self, work: Callable[[], T], *, big: bool) -> T:
        """Do ``work``, which can be done again; in a thread if it is big. Raises what a conversion fails with."""
        while True:
            try:
                return await aside(work) if big else work()
            except _Wanted as wanted:
                conversions = self._target.conversions
                assert conversions is not None
                await self._ask(conversions, wanted)

    async def _ask(self, conversions: Conversions, wanted: _Wanted) -> None:
        key = (orjson.dumps(wanted.obj), wanted.api_version)
        self._known[key] = await conversions.object(wanted.obj, wanted.api_version.rpartition("/")[2])
