"""Evaluation: the measures by hand-made ranks, the file's errors, the command's table and plot, and calibration."""

from __future__ import annotations

import asyncio
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import asyncpg
import pytest

from atlas.errors import UsageError
from atlas.rag.quality.construct import questions_by_links
from atlas.rag.quality.evaluate import Case, propose, read_cases, scored
from benchmarks.evaluation.build import case, labels, notes, plain
from tests.doubles.models import models_double
from tests.support.core import ROOT, Database, run_atlas
from tests.support.knowledge import embedding, opened, put


def test_measures_by_hand() -> None:
    cases = [Case(question="a", relevant=("x",)), Case(question="b", relevant=("x", "y")), Case(question="c", relevant=("x",))]
    found = scored("s", cases, [[True], [False, True, False, True], []], [1.0, 3.0, 2.0])
    assert found.recall == {1: pytest.approx(1 / 3), 5: pytest.approx((1 + 1 + 0) / 3), 10: pytest.approx(2 / 3)}
    assert found.mrr == pytest.approx((1 + 1 / 2 + 0) / 3)
    second = (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3))
    assert found.ndcg == pytest.approx((1 + second) / 3)
    assert (found.p50, found.p95, found.questions) == (2.0, 3.0, 3)


def test_a_source_is_met_by_itself_by_its_end_and_by_what_lies_in_it() -> None:
    wanted = Case(question="q", relevant=("ref/a.txt", "topics"))
    assert [wanted.met_by(source) for source in ("ref/a.txt", "docs/ref/a.txt", "topics/b/c.txt", "xref/a.txt", "topics2/a")] == [
        "ref/a.txt", "ref/a.txt", "topics", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "holds no case"), ("{", "cases.jsonl:1 is no case"), ('{"question": "x"}', "1 is no case"), ('\n{"question": " ", "relevant": ["a"]}', "2 is no case"),
     ('{"question": "x", "relevant": "a.md"}', "1 is no case"), ('{"question": "x", "relevant": []}', "1 is no case"), ("\udcff", "cannot be read")],
)  # fmt: skip
def test_bad_files_name_the_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=said):
        read_cases(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_cases(tmp_path)


async def test_the_command_measures_every_way(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    async with models_double() as models:
        settings = embedding(models.url, rag_rerank_url=models.url)
        async with opened(database, **settings) as known:
            for n in range(30):
                await put(known, f"docs/{n}.md", f"# Page {n}\n\nabout topic{n} and the lease of workers")
        cases = tmp_path / "cases.jsonl"
        cases.write_text(
            "".join(json.dumps({"question": f"what of topic{n}?", "relevant": [f"docs/{n}.md"]}) + "\n" for n in range(30))
        )
        env = {"DATABASE_URL": database.url()} | {name.upper(): value for name, value in settings.items()}
        done = await asyncio.to_thread(
            run_atlas, "rag", "eval", str(cases), "--plot", str(tmp_path / "plot.svg"), "--json", env=env
        )
        assert done.returncode == 0, done.stderr
        ways = {row["search"]: row for row in json.loads(done.stdout)["ways"]}
        assert list(ways) == ["full text", "vector", "hybrid", "hybrid + rerank"]
        assert ways["full text"]["recall@1"] == 1.0
        assert ways["hybrid + rerank"]["recall@1"] == 1.0
        assert all(0 < row["ndcg@10"] <= 1 and row["p95_ms"] >= row["p50_ms"] > 0 for row in ways.values())
        bars = [node for node in ET.parse(tmp_path / "plot.svg").iter() if node.tag.endswith("rect")]  # noqa: S314  it is our own file
        assert len(bars) == 1 + 4 + 4 * 5
        table = (await asyncio.to_thread(run_atlas, "rag", "eval", str(cases), env=env)).stdout
        assert "RECALL@10" in table
        assert "hybrid + rerank" in table
        # an evaluation without its embedder would measure something else: it ends with the reason
        models.errors = [500] * 400
        done = await asyncio.to_thread(run_atlas, "rag", "eval", str(cases), env=env)
        assert done.returncode == 4
        assert "an evaluation needs every part" in done.stderr


async def test_calibration_finds_the_scale_and_keeps_it(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    async with models_double(dimensions=256) as models:
        settings = embedding(models.url, rag_embed_dimensions="256")
        env = {"DATABASE_URL": database.url()} | {name.upper(): value for name, value in settings.items()}
        done = await asyncio.to_thread(run_atlas, "rag", "calibrate", env=env)
        assert done.returncode == 2
        assert "only 0 sentences link to another document (at least 40 are needed), and no vectors are indexed" in done.stderr
        words = [
            "alpha",
            "beta",
            "gamma",
            "delta",
            "epsilon",
            "zeta",
            "eta",
            "theta",
            "iota",
            "kappa",
            "lambda",
            "mu",
            "nu",
            "xi",
            "omicron",
            "pi",
            "rho",
            "sigma",
            "tau",
            "upsilon",
            "phi",
            "chi",
            "psi",
            "omega",
        ]
        async with opened(database, **settings) as known:
            for n, word in enumerate(words):
                text = f"# Chapter of {word} things\n\n" + f"{word} {words[n - 1]} tells of {word} and its neighbour. " * 8
                await put(known, f"{n}.md", text)
        done = await asyncio.to_thread(run_atlas, "rag", "calibrate", "--json", env=env)
        measured = json.loads(done.stdout)
        assert (measured["links"], measured["words"], measured["vector_weight"]) == (0, None, None)
        found = measured["vectors"]
        assert found["kept"] >= 0.95 > 0.5 > found["others"]
        assert found["related"][1] > found["unrelated"][1] + 0.1
        assert await db.fetchval("select threshold from rag.embedding_index") is None, "measuring changes nothing"
        cases = tmp_path / "cases.jsonl"
        cases.write_text(
            "".join(
                json.dumps({"question": f"tell of {word} and neighbour", "relevant": [f"{n}.md"]}) + "\n"
                for n, word in enumerate(words)
            )
        )
        done = await asyncio.to_thread(run_atlas, "rag", "calibrate", str(cases), "--save", env=env)
        assert done.stdout.rstrip().endswith("saved")
        assert 0 < await db.fetchval("select threshold from rag.embedding_index") < 1
        few = tmp_path / "few.jsonl"
        few.write_text(cases.read_text().splitlines()[0])
        done = await asyncio.to_thread(run_atlas, "rag", "calibrate", str(few), env=env)
        assert "too few to measure" in done.stderr


async def test_calibration_by_links_weighs_words_against_vectors(database: Database, db: asyncpg.Connection) -> None:
    """Sixty pages, each linked to once by a sentence with its word; what the vectors know of them is not worth much."""
    async with models_double(dimensions=256) as models:
        settings = embedding(models.url, rag_embed_dimensions="256")
        env = {"DATABASE_URL": database.url()} | {name.upper(): value for name, value in settings.items()}
        async with opened(database, **settings) as known:
            for n in range(60):
                link = f"How a subject{(n + 1) % 60} is set up stands in [its page]({(n + 1) % 60}.md)."
                await put(known, f"docs/{n}.md", f"# Page {n}\n\nWhat a subject{n} is, and how subject{n} is used.\n\n{link}")
        done = await asyncio.to_thread(run_atlas, "rag", "calibrate", "--json", "--save", env=env)
        assert done.returncode == 0, done.stderr
        measured = json.loads(done.stdout)
        assert measured["links"] == 60
        assert measured["words"]["kept"] >= 0.95 > measured["words"]["others"]
        assert set(measured["weights"]) == {str(number / 20) for number in range(21)}
        assert measured["weights"]["0.0"] > 0.9, "words find each page"
        best = measured["weights"][str(measured["vector_weight"])]
        assert best >= max(measured["weights"].values()) - 0.005
        kept = await db.fetchrow("select * from rag.ranking")
        assert kept["vector_weight"] == pytest.approx(measured["vector_weight"])
        assert kept["words_threshold"] == pytest.approx(measured["words"]["threshold"])
        done = await asyncio.to_thread(run_atlas, "rag", "calibrate", env=env)
        assert "weight of vectors" in done.stdout
        assert "on 60 links" in done.stdout


def test_links_ask_what_the_other_document_says() -> None:
    found = questions_by_links([
        ("https://example.com/a/docs/one.md", "# One\n\nFirst of all. How to **deploy** it stands in [the deploy page](../ops/two.md#steps). Then rest."),
        ("https://example.com/a/ops/two.md", "Back to [one](../docs/one.md). See [elsewhere](https://example.org/x.md), or ![a picture of it](one.md)."),
        ("https://example.com/a/three.rst", ".. _leases:\n\nLeases\n======\n\nThe :class:`Worker` keeps what :doc:`the second page <ops/two>` gives it."),
        ("https://example.com/a/four.rst", "How long a task is held is told under :ref:`the leases <leases>`, and here :ref:`itself <nowhere>`."),
    ])  # fmt: skip
    assert [(item.own.rpartition("/")[2], item.relevant.rpartition("/")[2], item.question) for item in found] == [
        ("one.md", "two.md", "How to deploy it stands in the deploy page."),
        ("three.rst", "two.md", "The Worker keeps what the second page gives it."),
        ("four.rst", "three.rst", "How long a task is held is told under the leases, and here itself."),
    ]  # "Back to one." is too short to ask anything


def test_a_threshold_keeps_what_it_is_asked_to() -> None:
    related = [0.3 + n / 200 for n in range(100)]
    unrelated = [n / 250 for n in range(100)]
    found = propose(related, unrelated, keep=0.9)
    assert found.kept >= 0.9
    assert 0.34 <= found.threshold <= 0.35
    assert found.others <= 0.15


def test_the_evaluation_set_is_what_its_script_makes_of_a_text(tmp_path: Path) -> None:
    """The rules by which questions are made, on a text small enough to follow."""
    for name, text in {
        "ref/a.txt": ".. _label-a:\n\nA\n=\n", "topics/b.txt": "B\n=\n",
        "releases/1.txt": "Notes\n=====\n\n* The :class:`~django.x.Widget` now takes a list of eight or more words. See :ref:`label-a` for more.\n\n"
                          "* Too short. See :doc:`/topics/b`.\n\n* Nothing is linked from here, however long this sentence may be made.\n",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    pages = labels(tmp_path)
    assert pages == {"label-a": "ref/a.txt"}
    made = [case(note, pages, tmp_path, tmp_path / "releases") for note in notes((tmp_path / "releases/1.txt").read_text())]
    assert [found for found in made if found] == [
        {"question": "The Widget now takes a list of eight or more words.", "relevant": ["ref/a.txt"]}
    ]
    assert plain("see :ref:`the text <label>` and ``code``") == "see the text and code"


def test_the_shipped_set_is_read() -> None:
    cases = read_cases(ROOT / "benchmarks/evaluation/django.jsonl")
    assert len(cases) > 200
    assert all(source.startswith(("ref/", "topics/", "howto/")) for found in cases for source in found.relevant)
