"""Indexing: what is found, what is skipped, what costs nothing, and that readers never see a gap."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from atlas.commands.knowledge import Pruning, index_paths
from atlas.errors import RefusedError, UsageError
from atlas.rag.document import Unreadable, kind_of
from atlas.rag.files import File, find_files, read_file, secret_in
from atlas.rag.index import Report
from atlas.rag.naming import remote_name
from atlas.rag.ports import EmbedderDown, EmbedderRefused
from atlas.rag.vectors import passage_hash
from atlas.supabase.keys import mint
from tests.doubles.models import models_double
from tests.support.core import Database, clean_environment, run_atlas, until
from tests.support.knowledge import COUNT, embedding, find, opened, put, sources

LONG = "# Queue\n\n" + "\n\n".join(f"Paragraph {n} tells of leases and of workers that are lost. " * 12 for n in range(12))


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)


def names(folder: Path) -> tuple[list[str], list[str]]:
    found = find_files([folder])
    return [file.source.removeprefix(f"{folder.as_posix()}/") for file in found.files], found.skipped


def test_gitignore_is_honoured_as_git_does(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    write(tmp_path, {
        ".gitignore": "*.log.md\n/only_here.md\ngenerated/\n!kept.log.md\n", "a.md": "a", "b.log.md": "b", "kept.log.md": "k",
        "only_here.md": "x", "sub/only_here.md": "y", "generated/g.md": "g", "sub/.gitignore": "!b.log.md\nc.md\n",
        "sub/b.log.md": "b", "sub/c.md": "c",
    })  # fmt: skip
    assert names(tmp_path)[0] == ["a.md", "kept.log.md", "sub/b.log.md", "sub/only_here.md"]
    # a part of the repository follows the whole one's rules
    assert names(tmp_path / "sub")[0] == ["b.log.md", "only_here.md"]


def test_binaries_and_secrets_are_skipped_and_said(tmp_path: Path) -> None:
    write(tmp_path, {
        "logo.png": b"\x89PNG\x00\x01", "data.csv": "1,2", ".env": "A=1", "deploy/id_rsa": "x", "key.pem": "x", "fine.md": "fine",
        "leak.md": "-----BEGIN RSA PRIVATE KEY-----\n", "token.md": "use sk-proj-" + "a1B2" * 12, "credentials.json": "{}",
    })  # fmt: skip
    found = find_files([tmp_path])
    assert [line.removeprefix(f"{tmp_path}/") for line in found.skipped] == ["logo.png: it is binary"]
    why = {file.path.name: read_file(file.path)[1] for file in found.files}
    assert why == {
        ".env": "its name looks like a secret", "id_rsa": "its name looks like a secret", "key.pem": "its name looks like a secret",
        "credentials.json": "its name looks like a secret", "leak.md": "it holds a private key",
        "token.md": "it holds what looks like a secret (sk-p…)", "fine.md": "",
    }  # fmt: skip


def test_links_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside.md"
    outside.write_text("not yours")
    write(tmp_path / "docs", {"a.md": "a"})
    (tmp_path / "docs/out.md").symlink_to(outside)
    (tmp_path / "docs/in.md").symlink_to(tmp_path / "docs/a.md")
    assert names(tmp_path / "docs")[0] == ["a.md", "in.md"]


async def test_what_is_unchanged_costs_nothing(database: Database, db: asyncpg.Connection) -> None:
    async with models_double() as models, opened(database, **embedding(models.url)) as known:
        await put(known, "a.md", LONG)
        first = len(models.texts)
        assert first > 1
        hashes = await known.store.known_documents(None, ["a.md"])
        # the same document: not even read
        indexer = await known.indexer(None, COUNT)
        await indexer.put("a.md", LONG.encode(), "markdown", known=hashes["a.md"])
        assert indexer.report.unchanged == 1
        # one paragraph changed: its chunk alone is embedded
        await put(known, "a.md", LONG.replace("Paragraph 11", "Paragraph eleven"))
        assert len(models.texts) == first + 1
        # the same text under another name, and in another project: embedded already
        await put(known, "copy.md", LONG)
        assert len(models.texts) == first + 1
        assert await db.fetchval("select sum(tokens) from rag.usage where purpose = 'index'") > 0
        assert sorted(sources(await find(known, "leases of lost workers"))) == ["a.md", "copy.md"]


async def test_a_reindex_never_leaves_a_moment_with_none(database: Database) -> None:
    async with opened(database) as known, opened(database) as reader:
        await put(known, "a.md", LONG)
        seen: list[int] = []
        done = asyncio.Event()

        async def look() -> None:
            while not done.is_set():
                seen.append(len((await find(reader, "leases workers lost", collapse=False, top_k=50)).chunks))

        looking = asyncio.create_task(look())
        for n in range(12):
            await put(known, "a.md", LONG + f"\n\nversion {n}")
        done.set()
        await looking
        assert len(seen) > 5
        assert min(seen) >= 1
        assert len(set(seen)) <= 2, "readers see the old chunks or the new ones"


async def test_removed_files_go_when_that_is_said_and_others_stay(database: Database, tmp_path: Path) -> None:
    write(tmp_path / "docs", {"a.md": "alpha lease", "sub/b.md": "beta lease", "sub2/c.md": "gamma lease"})
    url = {"DATABASE_URL": database.url()}
    done = run_atlas("index", "docs", env=url, cwd=tmp_path)
    assert "3 files: 3 indexed" in done.stdout, done.stderr
    (tmp_path / "docs/sub/b.md").unlink()
    done = run_atlas("index", "docs/sub", env=url, cwd=tmp_path)
    gone = f"{tmp_path}/docs/sub/b.md"
    assert "0 dropped" in done.stdout
    assert gone in done.stderr, "what would go is said"
    assert "`--prune` drops them" in done.stderr
    assert json.loads(run_atlas("index", "docs/sub", "--json", env=url, cwd=tmp_path).stdout)["stale"] == [gone]
    done = run_atlas("index", "docs/sub", "--prune", env=url, cwd=tmp_path)
    assert "1 dropped" in done.stdout, done.stderr
    async with opened(database) as known:
        assert sorted(sources(await find(known, "lease"))) == [f"{tmp_path}/docs/a.md", f"{tmp_path}/docs/sub2/c.md"]


def working_copy(folder: Path, remote: str | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    if remote is not None:
        subprocess.run(["git", "remote", "add", "origin", remote], cwd=folder, check=True)


async def test_a_second_repository_leaves_the_first_ones_documents_alone(database: Database, tmp_path: Path) -> None:
    url = {"DATABASE_URL": database.url()}
    for name in ("one", "two"):
        working_copy(tmp_path / name, f"git@github.com:acme/{name}.git")
        write(tmp_path / name, {"docs/guide.md": f"lease of {name}"})
        done = run_atlas("index", "docs/", "--prune", env=url, cwd=tmp_path / name)
        assert "1 indexed" in done.stdout, done.stderr
        assert "0 dropped" in done.stdout
    # the same repository elsewhere on the disk is the same
    working_copy(tmp_path / "again", "https://ann:secret@github.com/acme/one")
    write(tmp_path / "again", {"docs/guide.md": "lease of one"})
    assert "1 unchanged" in run_atlas("index", "docs", env=url, cwd=tmp_path / "again").stdout
    write(tmp_path / "notes", {"a.md": "lease of notes"})
    run_atlas("index", "notes", env=url, cwd=tmp_path)

    listed = json.loads(run_atlas("index", "list", "--json", env=url).stdout)
    expected = {"https://github.com/acme/one": 1, "https://github.com/acme/two": 1, str(tmp_path / "notes"): 1}
    assert {row["repository"]: row["documents"] for row in listed} == expected
    async with opened(database) as known:
        assert "https://github.com/acme/one/docs/guide.md" in sources(await find(known, "lease"))

    refused = run_atlas("index", "remove", "https://github.com/acme/one", env=url)
    assert (refused.returncode, "add --yes" in refused.stderr) == (2, True), "nobody is there to agree"
    done = run_atlas("index", "remove", "https://github.com/acme/one", "--yes", env=url)
    assert "removed 1 document of" in done.stdout, done.stderr
    done = run_atlas("index", "remove", "notes/a.md", "-y", env=url, cwd=tmp_path)
    assert "removed 1 document of" in done.stdout, done.stderr
    assert "the name is empty" in run_atlas("index", "remove", "", "-y", env=url).stderr
    missing = run_atlas("index", "remove", "nothing-like-this", "-y", env=url)
    assert "nothing is indexed under 'nothing-like-this' among shared documents" in missing.stderr
    assert "https://github.com/acme/two" in run_atlas("index", "list", env=url).stdout


def test_a_repository_inside_a_folder_keeps_its_name(tmp_path: Path) -> None:
    working_copy(tmp_path / "repos/app", "ssh://git@github.com:22/acme/app.git")
    write(tmp_path / "repos", {"app/a.md": "a", "plain.md": "p"})
    found = find_files([tmp_path / "repos"])
    assert [file.source for file in found.files] == [f"{tmp_path}/repos/plain.md", "https://github.com/acme/app/a.md"]
    assert found.under == [f"{tmp_path}/repos", "https://github.com/acme/app"]
    # a second working copy of the same repository has the same names: the first one's stand
    working_copy(tmp_path / "repos/copy", "https://github.com/acme/app")
    write(tmp_path / "repos", {"copy/a.md": "another"})
    found = find_files([tmp_path / "repos"])
    assert [file.path.parent.name for file in found.files if file.path.name == "a.md"] == ["app"]
    assert "is another working copy of https://github.com/acme/app" in found.skipped[0]
    # a part of a repository: nothing is known of the rest
    write(tmp_path / "repos/app", {"docs/b.md": "b"})
    assert find_files([tmp_path / "repos/app/docs"]).under == [f"{tmp_path}/repos/app/docs", "https://github.com/acme/app/docs"]


def test_a_folder_that_becomes_a_working_copy_loses_its_former_names(database: Database, tmp_path: Path) -> None:
    url = {"DATABASE_URL": database.url(), "ATLAS_HOME": str(tmp_path)}
    write(tmp_path, {"notes/a.md": "# A\n\nalpha"})
    assert run_atlas("index", "notes", env=url, cwd=tmp_path).returncode == 0
    working_copy(tmp_path / "notes", "https://github.com/acme/notes")
    done = run_atlas("index", "notes", "--prune", env=url, cwd=tmp_path)
    assert "1 file: 1 indexed" in done.stdout
    assert "1 dropped" in done.stdout
    listed = run_atlas("index", "list", "--json", env=url).stdout
    assert [row["repository"] for row in json.loads(listed)] == ["https://github.com/acme/notes"]


def test_a_folder_that_cannot_be_listed_is_not_gone(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"open/a.md": "alpha", "shut/deep/b.md": "beta"})
    listing = os.scandir

    def refuses(path: str) -> Any:
        if str(path).endswith("/shut"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listing(path)

    async def indexed() -> Report:
        async with opened(database) as known:
            return await index_paths(known, [tmp_path], project=None, pruning=Pruning.ALWAYS)

    assert asyncio.run(indexed()).indexed == 2
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refuses)
        report = asyncio.run(indexed())
    assert report.skipped == [f"{tmp_path}/shut: it cannot be read (Permission denied)"]
    assert (report.unchanged, report.dropped, report.stale) == (1, 0, [])
    shutil.rmtree(tmp_path / "shut")
    assert asyncio.run(indexed()).dropped == 1


@pytest.mark.parametrize(
    ("url", "name"),
    [("git@github.com:acme/docs.git", "https://github.com/acme/docs"), ("https://github.com/acme/docs/", "https://github.com/acme/docs"),
     ("https://x:y@GitHub.com:8443/acme/docs.git", "https://github.com:8443/acme/docs"), ("ssh://git@h:22/a/b", "https://h/a/b"),
     ("http://localhost:3000/a/b.git", "http://localhost:3000/a/b"), ("/srv/git/docs.git", None), ("../docs", None), ("file:///srv/docs", None),
     ("", None), ("https://h/a/../../b", None), ("https://host:abc/x.git", None), ("https://[::1", None), ("http://[x]/y", None)],
)  # fmt: skip
def test_remotes_are_named_as_they_are_cloned(url: str, name: str | None) -> None:
    assert remote_name(url) == name


async def test_a_file_that_vanishes_midway_is_said_and_the_rest_is_indexed(database: Database, tmp_path: Path) -> None:
    write(tmp_path, {"a.md": "alpha", "b.md": "beta", "c.md": "gamma"})
    files = find_files([tmp_path]).files
    async with opened(database) as known:
        indexer = await known.indexer(None, COUNT)

        def advance(file: File) -> None:
            if file.path.name == "b.md":
                file.path.unlink()

        report = await indexer.files(files, advance=advance)
        assert report.indexed == 2
        assert [line.split("/")[-1] for line in report.skipped] == ["b.md: it is gone"]


async def test_a_broken_file_is_said_and_its_old_text_stays(database: Database, tmp_path: Path) -> None:
    write(tmp_path, {"a.md": "alpha lease"})
    async with opened(database) as known:
        await (await known.indexer(None, COUNT)).files(find_files([tmp_path]).files, under=[str(tmp_path)])
        write(tmp_path, {"a.md": b"caf\xe9"})
        report = await (await known.indexer(None, COUNT)).files(find_files([tmp_path]).files, under=[str(tmp_path)])
        assert "not UTF-8" in report.skipped[0]
        assert len((await find(known, "alpha")).chunks) == 1


async def test_sources_with_quotes_and_slashes(database: Database) -> None:
    odd = """it's "quoted"/back\\slash/%_$1;drop--/ü/a.md"""
    async with opened(database) as known:
        await put(known, odd, "alpha lease")
        await put(known, "it's", "other lease")
        found = await find(known, "alpha")
        assert sources(found) == [odd]
        assert sources(await find(known, "lease", prefix="it's \"")) == [odd]
        assert await known.store.forget_repository(None, odd) == 1
        assert sources(await find(known, "lease")) == ["it's"]


async def test_an_embedder_that_fails_at_half_loses_nothing(database: Database, tmp_path: Path) -> None:
    write(tmp_path / "docs", {f"{n:03}.md": f"# Page {n}\n\nabout topic{n} and lease" for n in range(400)})
    async with models_double() as models:
        models.fail_after = 330
        env = {"DATABASE_URL": database.url()} | {key.upper(): value for key, value in embedding(models.url).items()}
        done = await asyncio.to_thread(run_atlas, "index", "docs", env=env, cwd=tmp_path)
        assert done.returncode == 3
        assert "HTTP 503" in done.stderr
        assert len(models.texts) == 320, "five batches of 64"
        models.fail_after = None
        done = await asyncio.to_thread(run_atlas, "index", "docs", "--json", env=env, cwd=tmp_path)
        report = json.loads(done.stdout)
        assert (report["unchanged"], report["indexed"]) == (256, 144), "what was embedded together is shown together"
        assert len(models.texts) == len(set(models.texts)) == 400, "nothing is embedded twice"


async def test_wrong_dimensions_are_said_at_the_door(database: Database) -> None:
    async with models_double(dimensions=32) as models, opened(database, **embedding(models.url)) as known:
        with pytest.raises(EmbedderRefused, match="32 dimensions, and 64 are expected") as refused:
            await put(known, "a.md", "alpha")
        assert "RAG_EMBED_DIMENSIONS=32" in refused.value.hint
        # and Postgres does not take them either
        vectors = await known.vectors()
        assert vectors is not None
        with pytest.raises(RefusedError, match="expected 64 dimensions, not 3"):
            await known.store.put_vectors(vectors.index.id, [{"heading": "", "text": "x", "tokens": 1}], [[1.0, 2.0, 3.0]])


@pytest.mark.parametrize(
    ("status", "kind"), [(401, EmbedderRefused), (400, EmbedderRefused), (429, EmbedderDown), (500, EmbedderDown)]
)
async def test_what_the_embedder_says_is_passed_on(database: Database, status: int, kind: type[Exception]) -> None:
    async with models_double() as models, opened(database, **embedding(models.url)) as known:
        models.errors = [status]
        with pytest.raises(kind, match=f"HTTP {status}"):
            await put(known, "a.md", "alpha")
        await put(known, "a.md", "alpha")
        assert models.keys[-1] == "Bearer sk-test"
        assert models.calls[-1]["encoding_format"] == "float"
        assert "dimensions" not in models.calls[-1], "a model that is not known is not asked for a size"


async def test_texts_go_when_nothing_refers_to_them(database: Database, db: asyncpg.Connection) -> None:
    async with opened(database) as known:
        await put(known, "a.md", "alpha lease")
        await known.store.drop_documents(None, ["a.md"])
        assert await known.store.collect_passages() == 0, "a text that was just used is kept a day"
        await db.execute("update rag.passage set seen_at = now() - interval '2 days'")
        assert await known.store.collect_passages() == 1


async def test_the_hash_is_the_same_in_python_and_sql(db: asyncpg.Connection) -> None:
    for heading, text in (("", "x"), ("A > B", "two\nlines"), ("Ü", "🚀 \u2028")):
        assert await db.fetchval("select rag.passage_hash($1, $2)", heading, text) == passage_hash(heading, text)


async def test_watching_indexes_what_changes(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    write(tmp_path / "docs", {"a.md": "alpha"})
    env = clean_environment() | {"DATABASE_URL": database.url()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "atlas.cli", "index", "docs", "--watch", env=env, cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        while b"watching" not in (line := await asyncio.wait_for(process.stderr.readline(), 30)):
            assert line, "it ended"
        (tmp_path / "docs/b.md").write_text("beta")
        (tmp_path / "docs/a.md").unlink()
        found = "select array_agg(source order by source) from rag.document"

        async def changed() -> bool:
            return list(await db.fetchval(found) or []) == [f"{tmp_path}/docs/b.md"]

        await until(changed, 20, "the change is indexed")
    finally:
        process.terminate()
        await process.wait()


async def test_the_database_keeps_documents_of_projects_apart(database: Database, db: asyncpg.Connection) -> None:
    one = UUID(str(await db.fetchval("insert into atlas.project (name) values ('one') returning id")))
    two = UUID(str(await db.fetchval("insert into atlas.project (name) values ('two') returning id")))
    async with opened(database) as known:
        for project, text in ((one, "alpha one"), (two, "alpha two"), (None, "alpha shared")):
            await put(known, "a.md", text, project)
        found = await find(known, "alpha", project=one)
        assert sorted(chunk.text for chunk in found.chunks) == ["alpha one", "alpha shared"]


def test_paths_have_names_that_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a/docs/x.md": "one", "b/docs/x.md": "two", "here/y.md": "y"})
    monkeypatch.chdir(tmp_path / "here")
    both = find_files([Path("../a/docs"), tmp_path / "b/docs"])
    assert [file.source for file in both.files] == [f"{tmp_path}/a/docs/x.md", f"{tmp_path}/b/docs/x.md"]
    for spelling in ("../a/docs", "../here/../a/docs", str(tmp_path / "a/docs/")):
        assert [file.source for file in find_files([Path(spelling)]).files] == [f"{tmp_path}/a/docs/x.md"]
    for spelling in ("y.md", "."):
        assert [file.source for file in find_files([Path(spelling)]).files] == [f"{tmp_path}/here/y.md"]
    for name in ("one", "two"):
        working_copy(tmp_path / name, "https://github.com/acme/docs")
    with pytest.raises(UsageError, match=r"two of the paths are https://github\.com/acme/docs"):
        find_files([tmp_path / "one", tmp_path / "two"])


@pytest.mark.parametrize("name", ["prod.env", ".envrc", "secrets-prod.yaml", "my-credentials.yml", ".npmrc", "server.p12"])
def test_more_names_of_secrets(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: "x"})
    files = find_files([tmp_path]).files
    assert [read_file(file.path)[1] for file in files] == ["its name looks like a secret"]


@pytest.mark.parametrize(
    "text", ["sk_live_" + "a1" * 12, "glpat-" + "a1B2" * 6, mint("s" * 32, {"role": "service_role", "iss": "x"}, lasts=9),
             mint("s" * 32, {"iss": "supabase", "role": "service_role"}, lasts=9), mint("s" * 32, {"a": "bc", "role": "service_role"}, lasts=9)],
)  # fmt: skip
def test_more_texts_of_secrets(text: str) -> None:
    assert secret_in(f"key = {text}\n".encode(), "markdown") is not None
    public = mint("s" * 32, {"role": "anon", "iss": "x"}, lasts=9).encode()
    assert secret_in(public, "markdown") is None, "what is public is not a secret"


KEY = "-----BEGIN RSA PRIVATE KEY-----\n  MIIEpAIBAAKCAQEAsecretsecret\n  c2VjcmV0\n-----END RSA PRIVATE KEY-----"


async def test_a_key_that_a_document_shows_is_redacted_and_said(
    database: Database, db: asyncpg.Connection, tmp_path: Path
) -> None:
    """As the page of Python's ssl module: its text is found, its lines keep their numbers, its key is nowhere."""
    page = f"# Certificates\n\nA key file looks so::\n\n{KEY}\n\n# After\n\nThen the chain follows.\n"
    write(tmp_path, {"ssl.md": page, "key.py": f'KEY = """{KEY}"""', "half.md": KEY[:60]})
    async with opened(database) as known:
        indexer = await known.indexer(None, COUNT)
        report = await indexer.files(find_files([tmp_path]).files)
        assert [line.rpartition("/")[2] for line in report.redacted] == ["ssl.md: 4 lines of a private key"]
        assert [line.rpartition("/")[2] for line in report.skipped] == [
            "half.md: it holds a private key",
            "key.py: it holds a private key",
        ]
        (found,) = (await find(known, "what the chain follows")).chunks
        assert (found.start_line, found.heading) == (10, "After")
    texts = [row["text"] for row in await db.fetch("select text from rag.passage")]
    assert any("[private key, redacted]" in text for text in texts)
    assert not any("MIIE" in text or "c2Vj" in text for text in texts)


@pytest.mark.parametrize("name", ["a.md", "a.html", "a.rst"])
@pytest.mark.parametrize(
    "shape",
    ["{}", "> {}", "-----BEGIN PRIVATE KEY-----\n\nis how {}", "<pre>{}</pre>",
     '<pre><span class="o">-----</span><span class="n">BEGIN</span> PRIVATE KEY-----\nMIIEsecret\n-----END PRIVATE KEY-----</pre>',
     "&#45;&#45;&#45;&#45;-BEGIN EC PRIVATE KEY-----\nMIIEsecret\n-----END EC PRIVATE KEY-----"],
)  # fmt: skip
@pytest.mark.parametrize("label", ["RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "X25519 PRIVATE KEY", "PGP PRIVATE KEY BLOCK"])
async def test_no_key_gets_into_a_passage(
    database: Database, db: asyncpg.Connection, name: str, shape: str, label: str
) -> None:
    """Whatever markup is between: what a reader makes of a document is looked through too."""
    key = f"-----BEGIN {label}-----\nMIIEsecret\n-----END {label}-----"
    async with opened(database) as known:
        with suppress(Unreadable):
            await put(known, name, shape.format(key), kind=kind_of(name))
    assert not [row["text"] for row in await db.fetch("select text from rag.passage") if "MIIE" in row["text"]]


async def test_gaps_in_the_space_that_serves_are_filled(database: Database, db: asyncpg.Connection) -> None:
    async with models_double() as models:
        async with opened(database, **embedding(models.url)) as known:
            await put(known, "a.md", "alpha lease")
        async with opened(database) as words:
            await put(words, "b.md", "beta lease")
        async with opened(database, **embedding(models.url)) as known:
            vectors = await known.vectors()
            assert vectors is not None
            assert vectors.index.state == "serving"
            assert await vectors.has_gaps()
            assert await vectors.build(uuid4())
            assert not await vectors.has_gaps()
            found = await find(known, "lease")
            assert all(chunk.similarity is not None for chunk in found.chunks)


async def test_a_text_that_was_just_shown_is_kept(database: Database, db: asyncpg.Connection) -> None:
    """A task may hold it in its prompt: its document goes before the reply is written."""
    async with opened(database) as known:
        await put(known, "a.md", "alpha lease")
        await db.execute("update rag.passage set seen_at = now() - interval '2 days'")
        await known.store.drop_documents(None, ["a.md"])
        assert await known.store.collect_passages() == 0
        # nor is one collected that an indexer has just asked for
        await db.execute("update rag.passage set seen_at = now() - interval '2 days'")
        await known.store.known_vectors(1, [passage_hash("", "alpha lease")])
        assert await known.store.collect_passages() == 0


async def test_small_documents_are_embedded_together_by_length(database: Database, tmp_path: Path) -> None:
    write(tmp_path, {f"{n:03}.md": "word " * (1 + (n * 37) % 150) for n in range(300)})
    async with models_double() as models, opened(database, **embedding(models.url)) as known:
        indexer = await known.indexer(None, COUNT)
        report = await indexer.files(find_files([tmp_path]).files)
        assert (report.indexed, report.chunks) == (300, 300)
        sizes = [[len(text) for text in call["input"]] for call in models.calls]
        # 150 lengths, each twice: the same text is embedded once, and batches of a window follow each other by length
        assert [len(call) for call in sizes] == [64, 64, 22]
        lengths = [length for call in sizes for length in call]
        assert lengths == sorted(lengths)
