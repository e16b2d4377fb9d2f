"""Builds the evaluation set from Django's documentation, as its source distribution carries it.

    pip download --no-deps --no-binary :all: django==5.2.19 && tar xf django-5.2.19.tar.gz
    python -m benchmarks.evaluation.build django-5.2.19/docs benchmarks/evaluation/django.jsonl

Django's release notes, FAQ and tutorial say something in their own words and link to the page that documents it. So such a
paragraph, without the sentence that the link stands in, is a question whose answer its authors named. Nobody looked at an index,
and only what they link to is indexed: ref/, topics/ and howto/. A paragraph is left out where it links to more than three pages,
or says too little without its links.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

ASKING = ("releases", "faq", "intro", "internals")
INDEXED = ("ref/", "topics/", "howto/")
LEAST_WORDS = 8
MOST_TARGETS = 3

_LABEL = re.compile(r"^\.\. _([^:\n]+):\s*$", re.MULTILINE)
_LINK = re.compile(r":(ref|doc):`(?:[^`<]*<)?([^`>]+)>?`")
_ROLE = re.compile(r":[\w:-]+:`(?:([^`<]+?)\s*<[^`>]+>|~?([^`]+))`")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`:])")


def labels(docs: Path) -> dict[str, str]:
    """The page of each label."""
    found = {}
    for page in docs.rglob("*.txt"):
        for match in _LABEL.finditer(page.read_text(encoding="utf-8")):
            found[match[1].strip("`").lower()] = page.relative_to(docs).as_posix()
    return found


def notes(text: str) -> Iterator[str]:
    """Paragraphs and bullets, each on one line; no directives, titles or code."""
    bullets = r"^\* (.+?)(?=^\* |^\S|\Z)"
    for match in re.finditer(bullets, text, re.MULTILINE | re.DOTALL):
        yield " ".join(match[1].split())
    for block in re.sub(bullets, "\n", text, flags=re.MULTILINE | re.DOTALL).split("\n\n"):
        if block.strip() and not block.startswith((" ", "..")) and not re.search(r"^([=~\-#*^\"])\1{3,}", block, re.MULTILINE):
            yield " ".join(block.split())


def plain(text: str) -> str:
    """Prose without markup: a role leaves its text."""
    text = _ROLE.sub(lambda match: match[1] or match[2].rsplit(".", 1)[-1], text)
    return re.sub(r"`{1,2}([^`]+)`{1,2}_{0,2}", r"\1", text).replace("\\", "").strip()


def case(note: str, pages: dict[str, str], docs: Path, home: Path) -> dict[str, object] | None:
    """A question and its pages; None where the note does not make one."""
    targets = set()
    for kind, target in _LINK.findall(note):
        if kind == "ref":
            page = pages.get(target.lower())
        else:
            path = docs / f"{target.lstrip('/')}.txt" if target.startswith("/") else home / f"{target}.txt"
            page = path.resolve().relative_to(docs.resolve()).as_posix() if path.exists() else None
        if page is None or not page.startswith(INDEXED):
            return None
        targets.add(page)
    kept = [sentence for sentence in _SENTENCE.split(note) if not _LINK.search(sentence)]
    question = plain(" ".join(kept))
    if not 0 < len(targets) <= MOST_TARGETS or len(question.split()) < LEAST_WORDS:
        return None
    return {"question": question, "relevant": sorted(targets)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("docs", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    docs: Path = arguments.docs
    pages = labels(docs)
    cases = []
    for page in sorted(page for folder in ASKING for page in (docs / folder).rglob("*.txt")):
        for note in notes(page.read_text(encoding="utf-8")):
            found = case(note, pages, docs, page.parent)
            if found is not None and found not in cases:
                cases.append(found)
    arguments.out.write_text("".join(json.dumps(found, ensure_ascii=False) + "\n" for found in cases), encoding="utf-8")
    print(f"{len(cases)} questions")


if __name__ == "__main__":
    main()
