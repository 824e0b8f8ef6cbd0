"""The project's Python files, each parsed once, for the tests of the house."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED = frozenset({"relay/rpc/lp_rpc_pb2.py"})


@dataclass(frozen=True)
class Source:
    """One file: ``path`` is relative to the repository, ``module`` is its dotted name."""

    path: str
    module: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @classmethod
    def read(cls, file: Path, root: Path = ROOT) -> Source:
        path = file.relative_to(root).as_posix()
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        return cls(path, module, file.read_text())

    @classmethod
    def made(cls, path: str, text: str) -> Source:
        """One that is not on disk: what the rules are tried on."""
        return cls(path, path.removesuffix(".py").replace("/", "."), text)

    def at(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


@cache
def sources(*rooms: str) -> tuple[Source, ...]:
    """Every written (not generated) file of these folders."""
    files = [file for room in rooms for file in sorted((ROOT / room).rglob("*.py"))]
    return tuple(
        Source.read(file) for file in files if file.relative_to(ROOT).as_posix() not in GENERATED
    )


def imports(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Each imported module's dotted name; ``from a import b`` gives ``a.b`` and ``a``."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node, node.module
            for alias in node.names:
                yield node, f"{node.module}.{alias.name}"


def called(node: ast.AST) -> str:
    """The dotted name of what a call calls, or ''."""
    if not isinstance(node, ast.Call):
        return ""
    return dotted(node.func)


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else node.attr
    return ""
