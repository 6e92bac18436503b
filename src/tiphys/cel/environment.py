"""What an expression may refer to, and the way from its text to something that can be evaluated.

Source: https://kubernetes.io/docs/reference/using-api/cel/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tiphys.cel import types
from tiphys.cel.checking import validators
from tiphys.cel.checking.checker import check
from tiphys.cel.checking.declarations import Library, Overload
from tiphys.cel.parsing.parser import Macro, parse
from tiphys.cel.parsing.source import Problems, Source
from tiphys.cel.schema.decltypes import DeclType, Messages
from tiphys.cel.syntax import Node
from tiphys.cel.types import Type

_BUILT_IN_TYPES: dict[str, Type] = {
    declared.name: types.type_of(declared)
    for declared in (
        types.BOOL,
        types.BYTES,
        types.DOUBLE,
        types.DURATION,
        types.INT,
        types.list_of(types.param("A")),
        types.map_of(types.param("A"), types.param("B")),
        types.NULL,
        types.STRING,
        types.TIMESTAMP,
        types.TYPE,
        types.UINT,
    )
}


@dataclass(frozen=True, slots=True)
class Compiled:
    tree: Node
    type: Type
    environment: Environment


class CompileError(Exception):
    """The text does not compile; ``str`` lists every problem, with its lines."""


class Environment:
    def __init__(self, libraries: Iterable[Library] = ()) -> None:
        self.functions: dict[str, tuple[Overload, ...]] = {}
        self.overloads: dict[str, Overload] = {}
        self.macros: dict[tuple[str, int, bool], Macro] = {}
        self.names: dict[str, Type] = {}
        self.messages = Messages()
        self.variables: Mapping[str, Type] = {}
        for library in libraries:
            self._add(library)

    def _add(self, library: Library) -> None:
        for overload in library.overloads:
            self.functions[overload.function] = (*self.functions.get(overload.function, ()), overload)
            self.overloads[overload.id] = overload
        self.macros.update(library.macros)
        self.names.update((type.name, types.type_of(type)) for type in library.types)

    def extend(
        self,
        variables: Mapping[str, Type] | None = None,
        roots: tuple[DeclType, ...] = (),
        libraries: Iterable[Library] = (),
        *,
        patches: bool = False,
    ) -> Environment:
        """A wider environment; this one stays as it is."""
        wider = Environment()
        wider.functions, wider.overloads = self.functions, self.overloads
        wider.macros, wider.names = self.macros, self.names
        added = list(libraries)
        if added:
            wider.functions, wider.overloads = dict(self.functions), dict(self.overloads)
            wider.macros, wider.names = dict(self.macros), dict(self.names)
            for library in added:
                wider._add(library)
        wider.variables = {**self.variables, **(variables or {})}
        wider.messages = self.messages.extend(roots, patches=patches) if roots or patches else self.messages
        return wider

    def identifier(self, name: str) -> Type | None:
        """The type of a variable; for the name of a type, the type of types."""
        if name in self.variables:
            return self.variables[name]
        if name in _BUILT_IN_TYPES:
            return _BUILT_IN_TYPES[name]
        message = self.messages.type_named(name)
        return types.type_of(message) if message is not None else self.names.get(name)

    def has_message(self, name: str) -> bool:
        return self.messages.type_named(name) is not None

    def field_type(self, message: str, name: str) -> Type | None:
        return self.messages.field_type(message, name)

    def compile(self, text: str) -> Compiled:
        """Raises CompileError."""
        problems = Problems(Source(text))
        tree = parse(problems.source, self.macros, problems)
        if tree is None:
            raise CompileError(str(problems))
        type = check(tree, self, problems)
        if not problems:
            validators.validate(tree, problems)
        if problems:
            raise CompileError(str(problems))
        return Compiled(tree, type, self)
