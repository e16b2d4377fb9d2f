"""PDF, page by page, through pypdf. Scanned pages hold no text, and there is no OCR."""

from __future__ import annotations

import logging
from io import BytesIO
from pathlib import PurePath

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from atlas.rag.document import Document, Section, Unreadable, as_lines

MOST_PAGES = 2_000


def read(data: bytes, name: str) -> Document:
    """One section a page; lines carry the page's number. Raises Unreadable."""
    if b"%PDF-" not in data[:1024]:
        raise Unreadable("it is not a PDF: it does not begin as one")
    # it warns of every flaw that it fixes
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("it is encrypted: remove its password")
        if len(reader.pages) > MOST_PAGES:
            raise Unreadable(f"it has {len(reader.pages)} pages, and {MOST_PAGES} are read: split it")
        title = str((reader.metadata and reader.metadata.title) or "").strip()
        pages = [page.extract_text().replace("\x00", "\ufffd") for page in reader.pages]
    except Unreadable:
        raise
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OverflowError, OSError,
            NotImplementedError, AssertionError, ArithmeticError) as error:  # fmt: skip
        # all that pypdf is seen to raise for files that are broken
        raise Unreadable(f"it is a broken PDF ({error.__class__.__name__}: {str(error)[:100]})") from None
    sections = tuple(
        Section(heading=title, lines=tuple((number, line) for line in as_lines(text)))
        for number, text in enumerate(pages, 1)
        if text.strip()
    )
    if not sections:
        raise Unreadable("it holds no text (scanned pages?): run an OCR over it first")
    return Document(title=title[:300] or PurePath(name).name, sections=sections)
