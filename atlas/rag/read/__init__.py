"""Readers: one a kind of document. Each answers with sections whose lines are numbered as the reader of the source counts."""

from __future__ import annotations

from atlas.rag.document import Document, Kind, Section, Unreadable
from atlas.rag.read import code, markdown, notebook, rst

__all__ = ["read"]


def read(data: bytes, kind: Kind, name: str) -> Document:
    """What a document says. name: its file name, which says the language of code. Raises Unreadable."""
    try:
        document = _read(data, kind, name)
    except Unreadable:
        raise
    except MemoryError:
        raise Unreadable("reading it takes too much memory") from None
    except Exception as error:
        # readers of other people's formats meet what nobody thought of: one document must not end the others
        raise Unreadable(f"its reader does not understand it ({error.__class__.__name__}: {str(error)[:100]})") from error
    return Document(
        title=_storable(document.title),
        sections=tuple(
            Section(heading=_storable(part.heading), lines=tuple((number, _storable(line)) for number, line in part.lines))
            for part in document.sections
        ),
    )


def _storable(text: str) -> str:
    """What Postgres can keep: escapes in JSON and HTML bring NULs and halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd").replace("\ufeff", "")


def _read(data: bytes, kind: Kind, name: str) -> Document:
    match kind:
        case "pdf":
            # imported here: most workers never meet one
            from atlas.rag.read import pdf

            return pdf.read(data, name)
        case "html":
            from atlas.rag.read import html

            return html.read(data, name)
    text = decode(data)
    match kind:
        case "markdown":
            return markdown.read(text, name)
        case "rst":
            return rst.read(text, name)
        case "code":
            return code.read(text, name)
        case "notebook":
            return notebook.read(text, name)
    # plain text that underlines its titles is cut under them; other text has none
    return rst.read(text, name)


def decode(data: bytes) -> str:
    """UTF-8 text. Raises Unreadable for what is binary, or is not UTF-8."""
    if b"\x00" in data[:8192]:
        raise Unreadable("it is binary")
    try:
        return data.decode("utf-8-sig").replace("\x00", "\ufffd")
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8 (byte {error.start})") from None
