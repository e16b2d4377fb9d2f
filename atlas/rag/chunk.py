"""Cuts a file into chunks: Markdown by heading, code by definition, text by paragraph; at most 800 tokens each. Pure."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from atlas.adr import headings
from atlas.tokens import Count

LONGEST = 800
"""Tokens of a chunk, at most."""

Kind = Literal["markdown", "code", "text"]

_MARKDOWN = frozenset({".md", ".mdx", ".markdown"})
_TEXT = frozenset({".txt", ".rst", ".adoc", ".org"})
_CODE = frozenset(
    {
        *(".py", ".pyi", ".ts", ".tsx", ".js", ".jsx", ".mjs", ".go", ".rs", ".java", ".kt", ".rb", ".php", ".cs", ".c", ".h"),
        *(".cpp", ".hpp", ".swift", ".scala", ".sh", ".sql", ".tf", ".ex", ".exs", ".yaml", ".yml", ".toml", ".proto"),
        *(".graphql", ".dockerfile"),
    }
)
_DEFINITION = re.compile(
    r"""^(?:export\s+|public\s+|private\s+|pub(?:\([a-z]+\))?\s+|static\s+|async\s+|abstract\s+|default\s+|final\s+)*
    (?:def|class|func|fn|function|interface|struct|enum|trait|impl|module|type|resource|message|service
      |create(?:\s+or\s+replace)?\s+(?:function|table|view|trigger|policy|procedure))\b\s*([^\s({:;=]*)""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A chunk of a file. Lines count from 1, the last one included."""

    heading: str
    start_line: int
    end_line: int
    text: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """Lines of a file under one heading; start from 0, end excluded."""

    heading: str
    start: int
    end: int


def kind_of(name: str) -> Kind | None:
    """What a file is, by its name; None: not indexed."""
    path = PurePath(name)
    suffix = path.suffix.lower()
    if suffix in _MARKDOWN:
        return "markdown"
    if suffix in _TEXT:
        return "text"
    if suffix in _CODE or path.name in ("Dockerfile", "Makefile"):
        return "code"
    return None


def title_of(text: str, kind: Kind, name: str) -> str:
    """The first heading of a Markdown file, else its name."""
    if kind == "markdown":
        first = next(iter(headings(text)), None)
        if first is not None and first.text:
            return first.text[:300]
    return PurePath(name).name


def cut(text: str, kind: Kind, name: str, count: Count) -> list[Piece]:
    """The chunks of a file, in order, each with what it stands under."""
    # as CommonMark and Python's parser count lines: form feeds and U+2028 end none
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    match kind:
        case "markdown":
            spans = list(_by_heading(text, len(lines)))
        case "code":
            spans = list(_by_definition(text, lines, name))
        case _:
            spans = [_Span(heading="", start=0, end=len(lines))]
    pieces: list[Piece] = []
    for span in spans:
        pieces += _bounded(lines, span, count)
    return pieces


def _by_heading(text: str, length: int) -> Iterable[_Span]:
    marks = headings(text)
    if not marks or marks[0].start > 0:
        yield _Span(heading="", start=0, end=marks[0].start if marks else length)
    path: list[tuple[int, str]] = []
    for index, mark in enumerate(marks):
        path = [(level, name) for level, name in path if level < mark.level] + [(mark.level, mark.text)]
        end = marks[index + 1].start if index + 1 < len(marks) else length
        yield _Span(heading=" > ".join(name for _, name in path), start=mark.start, end=end)


def _by_definition(text: str, lines: list[str], name: str) -> Iterable[_Span]:
    starts = _python_definitions(text) if name.endswith((".py", ".pyi")) else None
    if starts is None:
        starts = [
            (number, match[1] or match[0].strip()) for number, line in enumerate(lines) if (match := _DEFINITION.match(line))
        ]
    if not starts or starts[0][0] > 0:
        yield _Span(heading="", start=0, end=starts[0][0] if starts else len(lines))
    for index, (start, symbol) in enumerate(starts):
        yield _Span(heading=symbol, start=start, end=starts[index + 1][0] if index + 1 < len(starts) else len(lines))


def _python_definitions(text: str) -> list[tuple[int, str]] | None:
    """Top-level functions and classes, and the methods of classes; None where the file does not parse."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    found: list[tuple[int, str]] = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.append((_first_line(node), node.name))
        if isinstance(node, ast.ClassDef):
            found += [
                (_first_line(child), f"{node.name}.{child.name}")
                for child in node.body
                if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            ]
    return found


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1


def _bounded(lines: list[str], span: _Span, count: Count) -> Iterable[Piece]:
    """The span, cut at blank lines where it is too long, and within a line where even that is."""
    held: list[tuple[int, str]] = []
    size = 0
    for block in _blocks(lines, span):
        for start, text in _small_enough(block, count):
            tokens = count(text) + 1
            if held and size + tokens > LONGEST:
                yield from _piece(held, span.heading, count)
                held, size = [], 0
            held.append((start, text))
            size += tokens
    yield from _piece(held, span.heading, count)


def _blocks(lines: list[str], span: _Span) -> Iterable[tuple[int, list[str]]]:
    """Runs of lines that end with a blank one."""
    start = span.start
    for number in range(span.start, span.end):
        if not lines[number].strip() or number == span.end - 1:
            yield start, lines[start : number + 1]
            start = number + 1


def _small_enough(block: tuple[int, list[str]], count: Count) -> Iterable[tuple[int, str]]:
    start, lines = block
    text = "\n".join(lines)
    if count(text) < LONGEST:
        yield start, text
        return
    for number, line in enumerate(lines, start):
        at = 0
        while at < len(line) or not line:
            # halving finds a size that fits, and never counts more of a huge line than may become one chunk
            size = LONGEST * 4
            while size > 1 and count(line[at : at + size]) >= LONGEST:
                size //= 2
            yield number, line[at : at + size]
            at += size
            if not line:
                break


def _piece(held: list[tuple[int, str]], heading: str, count: Count) -> Iterable[Piece]:
    text = "\n".join(part for _, part in held)
    if not text.strip():
        return
    last_start, last = held[-1]
    end = last_start + 1 + last.rstrip("\n").count("\n")
    yield Piece(heading=heading[:300], start_line=held[0][0] + 1, end_line=end, text=text.strip("\n"), tokens=count(text))
