"""Readers: one a kind of document. Each answers with sections whose lines are numbered as the reader of the source counts."""

from __future__ import annotations

from atlas.rag.document import Document, Kind, Unreadable
from atlas.rag.read import code, markdown, notebook, rst

__all__ = ["read"]


def read(data: bytes, kind: Kind, name: str) -> Document:
    """What a document says. name: its file name, which says the language of code. Raises Unreadable."""
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
