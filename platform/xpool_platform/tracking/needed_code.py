"""What a module needs to be imported elsewhere: files of this project and packages of others."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import xpool
import xpool_platform

ROOTS = {
    package.__name__: Path(package.__file__ or "").parents[1] for package in (xpool, xpool_platform)
}


@dataclass(frozen=True, slots=True)
class NeededCode:
    """Found by reading the sources; nothing is imported."""

    files: dict[str, Path] = field(default_factory=dict)
    """Sources of this project by their paths below the folder of both packages."""

    packages: set[str] = field(default_factory=set)
    """Other top-level packages that are imported at once, those of Python itself included.

    What only a function imports is not among them.
    """


def needed_code(modules: Iterable[str]) -> NeededCode:
    """All that these modules of the project import, however far down."""
    needed = NeededCode()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if path is None:  # a name within a module
            continue
        place = str(path.relative_to(ROOTS[name.split(".")[0]]))
        if place in needed.files:
            continue
        needed.files[place] = path
        waiting += [name.rpartition(".")[0]] if "." in name else []
        tree = ast.parse(path.read_bytes())
        at_once = set(_imported(tree, within_functions=False))
        waiting += [each for each in _imported(tree) if each.split(".")[0] in ROOTS]
        needed.packages.update({each.split(".")[0] for each in at_once} - set(ROOTS))
    return needed


def _source(name: str) -> Path | None:
    path = ROOTS[name.split(".", maxsplit=1)[0]].joinpath(*name.split("."))
    for source in (path.with_suffix(".py"), path / "__init__.py"):
        if source.is_file():
            return source
    return None


def _imported(node: ast.AST, *, within_functions: bool = True) -> Iterator[str]:
    """Dotted names, those after `from ... import` included, without those for type checkers."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import():
                yield from (alias.name for alias in child.names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
                yield from (f"{module}.{alias.name}" for alias in child.names)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                for other in child.orelse:
                    yield from _imported(other, within_functions=within_functions)
            case ast.FunctionDef() if not within_functions:
                continue
            case _:
                yield from _imported(child, within_functions=within_functions)
