"""What is made of a text that anybody may send is kept by ``remembered``, which looks at the text's size."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2] / "src" / "tiphys"
FOLDERS = ("api", "apiserver", "cel", "client", "runtime", "validation", "wire")
ALLOWED = frozenset(
    (
        "api/meta/quantity.py:_parse_cached",  # its caller looks at the size
        "api/openapi/binary.py:_writer",  # names of ours: of versions, messages, components and types
        "api/openapi/shared.py:_hash",
        "api/protobuf/decoding.py:_fields_of",
        "api/protobuf/encoding.py:_encoder",
        "cel/checking/declarations.py:parse_types",
        "client/delegated.py:_read_authorities",  # what the API server publishes
        "runtime/remembering.py:function",  # here the size is looked at
        "runtime/upstream.py:flags_of",
        "wire/grpc/hpack.py:huffman_decode",  # its caller looks at the size
    )
)
"""``file:function``, with the reason why its texts are small."""


def kept(tree: ast.AST) -> Iterator[str]:
    """Functions that are decorated by a cache of ``functools``, and take a text or bytes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            decorators = {ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list}
            if not decorators & {"lru_cache", "cache", "functools.lru_cache", "functools.cache"}:
                continue
            annotations = [ast.unparse(arg.annotation) for arg in node.args.args if arg.annotation is not None]
            if any(annotation in ("str", "bytes", "str | bytes") for annotation in annotations):
                yield node.name
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("lru_cache(", "functools.lru_cache(")):
            yield ast.unparse(node.args[0])


def test_no_text_of_any_size_is_kept() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{name}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for name in kept(ast.parse(path.read_text()))
    }
    assert found - ALLOWED == set()
    assert ALLOWED - found == set()


def test_the_search_sees_what_it_looks_for() -> None:
    source = (
        "@lru_cache(maxsize=9)\ndef a(text: str): ...\n@cache\ndef b(data: bytes, n: int): ...\n"
        "@cache\ndef c(number: int): ...\n@remembered(9, longest=9)\ndef d(text: str): ...\ne = lru_cache(9)(f)\n"
    )
    assert set(kept(ast.parse(source))) == {"a", "b", "f"}
