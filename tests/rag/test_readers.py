"""Readers of every kind, and what they say of files that are not what they seem; and the process that reads."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas.rag.chunk import LONGEST, MOST_CHARACTERS, cut
from atlas.rag.document import KINDS, Kind, Unreadable, kind_of
from atlas.rag.read import read
from atlas.rag.reading import ReadingProcess
from atlas.rag.vectors import passage_hash
from tests.support.knowledge import COUNT
from tests.support.pdf import pdf_of


def places(text: str | bytes, name: str) -> list[tuple[str, int, int]]:
    kind = kind_of(name)
    assert kind is not None
    data = text.encode() if isinstance(text, str) else text
    return [(piece.heading, piece.start_line, piece.end_line) for piece in cut(read(data, kind, name), COUNT)]


def test_markdown_and_mdx_by_heading() -> None:
    text = "intro\n\n# Top\n\none\n\n## Sub\n\n```\n# not one\n```\n\nSetext\n------\ntwo\n"
    assert places(text, "a.mdx") == [("", 1, 1), ("Top", 3, 5), ("Top > Sub", 7, 11), ("Top > Setext", 13, 15)]


def test_restructured_text_by_title() -> None:
    text = (
        "=====\nTitle\n=====\n\nintro\n\nFirst\n=====\n\ntext\n\n.. code::\n\n   x\n   ==\n\nDeeper\n------\n\nmore\n\nSecond\n======\n\n"
        "+----+----+\n| a  | b  |\n+====+====+\n\nend\n"
    )
    assert places(text, "a.rst") == [
        ("Title", 1, 5), ("Title > First", 7, 15), ("Title > First > Deeper", 17, 20), ("Title > Second", 22, 29),
    ]  # fmt: skip
    assert read(text.encode(), "rst", "a.rst").title == "Title"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.py", "import x\n\n@deco\ndef f():\n    def inner(): ...\n\nclass C:\n    # says\n    def m(self): ...\n",
         [("", 1, 1), ("f", 3, 5), ("C", 7, 8), ("C.m", 9, 9)]),
        ("a.ts", "export const add = (a: number) => a\n\n// says\nexport class A {\n  m(): void {}\n}\ninterface B { x: 1 }\n",
         [("add", 1, 1), ("A", 3, 4), ("A.m", 5, 6), ("B", 7, 7)]),
        ("a.tsx", "export function App() {\n  return <div/>\n}\n", [("App", 1, 3)]),
        ("a.js", "function* g() {}\nclass A { m() {} }\n", [("g", 1, 1), ("A", 2, 2)]),
        ("a.go", "package x\n\n// Run runs.\nfunc (t *T) Run() {\n}\n\ntype T struct {\n}\n", [("", 1, 1), ("Run", 3, 5), ("T", 7, 8)]),
        ("a.rs", "#[derive(Debug)]\nstruct A {}\n\nimpl A {\n    /// says\n    fn b(&self) {}\n}\n", [("A", 1, 2), ("A", 4, 4), ("A.b", 5, 7)]),
        ("a.java", "class A {\n  A() {}\n  void m() {}\n}\n", [("A", 1, 1), ("A.A", 2, 2), ("A.m", 3, 4)]),
        ("a.c", "#include <x.h>\n/* says */\nint *add(int a) {\n  return 0;\n}\nstruct s { int a; };\n",
         [("", 1, 1), ("add", 2, 5), ("s", 6, 6)]),
        ("a.cpp", "namespace n {\nclass A {\n  int m() { return 1; }\n};\n}\n", [("n", 1, 1), ("n.A", 2, 2), ("n.A.m", 3, 5)]),
        ("a.cs", "class A {\n  void M() {}\n}\n", [("A", 1, 1), ("A.M", 2, 3)]),
        ("a.rb", "module M\n  class A\n    def m\n    end\n  end\nend\n", [("M", 1, 1), ("M.A", 2, 2), ("M.A.m", 3, 6)]),
        ("a.php", "<?php\nfunction f() {}\nclass A {\n  function m() {}\n}\n", [("", 1, 1), ("f", 2, 2), ("A", 3, 3), ("A.m", 4, 5)]),
        ("a.sh", "set -e\nrun() {\n  echo\n}\n", [("", 1, 1), ("run", 2, 4)]),
        ("a.sql", "select 1;\ncreate or replace function atlas.f() returns int\nas $$ $$;\n", [("", 1, 1), ("atlas.f", 2, 3)]),
        ("a.kt", "package x\nfun main() {\n}\n", [("", 1, 1), ("main", 2, 3)]),
    ],
)  # fmt: skip
def test_code_by_definition(name: str, text: str, expected: list[tuple[str, int, int]]) -> None:
    assert places(text, name) == expected


def test_code_that_does_not_parse_gives_what_parses() -> None:
    assert "f" in [heading for heading, _, _ in places("def f():\n    pass\n\ndef )(broken\n\nclass D:\n    x = 1\n", "a.py")]
    deep = "(" * 20_000 + ")" * 20_000
    assert places(deep, "deep.js") != []


def test_html_is_what_people_read() -> None:
    page = (
        "<html><head><title>Guide</title><style>p{}</style></head><body><nav>menu</nav><main>\n<h1>Top<a class=headerlink>¶</a></h1>\n"
        "<p>One <b>bold</b> word.</p>\n<ul><li>first<li>second</ul>\n<script>alert(1)</script>\n<h2>Code</h2>\n<pre>a\n  b</pre>\n"
        "</main><footer>©</footer></body></html>"
    )
    document = read(page.encode(), "html", "a.html")
    assert document.title == "Guide"
    pieces = cut(document, COUNT)
    assert [(piece.heading, piece.start_line) for piece in pieces] == [("Top", 2), ("Top > Code", 6)]
    assert "One bold word." in pieces[0].text
    assert "first" in pieces[0].text
    assert pieces[1].text == "Code\na\n  b"
    everything = " ".join(piece.text for piece in pieces)
    assert not any(word in everything for word in ("menu", "alert", "©", "¶"))


def test_pdf_by_page() -> None:
    document = read(pdf_of("How to restore a backup", "Who is on call"), "pdf", "a.pdf")
    assert document.title == "Runbook"
    found = [(piece.start_line, piece.end_line, piece.text.strip()) for piece in cut(document, COUNT)]
    assert found == [(1, 1, "How to restore a backup"), (2, 2, "Who is on call")]


def test_notebooks_by_cell() -> None:
    notebook = {
        "nbformat": 4,
        "cells": [
            {"cell_type": "markdown", "source": ["# Load\n", "\n", "We load."]},
            {"cell_type": "code", "source": "x = 1", "outputs": [{"text": "secret output"}]},
            {"cell_type": "raw", "source": "raw"},
        ],
    }
    document = read(json.dumps(notebook).encode(), "notebook", "a.ipynb")
    pieces = cut(document, COUNT)
    assert [(piece.heading, piece.start_line, piece.text) for piece in pieces] == [
        ("Load", 1, "# Load\n\nWe load."),
        ("Load", 2, "x = 1"),
    ]
    assert document.title == "Load"


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        (b"it says it is one", "pdf", "not a PDF"),
        (b"%PDF-1.7\nbroken", "pdf", "broken PDF"),
        (pdf_of("x")[:300], "pdf", "PDF"),
        (pdf_of(""), "pdf", "holds no text"),
        (b"\x89PNG\x00\x00", "markdown", "binary"),
        (b"caf\xe9", "text", "not UTF-8"),
        (b"{}", "notebook", "not a notebook"),
        (b"[1, 2]", "notebook", "not a notebook"),
        (b"[" * 100_000, "notebook", "not a notebook"),
        (b"\x00\x00<html>", "html", "binary"),
    ],
)
def test_what_is_not_what_it_seems_is_said(data: bytes, kind: Kind, said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        read(data, kind, "a")


@given(st.binary(max_size=400), st.sampled_from([kind for kind in KINDS if kind != "pdf"]))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes, kind: Kind) -> None:
    try:
        document = read(data, kind, "a.py")
    except Unreadable:
        return
    for piece in cut(document, COUNT):
        assert piece.tokens <= LONGEST
        assert 1 <= piece.start_line <= piece.end_line


@given(st.binary(max_size=60), st.integers(0, 700))
@settings(deadline=None, max_examples=150)
def test_a_damaged_pdf_is_read_or_refused(noise: bytes, at: int) -> None:
    whole = pdf_of("How to restore a backup", "Who is on call")
    damaged = whole[:at] + noise + whole[at + len(noise) :]
    try:
        cut(read(damaged, "pdf", "a.pdf"), COUNT)
    except Unreadable as error:
        assert str(error)


def test_a_chunk_is_bounded_in_characters_too() -> None:
    for text in ("a" + " " * 60_000 + "b", "-" * 60_000, "# T\n\n" + "=" * 30_000 + "\n\nend", "\ufeff\ufeff"):
        pieces = cut(read(text.encode(), "markdown", "a.md"), COUNT)
        assert all(len(piece.text) <= MOST_CHARACTERS and piece.tokens <= LONGEST for piece in pieces)
    assert pieces == []


def test_readers_take_no_longer_for_what_is_repeated() -> None:
    """Twice as much takes about twice as long: comments in a row, and tags in each other."""

    def took(text: str, kind: Kind, name: str) -> float:
        began = time.process_time()
        read(text.encode(), kind, name)
        return time.process_time() - began

    comments = "// says\n" * 20_000 + "int f() { return 0; }\n"
    tags = "<p>" + "<b>x" * 4_000 + "</p>"
    for text, kind, name in ((comments, "code", "a.c"), (tags, "html", "a.html")):
        once, fourfold = took(text, kind, name), took(text * 4, kind, name)  # type: ignore[arg-type]  # one of its literals
        assert fourfold < 12 * once + 0.5


HTML = st.lists(
    st.sampled_from(
        ["<p>", "</p>", "<![", "]]>", "<!--", "-->", "<h2>", "text", "<script>", "&#0;", "&#xd800;", "<a b='", "<b>"]
    ),
    max_size=25,
).map("".join)
CELLS = st.lists(
    st.fixed_dictionaries(
        {
            "cell_type": st.sampled_from(["code", "markdown", "raw"]),
            "source": st.one_of(st.text(max_size=20), st.lists(st.text(max_size=8), max_size=3)),
        }
    ),
    max_size=4,
)


@given(st.one_of(HTML.map(lambda text: (text, "html")), CELLS.map(lambda cells: (json.dumps({"cells": cells}), "notebook"))))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_read_can_be_stored(found: tuple[str, Kind]) -> None:
    try:
        document = read(found[0].encode(), found[1], "a")
    except Unreadable:
        return
    for piece in cut(document, COUNT):
        assert "\x00" not in piece.text + piece.heading
        assert len(passage_hash(piece.heading, piece.text)) == 32


async def test_a_document_that_takes_for_ever_or_all_memory_ends_only_itself() -> None:
    reading, small = ReadingProcess(seconds=3), ReadingProcess(memory=192 * 1024 * 1024)
    try:
        assert (await reading.read(b"# A\n\ntext\n", "markdown", "a.md")).title == "A"
        with pytest.raises(Unreadable, match="takes more than 3 s"):
            await reading.read(b"<a" * 200_000, "html", "slow.html")
        with pytest.raises(Unreadable, match="too much memory"):
            await small.read(b"a\n" * 10_000_000, "text", "large.txt")
        with pytest.raises(Unreadable, match="is not a notebook"):
            await reading.read(b"[", "notebook", "broken.ipynb")
        assert (await reading.read(b"# B\n\ntext\n", "markdown", "b.md")).title == "B"
        # one that is no longer waited for does not answer in the next one's place
        late = asyncio.create_task(reading.read(b"<a" * 200_000, "html", "slow.html"))
        await asyncio.sleep(0.3)
        late.cancel()
        assert (await reading.read(b"# C\n\ntext\n", "markdown", "c.md")).title == "C"
    finally:
        await reading.close()
        await small.close()


async def test_the_reading_process_has_no_secrets_and_ends_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import asyncio\nfrom atlas.rag.reading import ReadingProcess\n"
        "async def main():\n    reading = ReadingProcess()\n    await reading.read(b'# A', 'markdown', 'a.md')\n"
        "    print(reading._process.pid, flush=True)\n    await asyncio.sleep(60)\nasyncio.run(main())\n"
    )
    env = {"PATH": os.environ["PATH"], "OPENAI_API_KEY": "sk-secret"}
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, env=env, cwd=tmp_path
    )
    assert parent.stdout is not None
    child = Path("/proc") / (await parent.stdout.readline()).decode().strip()
    assert b"sk-secret" not in (child / "environ").read_bytes()
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(10):
        while child.exists() and "Z" not in (child / "stat").read_text().split(")")[1][:3]:
            await asyncio.sleep(0.05)
