"""The REST stand_in: the part of PostgREST that Atlas's own clients use, under the caller's claims.

`GET /rest/v1/<table>` with select, filters, order, limit, offset; `POST` to insert; `POST /rest/v1/rpc/<function>`. Only the
exposed schemas, and there only what the caller's role was granted: Postgres decides, row level security included.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from atlas.local.supabase.access import Access
from atlas.local.supabase.bodies import BadBody, read_json
from atlas.local.supabase.changes import act_as
from atlas.supabase.keys import Claims, TokenRefused

EXPOSED = ("public", "atlas")
MAX_ROWS = 1000
MAX_BODY = 2 * 1_048_576
STATUS = {"42501": 403, "23505": 409, "23503": 409, "42P01": 404, "42883": 404, "42703": 400, "57014": 504}
RESERVED = frozenset({"select", "order", "limit", "offset", "columns", "on_conflict"})


class RestError(Exception):
    """A request that this stand-in does not understand: PostgREST's code, and what to do."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Rest:
    """The handlers, over a pool that may become any of the API roles."""

    def __init__(self, pool: asyncpg.Pool, access: Access) -> None:
        self._pool = pool
        self._access = access

    async def table(self, request: Request) -> Response:
        """GET and POST of a table or view."""
        return await self._answer(request, self._insert if request.method == "POST" else self._select)

    async def function(self, request: Request) -> Response:
        """POST of a function's arguments."""
        return await self._answer(request, self._call)

    async def _answer(self, request: Request, work: Any) -> Response:
        try:
            claims = await self._access.of_request(request.headers.get("apikey"), request.headers.get("authorization"))
            reading = request.method in ("GET", "HEAD")
            schema = request.headers.get("accept-profile" if reading else "content-profile", EXPOSED[0])
            if schema not in EXPOSED:
                raise RestError("PGRST106", f"The schema must be one of the following: {', '.join(EXPOSED)}", 406)
            async with self._acting(claims) as connection:
                rows, is_scalar = await work(request, connection, schema)
        except TokenRefused as error:
            # as PostgREST 14: 301 for what is not a token of ours, 303 for claims that do not hold
            late = error.code == "InvalidJWTToken" and "expired" in str(error)
            return JSONResponse(_error("PGRST303", "JWT expired") if late else _error("PGRST301", str(error)), status_code=401)
        except RestError as error:
            return JSONResponse(_error(error.code, str(error)), status_code=error.status)
        except (UnicodeEncodeError, OverflowError, RecursionError, asyncpg.InterfaceError, sa.exc.SQLAlchemyError) as error:
            # names and values that no statement can carry
            return JSONResponse(_error("PGRST100", f"the request cannot be read ({type(error).__name__})"), status_code=400)
        except asyncpg.PostgresError as error:
            state = error.sqlstate or "XX000"
            status = (
                401
                if state == "42501" and claims["role"] == "anon"
                else STATUS.get(state, 500 if state[:2] in ("53", "XX") else 400)
            )
            body = _error(state, str(error.args[0]), getattr(error, "detail", None), getattr(error, "hint", None))
            return JSONResponse(body, status_code=status)
        return _shape(request, rows, is_scalar)

    @asynccontextmanager
    async def _acting(self, claims: Claims) -> AsyncIterator[asyncpg.Connection]:
        async with self._pool.acquire() as connection, connection.transaction():
            await act_as(connection, claims)
            await connection.execute("set local statement_timeout = '8s'")
            yield connection

    async def _select(self, request: Request, connection: asyncpg.Connection, schema: str) -> tuple[str, bool]:
        query = request.query_params
        wanted = [name.strip() for name in query.get("select", "*").split(",")]
        table = sa.table(request.path_params["name"], schema=schema)
        columns = [sa.text("*")] if wanted == ["*"] else [_column(name) for name in wanted]
        statement = sa.select(*columns).select_from(table).limit(min(_number(query, "limit", MAX_ROWS), MAX_ROWS))
        statement = statement.offset(_number(query, "offset", 0))
        for name, text in query.multi_items():
            if name not in RESERVED:
                statement = statement.where(_filter(name, text))
        for part in filter(None, query.get("order", "").split(",")):
            name, _, rest = part.partition(".")
            column = _column(name)
            statement = statement.order_by(column.desc() if rest.startswith("desc") else column.asc())
        return await _as_json(connection, statement), False

    async def _insert(self, request: Request, connection: asyncpg.Connection, schema: str) -> tuple[str, bool]:
        body = await _body(request)
        rows = body if isinstance(body, list) else [body]
        if not rows or not all(isinstance(row, dict) and row and row.keys() == rows[0].keys() for row in rows):
            raise RestError("PGRST102", "All object keys must match")
        names = list(rows[0])
        table = sa.table(request.path_params["name"], *(sa.column(name) for name in names), schema=schema)
        target = f"{_quote(schema)}.{_quote(request.path_params['name'])}"
        types = dict(
            await connection.fetch(
                "select attname, format_type(atttypid, atttypmod) from pg_attribute "
                "where attrelid = to_regclass($1) and attnum > 0",
                target,
            )
        )
        source = (
            sa.func.jsonb_to_recordset(sa.cast(sa.literal(json.dumps(rows)), postgresql.JSONB))
            .table_valued(*(sa.column(name, _Named(types.get(name, "text"))) for name in names), name="r")
            .render_derived(with_types=True)
        )
        statement = sa.insert(table).from_select(names, sa.select(*(source.c[name] for name in names)))
        returning = "return=representation" in request.headers.get("prefer", "")
        if not returning:
            await _execute(connection, statement)
            return "[]", False
        return await _as_json(connection, statement.returning(sa.text("*"))), False

    async def _call(self, request: Request, connection: asyncpg.Connection, schema: str) -> tuple[str, bool]:
        body = await _body(request) or {}
        if not isinstance(body, dict):
            raise RestError("PGRST102", "the arguments of a function are an object")
        name = request.path_params["name"]
        row = await connection.fetchrow(
            "select p.proargnames, array(select format_type(t, null) from unnest(p.proargtypes) with ordinality as a (t, n) "
            "order by n) as types, p.proretset, p.pronargdefaults, t.typtype, "
            "coalesce(p.proargmodes && array['t', 'b', 'o']::\"char\"[], false) as names_columns from pg_proc p "
            "join pg_namespace n on n.oid = p.pronamespace join pg_type t on t.oid = p.prorettype "
            "where n.nspname = $1 and p.proname = $2 and coalesce(p.proargnames[:p.pronargs], '{}') @> $3::text[] "
            "and p.pronargs - p.pronargdefaults <= cardinality($3::text[]) order by p.pronargs limit 1",
            schema, name, list(body),
        )  # fmt: skip
        if row is None:
            raise RestError("PGRST202", f"Could not find the function {schema}.{name} with these arguments", 404)
        types = dict(zip(row["proargnames"] or (), row["types"], strict=False))
        source = (
            sa.func.jsonb_to_record(sa.cast(sa.literal(json.dumps(body)), postgresql.JSONB))
            .table_valued(*(sa.column(key, _Named(types[key])) for key in body), name="b")
            .render_derived(with_types=True)
        )
        given = ", ".join(f"{_quote(key)} => (select b.{_quote(key)} from b)" for key in body)  # noqa: S608  quoted
        call = f"{_quote(schema)}.{_quote(name)}({given})"
        is_scalar = not row["proretset"] and row["typtype"] != "c"
        # a set of plain values is a list of them; rows of a table or a composite type are objects
        is_list = row["proretset"] and row["typtype"] not in ("c", "p") and not row["names_columns"]
        outer = sa.select(sa.text("r as value" if is_list else "r.*")).select_from(sa.text(f"{call} as r"))
        if is_scalar:
            outer = sa.select(sa.literal_column(call).label("value"))
        elif row["proretset"]:
            outer = outer.limit(MAX_ROWS)
        if body:
            outer = outer.add_cte(sa.select(source).cte("b"))
        found = await _as_json(connection, outer)
        if is_list:
            found = json.dumps([one["value"] for one in json.loads(found)])
        return found, is_scalar


class _Named(sa.types.UserDefinedType[Any]):
    """A type by its name in Postgres."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


def _column(name: str) -> sa.ColumnElement[Any]:
    path, *rest = name.replace("->>", "->").split("->")
    if not rest:
        return sa.column(path)
    keys = [f"'{key}'" for key in rest if key.replace("_", "").isalnum()]
    if len(keys) != len(rest):
        raise RestError("PGRST100", f"{name!r} is not a column")
    arrow = " -> ".join(keys[:-1])
    return sa.literal_column(f"({_quote(path)}{' -> ' + arrow if arrow else ''} {'->>' if '->>' in name else '->'} {keys[-1]})")


def _filter(name: str, text: str) -> sa.ColumnElement[bool]:
    verb, _, value = text.partition(".")
    if "\0" in name or "\0" in value:
        raise RestError("22021", 'invalid byte sequence for encoding "UTF8": 0x00')
    column = sa.cast(_column(name), sa.Text) if verb in ("like", "ilike") else _column(name)
    quoted: sa.ColumnElement[Any] = sa.literal_column("'" + value.replace("'", "''") + "'")
    match verb:
        case "eq":
            return column == quoted
        case "neq":
            return column != quoted
        case "gt":
            return column > quoted
        case "gte":
            return column >= quoted
        case "lt":
            return column < quoted
        case "lte":
            return column <= quoted
        case "like":
            return column.like(value.replace("*", "%"))
        case "is" if value == "null":
            return column.is_(None)
        case "in":
            parts = [part.strip('"') for part in value.strip("()").split(",")]
            return column.in_([sa.literal_column("'" + part.replace("'", "''") + "'") for part in parts])
    raise RestError("PGRST100", f'"failed to parse filter ({text})"')


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal() or len(text) > 18:
        raise RestError("PGRST100", f"{name}={text} is not a number")
    return int(text)


async def _body(request: Request) -> Any:
    try:
        return await read_json(request, MAX_BODY)
    except BadBody as error:
        match error.why:
            case "too_large":
                raise RestError("PGRST102", f"the body is larger than {MAX_BODY} bytes", 413) from None
            case "malformed":
                raise RestError("PGRST102", "Empty or invalid json") from None
            case _:
                said = "unsupported Unicode escape sequence, or a number that JSON does not have"
                raise RestError("22P05", said) from None


def _compiled(statement: sa.Executable) -> tuple[str, list[Any]]:
    dialect = postgresql.asyncpg.dialect()  # type: ignore[no-untyped-call]
    compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
    values = [compiled.params[name] for name in compiled.positiontup or ()]
    return str(compiled), values


async def _execute(connection: asyncpg.Connection, statement: sa.Executable) -> None:
    text, values = _compiled(statement)
    await connection.execute(text, *values)


async def _as_json(connection: asyncpg.Connection, statement: sa.Executable) -> str:
    text, values = _compiled(statement)
    wrapped = f"with answer as ({text}) select coalesce(json_agg(answer), '[]')::text from answer"  # noqa: S608  compiled above
    found: str = await connection.fetchval(wrapped, *values)
    return found


def _shape(request: Request, rows: str, is_scalar: bool) -> Response:
    if (
        request.method == "POST"
        and "/rpc/" not in request.url.path
        and "return=representation" not in request.headers.get("prefer", "")
    ):
        return Response(status_code=201)
    found = json.loads(rows)
    if is_scalar:
        return JSONResponse(found[0]["value"])
    if "application/vnd.pgrst.object+json" in request.headers.get("accept", ""):
        if len(found) != 1:
            return JSONResponse(_error("PGRST116", "Cannot coerce the result to a single JSON object"), status_code=406)
        found = found[0]
    end = f"0-{len(found) - 1}/*" if isinstance(found, list) and found else "*/*"
    return JSONResponse(found, status_code=201 if request.method == "POST" and "/rpc/" not in request.url.path else 200,
                        headers={"content-range": end})  # fmt: skip


def _error(code: str, message: str, details: object = None, hint: object = None) -> dict[str, Any]:
    return {"code": code, "message": message, "details": details, "hint": hint}


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
