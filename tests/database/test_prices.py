"""Every price true: one test a pricing rule, with the figures of the provider's pages (USD per million tokens), through a whole
call: reserved at the dearest, settled as reported, booked in the day, told in the audit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from tests.support.core import Json, ask, claim, reserve

MILLION = Decimal(1_000_000)


async def call(db: asyncpg.Connection, model: str, usage: Json, **request: Any) -> tuple[Decimal, Decimal]:
    """Makes a call of a million tokens in at most, and settles it: USD reserved, USD settled."""
    await ask(db)
    (task,) = await claim(db)
    more: Json = {"model": model, "input_tokens": 100_000, "tokens": 10_000} | request
    answer = await reserve(db, task["attempt_id"], more.pop("tokens"), **more)
    assert answer["outcome"] == "reserved", answer
    done = {"known": "reported", "output_tokens": 0} | usage
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", task["attempt_id"], {"0": done})
    row = await db.fetchrow("select reserved_usd, usd from atlas.spend order by id desc limit 1")
    assert await db.fetchval("select settled_usd from atlas.budget_day where scope = 'global'") == await db.fetchval(
        "select sum(usd) from atlas.spend"
    )
    return row["reserved_usd"], row["usd"]


def usd(*parts: tuple[int, str]) -> Decimal:
    """The sum of tokens at their prices a million."""
    return sum((tokens * Decimal(price) for tokens, price in parts), Decimal(0)) / MILLION


@pytest.mark.parametrize(
    ("model", "price_in", "cached", "out"),
    [
        ("gpt-4.1", "2.00", "0.50", "8.00"), ("o3", "2.00", "0.50", "8.00"), ("o1-pro", "150", "150", "600"),
        ("gpt-4o-mini", "0.15", "0.075", "0.60"), ("gpt-6-luna", "0.10", "0.01", "0.50"), ("gpt-6-sol", "2.00", "0.20", "10.00"),
        ("gpt-6.1-sol", "2.00", "0.10", "10.00"),
    ],
)  # fmt: skip
async def test_input_cached_input_and_output(db: asyncpg.Connection, model: str, price_in: str, cached: str, out: str) -> None:
    _, settled = await call(db, model, {"input_tokens": 50_000, "cached_tokens": 20_000, "output_tokens": 3000})
    assert settled == usd((30_000, price_in), (20_000, cached), (3000, out))


@pytest.mark.parametrize(
    ("model", "write", "price_in", "out"),
    [("gpt-6-luna", "0.125", "0.10", "0.50"), ("gpt-6-sol", "2.50", "2.00", "10.00"), ("gpt-6.1-sol", "2.50", "2.00", "10.00")],
)
async def test_cache_writes_are_reserved_at_the_dearest_and_settled_as_reported(
    db: asyncpg.Connection, model: str, write: str, price_in: str, out: str
) -> None:
    usage = {"input_tokens": 50_000, "cached_tokens": 0, "cache_write_tokens": 30_000, "output_tokens": 1000}
    reserved, settled = await call(db, model, usage)
    assert reserved == usd((100_000, write), (10_000, out)), "all of the input may be written to the cache"
    assert settled == usd((20_000, price_in), (30_000, write), (1000, out))
    assert Decimal(write) == Decimal(price_in) * Decimal("1.25")


async def test_models_before_gpt_5_6_pay_nothing_for_cache_writes(db: asyncpg.Connection) -> None:
    usage = {"input_tokens": 50_000, "cache_write_tokens": 50_000, "output_tokens": 0}
    reserved, settled = await call(db, "gpt-4.1", usage)
    assert reserved == usd((100_000, "2.00"), (10_000, "8.00"))
    assert settled == usd((50_000, "2.00"))


@pytest.mark.parametrize("model", ["gpt-6-luna", "gpt-6-sol", "gpt-6.1-sol"])
async def test_above_272_000_tokens_the_whole_request_is_dearer(db: asyncpg.Connection, model: str) -> None:
    prices = await db.fetchrow("select * from atlas.price_on($1, atlas.today())", model)
    for tokens, factor_in, factor_out in ((272_000, 1, Decimal(1)), (272_001, 2, Decimal("1.5"))):
        usage = {"input_tokens": tokens, "cached_tokens": 100_000, "cache_write_tokens": 50_000, "output_tokens": 2000}
        reserved, settled = await call(db, model, usage, input_tokens=tokens)
        expected = (
            (tokens - 150_000) * prices["input_usd"] + 100_000 * prices["cached_usd"] + 50_000 * prices["cache_write_usd"]
        ) * factor_in + 2000 * prices["output_usd"] * factor_out
        assert settled == expected / MILLION
        assert (
            reserved == (tokens * prices["cache_write_usd"] * factor_in + 10_000 * prices["output_usd"] * factor_out) / MILLION
        )


@pytest.mark.parametrize(("asked", "given", "factor"), [
    ("default", "default", "1"), ("flex", "flex", "0.5"), ("fast", "fast", "2"), ("priority", "priority", "2"),
    # what is given is what is paid
    ("priority", "default", "1"), ("default", "flex", "0.5"), ("flex", None, "0.5"),
])  # fmt: skip
async def test_the_tier_that_is_given_sets_the_price(
    db: asyncpg.Connection, asked: str, given: str | None, factor: str
) -> None:
    usage = {"input_tokens": 10_000, "output_tokens": 1000, "tier": given}
    reserved, settled = await call(db, "gpt-4.1", usage, tier=asked)
    at_asked = {"default": "1", "flex": "0.5", "fast": "2", "priority": "2"}[asked]
    assert reserved == usd((100_000, "2.00"), (10_000, "8.00")) * Decimal(at_asked)
    assert settled == usd((10_000, "2.00"), (1000, "8.00")) * Decimal(factor)
    row = await db.fetchrow("select tier, tier_given, factor from atlas.spend")
    assert (row["tier"], row["tier_given"], row["factor"]) == (asked, given, Decimal(factor))


@pytest.mark.parametrize(("window", "factor"), [("soonest", "1"), ("2h", "0.7"), ("8h", "0.6")])
async def test_a_window_is_reserved_and_settled_at_its_factor(db: asyncpg.Connection, window: str, factor: str) -> None:
    usage = {"input_tokens": 10_000, "output_tokens": 1000, "tier": "flex"}
    reserved, settled = await call(db, "gpt-4.1", usage, completion_window=window, tier="flex")
    assert reserved == usd((100_000, "2.00"), (10_000, "8.00")) * Decimal(factor) / 2
    assert settled == usd((10_000, "2.00"), (1000, "8.00")) * Decimal(factor) / 2


async def test_reasoning_is_paid_as_output(db: asyncpg.Connection) -> None:
    _, settled = await call(db, "o3", {"input_tokens": 1000, "output_tokens": 5000, "reasoning_tokens": 4500})
    assert settled == usd((1000, "2.00"), (5000, "8.00"))


async def test_a_price_counts_from_its_day_and_a_call_keeps_the_one_it_was_reserved_at(db: asyncpg.Connection) -> None:
    await ask(db)
    (task,) = await claim(db)
    await reserve(db, task["attempt_id"], 1000)
    await db.execute(
        "insert into atlas.model_price (model, valid_from, input_usd, output_usd) values ('gpt-4.1', atlas.today(), 4, 16)"
    )
    usage = {"0": {"input_tokens": 0, "output_tokens": 500, "known": "reported"}}
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", task["attempt_id"], usage)
    assert await db.fetchval("select usd from atlas.spend") == usd((500, "8.00"))
    _, settled = await call(db, "gpt-4.1", {"input_tokens": 0, "output_tokens": 500})
    assert settled == usd((500, "16"))


async def test_a_price_row_that_goes_half_way_through_a_run_counts_at_the_worst(db: asyncpg.Connection) -> None:
    await db.execute("select atlas.set_budget('global', '{\"usd_daily\": 5}')")
    await ask(db)
    (task,) = await claim(db)
    answer = await reserve(db, task["attempt_id"], 1000)
    await db.execute("delete from atlas.model_price where model = 'gpt-4.1'")
    again = await reserve(db, task["attempt_id"], 1000, call=1)
    assert (again["outcome"], again["code"]) == ("refuse", "model_unpriced")
    usage = {"0": {"input_tokens": 0, "output_tokens": 500, "known": "reported"}}
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", task["attempt_id"], usage)
    row = await db.fetchrow("select tokens, usd from atlas.spend")
    assert (row["tokens"], row["usd"]) == (500, Decimal(str(answer["usd"])))


async def test_efforts_go_up_to_max(db: asyncpg.Connection) -> None:
    for effort in ("none", "minimal", "low", "medium", "high", "xhigh", "max"):
        await db.execute("update atlas.model set reasoning_effort = $1 where name = 'gpt-6-luna'", effort)
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute("update atlas.model set reasoning_effort = 'most' where name = 'gpt-6-luna'")
