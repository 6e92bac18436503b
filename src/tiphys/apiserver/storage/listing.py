"""Reading a page of a list: at which revision, from the cache or from the store's history.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions. The cache shows one state, the
newest; a page of that state comes from it. Only a page of an older state is read from the store's history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tiphys.api import errors
from tiphys.api.gotext import quote
from tiphys.apiserver.storage import continuation
from tiphys.apiserver.storage.cacher import CHEAP_SECONDS, READY_SECONDS, NotReady, Unreadable
from tiphys.apiserver.storage.converted import ConvertedStore
from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.storage.feed import TooLargeRevision
from tiphys.apiserver.storage.objects import ObjectStore
from tiphys.apiserver.storage.selection import Selection
from tiphys.store.backend import Compacted, FutureRevision

_HISTORY_PAGE = 500
_MAX_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Query:
    """``match`` is Exact, NotOlderThan or nothing; ``limit`` 0 means all."""

    selection: Selection
    resource_version: str = ""
    match: str = ""
    limit: int = 0
    continue_: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """``remaining`` is how many objects follow, if that is known; ``token`` leads to them. ``hidden`` is what cannot
    be read and is left out."""

    entries: Sequence[Entry]
    revision: int
    token: str = ""
    remaining: int | None = None
    hidden: Sequence[Unreadable] = ()


class NotARevision(ValueError):
    """The text is no resource version; the message is upstream's."""


def read_revision(text: str) -> int:
    """A resource version as clients send it. Raises ``NotARevision``."""
    if not text:
        return 0
    why = "invalid syntax"
    if text.isascii() and text.isdigit():
        if len(text.lstrip("0")) <= _MAX_DIGITS and (revision := int(text)) < 2**64:
            return revision
        why = "value out of range"
    value = quote(text)
    raise NotARevision(f"resourceVersion: Invalid value: {value}: strconv.ParseUint: parsing {value}: {why}")


def parse_revision(text: str) -> int:
    """For a read or a watch. Raises upstream's odd answer to one that is no number: lists say 400."""
    try:
        return read_revision(text)
    except NotARevision as error:
        raise errors.from_code(500, str(error)) from None


async def read_page(store: ObjectStore, query: Query) -> Page:
    """Raises 400, 410, 429 and 504 as documented; and whatever a conversion fails with."""
    if isinstance(store, ConvertedStore):
        return await _read_converted(store, query)
    return await _read_stored(store, query)


async def _read_converted(store: ConvertedStore, query: Query) -> Page:
    """Labels and fields are those of the version that is shown: pages are read until enough objects have them."""
    entries, hidden = list[Entry](), list[Unreadable]()
    limit = 0 if query.resource_version == "0" else query.limit
    following = replace(query, selection=store.narrow(query.selection))
    while True:
        page = await _read_stored(store.stored, following)
        hidden += page.hidden
        entries += [entry for entry in await store.shown(page.entries) if query.selection.matches(entry)]
        if query.selection.is_everything:
            return replace(page, entries=entries, hidden=hidden)
        if limit and len(entries) > limit:
            token = continuation.encode(entries[limit - 1].key, store.prefix, page.revision)
            return Page(entries[:limit], page.revision, token, hidden=hidden)
        if not page.token:
            return Page(entries, page.revision, hidden=hidden)
        following = replace(following, continue_=page.token, resource_version="", match="")


async def _read_stored(store: ObjectStore, query: Query) -> Page:
    """The page, from the cache if it may, or from the store's history. Raises ``StatusError``."""
    is_cheap = _is_cheap(query)
    if not is_cheap:
        await store.cacher.filled(READY_SECONDS)
    elif (page := await _before_filled(store, query)) is not None:
        return page
    if query.continue_:
        return await _continue(store, query)
    try:
        revision = read_revision(query.resource_version)
    except NotARevision as error:
        raise errors.bad_request(f"invalid resource version: {error}") from None
    feed = store.cacher.feed
    if not query.resource_version:
        try:
            await feed.fresh()
        except TooLargeRevision as error:  # the cache does not keep up: the store has it
            return await _from_history(store, query, "", error.requested)
    elif query.match == "Exact" or (query.limit and not query.match and revision):
        return await _at_revision(store, query, "", revision)
    else:
        await feed.reached(revision)
    if query.resource_version == "0":
        query = replace(query, limit=0)  # whoever takes any state gets it in one piece
    return await _from_cache(store, query, "", feed.revision)


async def _before_filled(store: ObjectStore, query: Query) -> Page | None:
    """The page from the store itself if the cache is being filled; None if it is there."""
    try:
        await store.cacher.ready(CHEAP_SECONDS)
    except NotReady:
        return await _from_history(store, query, "", await store.cacher.feed.backend.current_revision())
    return None


def _is_cheap(query: Query) -> bool:
    """Whether the store may be asked while the cache is being filled: for one page, all of which is shown."""
    first = not query.continue_ and query.resource_version in ("", "0")
    return first and bool(query.limit) and query.selection.is_everything


async def _continue(store: ObjectStore, query: Query) -> Page:
    after, revision = continuation.decode(query.continue_, store.prefix)
    if query.resource_version not in ("", "0"):
        raise errors.bad_request("specifying resource version is not allowed when using continue")
    if revision < 0:
        return await _from_cache(store, query, after, await store.cacher.feed.fresh())
    return await _at_revision(store, query, after, revision)


async def _at_revision(store: ObjectStore, query: Query, after: str, revision: int) -> Page:
    if store.cacher.shows(revision):
        return await _from_cache(store, query, after, revision)
    try:
        return await _from_history(store, query, after, revision)
    except Compacted:
        raise _expired(query, after, store.prefix) from None
    except FutureRevision:
        raise errors.too_large_resource_version(store.cacher.feed.revision, revision, retry_after=0) from None


async def _from_cache(store: ObjectStore, query: Query, after: str, revision: int) -> Page:
    """The page as the cache shows it at the call, whatever changes while a long one is gathered."""
    cacher, selection, limit = store.cacher, query.selection, query.limit
    hidden = cacher.hidden(selection.prefix) if cacher.unreadable else ()
    if selection.is_everything:
        if not limit:
            return Page(cacher.under(selection.prefix, after), revision, hidden=hidden)
        entries, following = cacher.page(selection.prefix, after, limit)
        token = continuation.encode(entries[-1].key, store.prefix, revision) if following else ""
        return Page(entries, revision, token, following or None, hidden)
    matching: list[Entry] = []
    for number, some in enumerate(cacher.slices(selection, after)):
        matching += some
        if limit and len(matching) > limit:
            token = continuation.encode(matching[limit - 1].key, store.prefix, revision)
            return Page(matching[:limit], revision, token, hidden=hidden)
        if number:
            await asyncio.sleep(0)
    return Page(matching, revision, hidden=hidden)


async def _from_history(store: ObjectStore, query: Query, after: str, revision: int) -> Page:
    """Read the state of a revision in pieces until there are enough matches."""
    selection, limit = query.selection, query.limit
    collected: list[Entry] = []
    hidden: list[Unreadable] = []
    while True:
        size = limit - len(collected) if limit and selection.is_everything else _HISTORY_PAGE
        entries, count, more, _ = await store.page(selection.prefix, after, revision, size)
        for index, entry in enumerate(entries):
            if isinstance(entry, Unreadable):
                hidden.append(entry)
                continue
            if not selection.matches(entry):
                continue
            collected.append(entry)
            if limit and len(collected) == limit and (more or index + 1 < len(entries)):
                token = continuation.encode(entry.key, store.prefix, revision)
                remaining = count - len(entries) if selection.is_everything else None
                return Page(collected, revision, token, remaining, hidden)
        if not more:
            return Page(collected, revision, hidden=hidden)
        after = entries[-1].key + "\0"


_CONTINUE_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without"
    " the continue parameter, or use the continue token in this response to retrieve the remainder of the results."
    " Continuing with the provided token results in an inconsistent list - objects that were created, modified, or"
    " deleted between the time the first chunk was returned and now may show up in the list."
)


def _expired(query: Query, after: str, prefix: str) -> errors.StatusError:
    if not query.continue_:
        return errors.expired("The resourceVersion for the provided list is too old.")
    error = errors.expired(_CONTINUE_EXPIRED)
    error.status["metadata"]["continue"] = continuation.encode(after.removesuffix("\0"), prefix, -1)
    return error
