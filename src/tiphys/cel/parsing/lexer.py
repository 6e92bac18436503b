"""Splits text into tokens, by the longest match, and reports text that is no token.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tiphys.cel.parsing.source import Problem

EOF, IDENTIFIER, ESCAPED = "EOF", "IDENTIFIER", "ESC_IDENTIFIER"
INT, UINT, FLOAT, STRING, BYTES = "NUM_INT", "NUM_UINT", "NUM_FLOAT", "STRING", "BYTES"
KEYWORDS = frozenset(("in", "true", "false", "null"))
_ESCAPE = r"\\(?:[abfnrtv\"'\\?`]|[0-3][0-7][0-7]|[xX][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"
_QUOTED = (
    rf'(?:[rR]"""(?s:.*?)"""|[rR]\'\'\'(?s:.*?)\'\'\'|[rR]"[^"\n\r]*"|[rR]\'[^\'\n\r]*\''
    rf'|"""(?:{_ESCAPE}|[^\\])*?"""|\'\'\'(?:{_ESCAPE}|[^\\])*?\'\'\''
    rf'|"(?:{_ESCAPE}|[^\\"\n\r])*"|\'(?:{_ESCAPE}|[^\\\'\n\r])*\')'
)
_TOKEN = re.compile(
    r"(?P<HIDDEN>[\t \r\n\f]+|//[^\n]*)"
    r"|(?P<NUM_FLOAT>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<NUM_UINT>(?:0x[0-9a-fA-F]+|[0-9]+)[uU])"
    r"|(?P<NUM_INT>0x[0-9a-fA-F]+|[0-9]+)"
    rf"|(?P<BYTES>[bB]{_QUOTED})"
    rf"|(?P<STRING>{_QUOTED})"
    r"|(?P<IDENTIFIER>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<ESC_IDENTIFIER>`[A-Za-z0-9_.\-/ ]+`)"
    r"|(?P<PUNCTUATION>==|!=|<=|>=|&&|\|\||[<>\[\]{}().,\-!?:+*/%])"
)
_DOOMED = re.compile(rf'"(?:{_ESCAPE}|[^\\"\n\r])*|\'(?:{_ESCAPE}|[^\\\'\n\r])*|`[A-Za-z0-9_.\-/ ]*|[=&|]|')
_BAD_ESCAPE = re.compile(r"\\(?:[0-3][0-7]?|[xX][0-9a-fA-F]?|u[0-9a-fA-F]{0,3}|U[0-9a-fA-F]{0,7})?")


class Token(NamedTuple):
    kind: str
    """A name of the grammar, or the text itself for keywords and punctuation."""
    text: str
    pos: int
    hidden: str = ""
    """Space and comments before it."""


def tokenize(text: str) -> tuple[list[Token], list[Problem]]:
    """The tokens, ending with EOF, and a problem for each text that is no token. Offsets count characters."""
    tokens, problems, at, hidden = list[Token](), list[Problem](), 0, ""
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            stop = _failing(text, at)
            problems.append(Problem(at, f"Syntax error: token recognition error at: '{text[at : stop + 1]}'"))
            at = stop + 1
            continue
        kind, value = token.lastgroup or "", token.group()
        if kind == "PUNCTUATION" or (kind == IDENTIFIER and value in KEYWORDS):
            kind = value
        if kind == "HIDDEN":
            hidden += value
        else:
            tokens.append(Token(kind, value, at, hidden))
            hidden = ""
        at = token.end()
    tokens.append(Token(EOF, "<EOF>", len(text), hidden))
    return tokens, problems


def _failing(text: str, at: int) -> int:
    """Where the character is that no token can continue with."""
    token = _DOOMED.match(text, at)
    assert token is not None
    stop = token.end()
    if text[at] in "\"'" and text[stop : stop + 1] == "\\":
        partial = _BAD_ESCAPE.match(text, stop)
        assert partial is not None
        stop = partial.end()
    return stop
