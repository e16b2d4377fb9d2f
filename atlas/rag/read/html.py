"""HTML, by heading, through Beautiful Soup: what people read on the page, without scripts, styles and navigation."""

from __future__ import annotations

from pathlib import PurePath

from bs4 import BeautifulSoup
from bs4.element import Comment, NavigableString, Tag

from atlas.rag.document import Document, Section, Unreadable, heading_path, joined

_LEFT_OUT = ["script", "style", "template", "noscript", "nav", "footer", "aside", "svg", "iframe", "button", "form"]
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_BLOCKS = frozenset(
    {
        *_HEADINGS,
        "p",
        "pre",
        "li",
        "td",
        "th",
        "dt",
        "dd",
        "blockquote",
        "figcaption",
        "summary",
        "div",
        "section",
        "body",
        "tr",
    }
)


def read(data: bytes, name: str) -> Document:
    """Blocks of text, each with the line of its tag. Raises Unreadable."""
    if b"\x00" in data[:8192]:
        raise Unreadable("it is binary")
    try:
        soup = BeautifulSoup(data, "html.parser")
    except (RecursionError, AssertionError, ValueError) as error:
        raise Unreadable(f"it is not HTML that can be read ({error.__class__.__name__})") from None
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    for tag in soup(_LEFT_OUT):
        tag.decompose()
    for tag in soup.select("a.headerlink"):
        tag.decompose()
    root = soup.find("main") or soup.select_one("[role=main]") or soup.find("article") or soup.body or soup
    path: list[tuple[int, str]] = []
    sections: list[Section] = []
    lines: list[tuple[int, str]] = []
    for block, line, text in _blocks(root):
        if block in _HEADINGS:
            _close(sections, path, lines)
            path = heading_path(path, int(block[1]), text)
            lines = [(line, text)]
        elif block == "pre":
            lines += [(line + offset, part) for offset, part in enumerate(text.split("\n"))]
            lines.append((lines[-1][0], ""))
        else:
            lines += [(line, text), (line, "")]
    _close(sections, path, lines)
    first = joined(path[:1])
    return Document(title=(title or first or PurePath(name).name)[:300], sections=tuple(sections))


def _close(sections: list[Section], path: list[tuple[int, str]], lines: list[tuple[int, str]]) -> None:
    if any(text.strip() for _, text in lines):
        sections.append(Section(heading=joined(path), lines=tuple(lines)))


def _block_of(tag: Tag | None, root: Tag, known: dict[int, Tag | None]) -> Tag | None:
    passed = []
    while tag is not None and tag is not root and tag.name not in _BLOCKS and id(tag) not in known:
        passed.append(id(tag))
        tag = tag.parent
    found = known.get(id(tag), tag) if tag is not None else None
    known.update(dict.fromkeys(passed, found))
    return found


def _blocks(root: Tag) -> list[tuple[str, int, str]]:
    """(tag, line, text) of each block that holds text itself, in the order of the page."""
    found: list[tuple[Tag | None, list[str]]] = []
    # a page that nests a thousand tags would else be climbed a thousand times
    known: dict[int, Tag | None] = {}
    for node in root.descendants:
        if not isinstance(node, NavigableString) or isinstance(node, Comment):
            continue
        block = _block_of(node.parent, root, known)
        if found and found[-1][0] is block:
            found[-1][1].append(str(node))
        elif node.strip():
            found.append((block, [str(node)]))
    blocks = []
    for tag, parts in found:
        text = "".join(parts)
        name = tag.name if tag is not None else ""
        text = text.strip("\n") if name == "pre" else " ".join(text.split())
        if text.strip():
            blocks.append((name, (tag.sourceline if tag is not None else None) or 1, text))
    return blocks
