"""Source code, by definition: tree-sitter's grammars where there is one, else lines that look like a definition."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from pathlib import PurePath

from tree_sitter import Language, Node, Parser

from atlas.rag.document import Document, as_lines, cut_at

_GRAMMARS: dict[str, tuple[str, str]] = {
    **dict.fromkeys((".py", ".pyi"), ("tree_sitter_python", "language")),
    **dict.fromkeys((".js", ".jsx", ".mjs", ".cjs"), ("tree_sitter_javascript", "language")),
    ".ts": ("tree_sitter_typescript", "language_typescript"),
    ".tsx": ("tree_sitter_typescript", "language_tsx"),
    ".go": ("tree_sitter_go", "language"),
    ".rs": ("tree_sitter_rust", "language"),
    ".java": ("tree_sitter_java", "language"),
    **dict.fromkeys((".c", ".h"), ("tree_sitter_c", "language")),
    **dict.fromkeys((".cc", ".cpp", ".hpp"), ("tree_sitter_cpp", "language")),
    ".cs": ("tree_sitter_c_sharp", "language"),
    ".rb": ("tree_sitter_ruby", "language"),
    ".php": ("tree_sitter_php", "language_php"),
    **dict.fromkeys((".sh", ".bash"), ("tree_sitter_bash", "language")),
}
_FUNCTIONS = frozenset(
    {
        *("function_definition", "function_declaration", "generator_function_declaration", "method_definition"),
        *("method_declaration", "constructor_declaration", "function_item", "method", "singleton_method", "macro_definition"),
    }
)
"""Nodes whose inside is not looked into: a function belongs together."""
_CONTAINERS = frozenset(
    {
        *("class_definition", "class_declaration", "abstract_class_declaration", "interface_declaration", "enum_declaration"),
        *("type_alias_declaration", "type_declaration", "record_declaration", "struct_declaration", "namespace_declaration"),
        *("struct_item", "enum_item", "trait_item", "impl_item", "mod_item", "class_specifier", "namespace_definition"),
        *("class", "module", "trait_declaration"),
    }
)
_WRAPPERS = frozenset(
    {"decorated_definition", "export_statement", "lexical_declaration", "variable_declaration", "template_declaration"}
)
_BOUND = frozenset({"arrow_function", "function_expression", "generator_function"})
_BEFORE = frozenset({"comment", "line_comment", "block_comment", "decorator", "attribute_item", "annotation"})
"""What stands above a definition and belongs to it."""
_LOOKS_LIKE_ONE = re.compile(
    r"""^(?:export\s+|public\s+|private\s+|pub(?:\([a-z]+\))?\s+|static\s+|async\s+|abstract\s+|default\s+|final\s+)*
    (?:def|class|func|fun|fn|function|interface|struct|enum|trait|impl|module|type|resource|message|service|object|protocol
      |create(?:\s+or\s+replace)?\s+(?:function|table|view|trigger|policy|procedure))\b\s*([^\s({:;=]*)""",
    re.VERBOSE | re.IGNORECASE,
)


def read(text: str, name: str) -> Document:
    """Definitions under their symbols: a method is Class.method."""
    lines = as_lines(text)
    grammar = _GRAMMARS.get(PurePath(name).suffix.lower())
    marks = _parsed("\n".join(lines), *grammar) if grammar else list(_guessed(lines))
    return Document(title=PurePath(name).name, sections=cut_at(lines, marks))


def _guessed(lines: list[str]) -> Iterable[tuple[int, str]]:
    for number, line in enumerate(lines):
        if match := _LOOKS_LIKE_ONE.match(line):
            yield number, match[1] or match[0].strip()


@cache
def _parser(module: str, function: str) -> Parser:
    language: Callable[[], object] = getattr(import_module(module), function)
    return Parser(Language(language()))


def _parsed(text: str, module: str, function: str) -> list[tuple[int, str]]:
    """(first line, symbol) of each definition. A file that does not parse gives what parses of it."""
    found: dict[int, str] = {}
    # no recursion: generated code nests deeper than Python's stack
    root = _parser(module, function).parse(text.encode()).root_node
    waiting = [*_children(root, "")]
    while waiting:
        node, inside, row = waiting.pop()
        symbol = inside
        if node.type in _FUNCTIONS or node.type in _CONTAINERS or _is_bound(node) or _is_type_of_c(node):
            name = _name(node)
            if name:
                symbol = f"{inside}.{name}" if inside else name
                found.setdefault(row, symbol[:300])
            if node.type not in _CONTAINERS:
                continue
        # `export`, decorators and the like begin where what they hold begins
        waiting += _children(node, symbol, row if node.type in _WRAPPERS else None)
    return sorted(found.items())


def _children(node: Node, inside: str, begins: int | None = None) -> Iterable[tuple[Node, str, int]]:
    """(child, symbol around it, first line), where comments and attributes right above a child belong to it."""
    above: int | None = None
    last = -2
    for child in node.named_children:
        start, end = child.start_point.row, child.end_point.row
        adjoining = above is not None and start <= last + 1
        if child.type in _BEFORE:
            above = above if adjoining else start
        else:
            row = above if adjoining and above is not None and above < start else start
            yield child, inside, row if begins is None else begins
            above = None
        last = end if child.end_point.column > 0 else end - 1


def _is_bound(node: Node) -> bool:
    """`const f = () => …` at the top: a function by another name."""
    if node.type != "variable_declarator":
        return False
    value = node.child_by_field_name("value")
    return value is not None and value.type in _BOUND


def _is_type_of_c(node: Node) -> bool:
    """`struct s { … }`, and not the mention of one."""
    return node.type in ("struct_specifier", "enum_specifier") and node.child_by_field_name("body") is not None


def _name(node: Node) -> str:
    for field in ("name", "declarator", "type"):
        child = node.child_by_field_name(field)
        # C wraps the name in declarators: pointer, function, parameters
        while child is not None and (inner := child.child_by_field_name("declarator")) is not None:
            child = inner
        if child is not None and child.text:
            return " ".join(child.text.decode("utf-8", "replace").split())
    # Go's `type T struct` names its spec
    for child in node.named_children:
        named = child.child_by_field_name("name")
        if named is not None and named.text:
            return named.text.decode("utf-8", "replace")
    return ""
