"""Records as files: Nygard's format, MADR's, and Atlas's own. What was read is written back as it was while its status holds.

Nygard: https://cognitect.com/blog/2011/11/15/documenting-architecture-decisions, as adr-tools writes it.
MADR: https://adr.github.io/madr/
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from atlas.errors import UsageError
from atlas.record import decision
from atlas.record.front_matter import FrontMatter, Status, is_ours, split, validated, written
from atlas.record.parse import parse
from atlas.task import JsonObject

Format = Literal["atlas", "madr", "nygard"]

_STATUSES = {
    "proposed": "proposed", "draft": "proposed", "pending": "proposed", "review": "proposed", "open": "proposed",
    "accepted": "accepted", "approved": "accepted", "done": "accepted", "implemented": "accepted", "adopted": "accepted",
    "rejected": "rejected", "declined": "rejected", "deprecated": "deprecated", "superseded": "superseded",
    "superceded": "superseded",
}  # fmt: skip
_BY = re.compile(r"super[cs]eded\s+by\b[^\d\n]*?(\d+)", re.IGNORECASE)
_TITLE = re.compile(r"\A(?:ADR[- ]?)?\d+[.:)\s-]+\s*", re.IGNORECASE)
_DATE = re.compile(r"^(?:[*-][ \t]+)?\**Date:?\**:?[ \t]*(\d{4}-\d\d-\d\d)", re.IGNORECASE | re.MULTILINE)
_STATUS_LINE = re.compile(r"^(?:[*-][ \t]+)?\**Status:?\**:?[ \t]*(.+)$", re.IGNORECASE | re.MULTILINE)
_STATUS_SECTION = re.compile(r"^##[ \t]+Status[ \t]*\n+(.*?)(?=^##?[ \t]|\Z)", re.IGNORECASE | re.DOTALL | re.MULTILINE)
_STATUS_FIELD = re.compile(r"^(status:[ \t]*)(.*)$", re.MULTILINE)
_NUMBER = re.compile(r"\A(\d{1,6})[-_ .]")


@dataclass(frozen=True, slots=True, kw_only=True)
class FiledRecord:
    """A record as its file has it. content: the whole file."""

    file: str
    number: int
    title: str
    status: Status
    content: str
    date: dt.date | None = None
    owner: str | None = None
    superseded_by: int | None = None
    supersedes: tuple[int, ...] = ()
    binds: decision.Obligations = field(default_factory=decision.Obligations)
    sources: tuple[str, ...] = ()

    def as_json(self) -> JsonObject:
        """As atlas.import_decisions in SQL takes it."""
        found = {
            "file": self.file, "number": self.number, "title": self.title, "status": self.status, "content": self.content,
            "superseded_by": self.superseded_by, "owner": self.owner,
            "decided_at": self.date.isoformat() if self.date else None, "sources": list(self.sources),
        }  # fmt: skip
        return {name: value for name, value in (found | self.binds.as_json()).items() if value is not None}


def read_file(text: str, file: str) -> FiledRecord:
    """Raises UsageError, saying what is missing, if the file is not a record."""
    fields, body = split(text, file)
    body = body.removeprefix("\ufeff").replace("\r\n", "\n")
    document = parse(body, decision.SECTIONS)
    if fields is not None and is_ours(fields):
        front = validated(fields, file)
        return FiledRecord(
            file=file, number=front.number, title=document.title or file, status=front.status, content=text,
            date=front.date, owner=front.owner, superseded_by=front.superseded_by, supersedes=tuple(front.supersedes),
            sources=tuple(front.sources),
            binds=decision.Obligations(
                constraints=tuple(front.constraints), paths=tuple(front.paths), checks=tuple(front.checks)
            ),
        )  # fmt: skip
    number = _NUMBER.match(file)
    if number is None:
        raise UsageError(f"{file} has no number", "name it as 0007-keep-sessions-in-postgres.md")
    said = _status_of(fields, body)
    status, by = _read_status(said, file)
    date = (fields or {}).get("date")
    found = _DATE.search(body)
    return FiledRecord(
        file=file, number=int(number[1]), title=_TITLE.sub("", document.title) or file, status=status, content=text,
        date=date if isinstance(date, dt.date) else _date(found[1], file) if found else None, superseded_by=by,
        binds=decision.binding(document),
    )  # fmt: skip


def read_folder(files: dict[str, str]) -> list[FiledRecord]:
    """Records by number. files: their texts by name. Raises UsageError where two have one number, or one names none."""
    records: dict[int, FiledRecord] = {}
    for name in sorted(files):
        record = read_file(files[name], name)
        if (other := records.get(record.number)) is not None:
            raise UsageError(
                f"{other.file} and {name} are both ADR-{record.number}", "give one of them another number; nothing was imported"
            )
        records[record.number] = record
    for record in list(records.values()):
        for number in record.supersedes:
            # whichever of the two says so
            if (old := records.get(number)) is not None and old.status == "accepted":
                records[number] = replace(old, status="superseded", superseded_by=record.number)
    return [records[number] for number in sorted(records)]


def format_of(text: str, file: str) -> Format:
    """How a file is written."""
    fields, body = split(text.replace("\r\n", "\n"), file)
    if is_ours(fields):
        return "atlas"
    return "nygard" if fields is None and _STATUS_SECTION.search(body.replace("\r\n", "\n")) else "madr"


def file_of(row: JsonObject, content: str, supersedes: list[int], kind: Format = "atlas") -> tuple[str, str]:
    """The name and the text of a decision's file. row: of atlas.decisions. kind: how one is written that has no file yet."""
    name = row["file"] or f"{row['number']:04}-{slug(row['title'])}.md"
    fields, body = split(content, name)
    if row["file"] and not is_ours(fields):
        return name, _with_status(content, fields, row)
    date = _day(row["decided_at"])
    if kind == "nygard":
        lines = f"# {row['number']}. {row['title']}\n\nDate: {date}\n\n## Status\n\n{_status_line(row)}\n"
        return name, f"{lines}\n{_without_title(content)}"
    if kind == "madr":
        owner = f"decision-makers: {row['decided_by']}\n"
        return name, f"---\nstatus: {_status_line(row).lower()}\ndate: {date}\n{owner}---\n\n{content}"
    front = FrontMatter(
        number=row["number"], status=row["status"], date=date, owner=row["decided_by"], supersedes=supersedes,
        superseded_by=row["superseded_by"], constraints=[one for one in row["constraints"] if decision.binds(one)],
        paths=[one for one in row["paths"] if decision.is_glob(one)], checks=row["checks"],
        sources=row["sources"],
    )  # fmt: skip
    return name, written(front) + body.lstrip("\n")


def slug(title: str) -> str:
    """A title as a file's name has it."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].rstrip("-") or "decision"


def _status_of(fields: JsonObject | None, body: str) -> str:
    if fields and fields.get("status"):
        return str(fields["status"])
    if match := _STATUS_SECTION.search(body):
        return match[1].strip()
    head = body.split("\n## ", 1)[0]
    return match[1] if (match := _STATUS_LINE.search(head)) else ""


def _read_status(said: str, file: str) -> tuple[Status, int | None]:
    by = next((line for line in said.splitlines() if re.search(r"super[cs]eded\s+by\b", line, re.IGNORECASE)), None)
    if by is not None:
        # the number of the file that it links to, rather than one in its title
        target = re.search(r"\]\([^)]*?(\d{1,6})[-_][^)]*\)", by) or _BY.search(by)
        if target is not None:
            return "superseded", int(target[1])
    if not said:
        # optional in MADR 4: what stands in the folder holds
        return "accepted", None
    status = next((_STATUSES[word] for word in re.findall(r"[a-z]+", said.lower()) if word in _STATUSES), None)
    if status is None:
        raise UsageError(
            f"{file} has no status that is known ({said.splitlines()[0][:40]})",
            "write proposed, accepted, rejected, deprecated, or superseded by and a number: in the front matter or ## Status",
        )
    if status == "superseded":
        # by what, it does not say: nobody can follow it
        return "deprecated", None
    return cast("Status", status), None


def _status_line(row: JsonObject) -> str:
    by = row["superseded_by"]
    return f"Superseded by ADR-{by:04}" if by else str(row["status"]).capitalize()


def _with_status(content: str, fields: JsonObject | None, row: JsonObject) -> str:
    """The file as it was, with the status that holds now."""
    _, body = split(content, row["file"])
    if _read_status(_status_of(fields, body), row["file"]) == (row["status"], row["superseded_by"]):
        return content
    line = _status_line(row)
    if fields and fields.get("status"):
        head = content[: len(content) - len(body)]
        return _STATUS_FIELD.sub(lambda match: f"{match[1]}{line.lower()}", head, count=1) + body
    if (match := _STATUS_SECTION.search(content)) is not None:
        # its first line is the status; what else stands there is kept
        first = match.start(1) + len(match[1].split("\n", 1)[0].rstrip("\r"))
        return f"{content[: match.start(1)]}{line}{content[first:]}"
    if _STATUS_LINE.search(content):
        return _STATUS_LINE.sub(lambda match: match[0].replace(match[1], line), content, count=1)
    return re.sub(r"(?m)^(# .*)$", lambda match: f"{match[1].rstrip()}\n\n* Status: {line}", content, count=1)


def _date(text: str, file: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{file}: {text} is not a valid date", "correct its date") from None


def _without_title(content: str) -> str:
    return re.sub(r"\A\s*# .*\n+", "", content)


def _day(value: object) -> dt.date:
    if isinstance(value, dt.datetime):
        return value.date()
    return dt.date.fromisoformat(str(value)[:10])
