"""What every embedder must do."""

from __future__ import annotations

from atlas.rag.ports import Embedder, checked


async def embedder_conforms(embedder: Embedder) -> None:
    """Vectors in the order of the texts, of the dimension that it says, the same for the same text."""
    texts = ["We deploy on Fridays.", "The database is Postgres.", "We deploy on Fridays."]
    found = checked(embedder, texts, await embedder.embed(texts))
    assert len(found.vectors) == 3
    assert all(len(vector) == embedder.dimensions for vector in found.vectors)
    assert found.vectors[0] == found.vectors[2]
    assert found.vectors[0] != found.vectors[1]
    assert embedder.name
    assert embedder.model
    assert embedder.batch >= 1
