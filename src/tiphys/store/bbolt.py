"""bbolt files, the form of etcd's database and of its snapshots: written from sorted pairs, read bucket by bucket.

A file is pages of one size. Pages 0 and 1 are the *meta* pages, of which the valid one with the higher transaction
number counts; a free list follows; the rest are the nodes of B+ trees: a leaf page holds pairs, a branch page the first
key and the page of each child. A node longer than a page runs over into the pages after it. The root tree's pairs are
the buckets: a name, and the page of the bucket's own tree (0: the bucket is so small that its page follows in place).

Source: the file format of https://github.com/etcd-io/bbolt (version 2).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tiphys.runtime.binary.fnv import fnv64a

PAGE_SIZE = 4096
MAGIC = 0xED0CDAED
VERSION = 2
BRANCH, LEAF, META, FREE_LIST = 0x01, 0x02, 0x04, 0x10
BUCKET_FLAG = 0x01

_PAGE = struct.Struct("<QHHI")  # page, flags, count, overflow
_META = struct.Struct("<IIIIQQQQQ")  # magic, version, page size, flags, root, sequence, free list, end, transaction
_CHECKSUM = struct.Struct("<Q")
_LEAF = struct.Struct("<IIII")  # flags, position from here, key size, value size
_BRANCH = struct.Struct("<IIQ")  # position from here, key size, page
_BUCKET = struct.Struct("<QQ")  # root page, sequence

Pair = tuple[bytes, bytes]


class BadFile(Exception):
    """The file is not a bbolt database that can be read; the message says what is wrong."""


# Writing: leaves in order, then the branches above them, so the file is written from front to back.


def write(file: BinaryIO, buckets: Sequence[tuple[bytes, Iterable[Pair]]]) -> None:
    """Write a database. Buckets in the order of their names, each with its pairs in the order of their keys."""
    writer = _Writer(file)
    roots = [(name, _BUCKET.pack(writer.tree(pairs), 0)) for name, pairs in buckets]
    root = writer.tree(roots, BUCKET_FLAG)
    free_list = writer.page(FREE_LIST, 0, b"")
    for page in (0, 1):
        meta = _META.pack(MAGIC, VERSION, PAGE_SIZE, 0, root, 0, free_list, writer.end, page)
        body = _PAGE.pack(page, META, 0, 0) + meta + _CHECKSUM.pack(fnv64a(meta))
        file.seek(page * PAGE_SIZE)
        file.write(body.ljust(PAGE_SIZE, b"\0"))
    file.seek(0, 2)


class _Writer:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.end = 2
        """The first page that is not in use."""
        file.write(bytes(2 * PAGE_SIZE))

    def page(self, flags: int, count: int, body: bytes) -> int:
        """Write a node to the next page, and as many after it as it takes."""
        page = self.end
        length = _PAGE.size + len(body)
        pages = -(-length // PAGE_SIZE)
        self._file.write(_PAGE.pack(page, flags, count, pages - 1))
        self._file.write(body.ljust(pages * PAGE_SIZE - _PAGE.size, b"\0"))
        self.end += pages
        return page

    def tree(self, pairs: Iterable[Pair], flag: int = 0) -> int:
        """Write a tree; returns its root page."""
        children = [(group[0][0] if group else b"", self._leaf(group, flag)) for group in _grouped(pairs)]
        while len(children) > 1:
            children = [(group[0][0], self._branch(group)) for group in _grouped_branches(children)]
        return children[0][1]

    def _leaf(self, pairs: Sequence[Pair], flag: int) -> int:
        heads: list[bytes] = []
        data: list[bytes] = []
        position = len(pairs) * _LEAF.size
        for at, (key, value) in enumerate(pairs):
            heads.append(_LEAF.pack(flag, position - at * _LEAF.size, len(key), len(value)))
            data += (key, value)
            position += len(key) + len(value)
        return self.page(LEAF, len(pairs), b"".join(heads) + b"".join(data))

    def _branch(self, children: Sequence[tuple[bytes, int]]) -> int:
        heads = []
        position = len(children) * _BRANCH.size
        for at, (key, page) in enumerate(children):
            heads.append(_BRANCH.pack(position - at * _BRANCH.size, len(key), page))
            position += len(key)
        return self.page(BRANCH, len(children), b"".join(heads) + b"".join(key for key, _ in children))


def _grouped(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """As many pairs as continue a page; at least one list, which may be empty."""
    group: list[Pair] = []
    size = _PAGE.size
    for pair in pairs:
        length = _LEAF.size + len(pair[0]) + len(pair[1])
        if group and size + length > PAGE_SIZE:
            yield group
            group, size = [], _PAGE.size
        group.append(pair)
        size += length
    yield group


def _grouped_branches(children: Sequence[tuple[bytes, int]]) -> Iterator[list[tuple[bytes, int]]]:
    """As many children as continue a page, and two at least."""
    group: list[tuple[bytes, int]] = []
    size = _PAGE.size
    for at, child in enumerate(children):
        length = _BRANCH.size + len(child[0])
        if len(group) >= 2 and size + length > PAGE_SIZE and at < len(children) - 1:
            yield group
            group, size = [], _PAGE.size
        group.append(child)
        size += length
    yield group


# Reading


class Reader:
    """A database that is open for reading. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            try:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                raise BadFile(f"{path} is empty") from error
        self._path = path
        self.page_size, self._root, self.pages = self._meta()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._data.close()

    def _meta(self) -> tuple[int, int, int]:
        """Page size, root page and number of pages, by the newest valid meta page."""
        metas = [meta for at in (0, *(1 << shift for shift in range(9, 17))) if (meta := self._meta_at(at))]
        if not metas:
            raise BadFile(f"{self._path} is not a bbolt database, or both its meta pages are damaged")
        _, page_size, root, pages = max(metas)
        return page_size, root, pages

    def _meta_at(self, at: int) -> tuple[int, int, int, int] | None:
        start = at + _PAGE.size
        end = start + _META.size
        if end + _CHECKSUM.size > len(self._data):
            return None
        body = self._data[start:end]
        magic, version, page_size, _, root, _, _, pages, transaction = _META.unpack(body)
        (checksum,) = _CHECKSUM.unpack_from(self._data, end)
        if magic != MAGIC or version != VERSION or checksum != fnv64a(body):
            return None
        return transaction, page_size, root, pages

    def bucket(self, name: bytes) -> Iterator[Pair]:
        """The pairs of a bucket in order; none if there is no such bucket."""
        for key, value in self._walk(self._root * self.page_size):
            if key == name:
                root, _ = _BUCKET.unpack_from(value)
                if root:
                    yield from self._walk(root * self.page_size)
                else:
                    yield from _leaf_pairs(value, _BUCKET.size)

    def buckets(self) -> list[bytes]:
        return [key for key, _ in self._walk(self._root * self.page_size)]

    def _walk(self, start: int) -> Iterator[Pair]:
        """The pairs below the page at ``start``. A stack, as damaged files must not recurse without end."""
        stack = [start]
        visits = 0
        while stack:
            at = stack.pop()
            visits += 1
            if visits > len(self._data) // 512 or at + _PAGE.size > len(self._data):
                raise BadFile(f"{self._path} is damaged: its pages do not form a tree")
            _, flags, count, _ = _PAGE.unpack_from(self._data, at)
            if flags & LEAF:
                yield from _leaf_pairs(self._data, at)
            elif flags & BRANCH:
                base = at + _PAGE.size
                pages = [_BRANCH.unpack_from(self._data, base + n * _BRANCH.size)[2] for n in range(count)]
                stack += [page * self.page_size for page in reversed(pages)]
            else:
                raise BadFile(f"{self._path} is damaged: page at byte {at} is no part of a tree")


def _leaf_pairs(data: bytes | mmap.mmap, at: int) -> Iterator[Pair]:
    _, _, count, _ = _PAGE.unpack_from(data, at)
    for n in range(count):
        head = at + _PAGE.size + n * _LEAF.size
        _, position, key_size, value_size = _LEAF.unpack_from(data, head)
        key = head + position
        value = key + key_size
        yield bytes(data[key:value]), bytes(data[value : value + value_size])
