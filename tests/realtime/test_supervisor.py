"""The supervisor against what the real server did, a recorded fault at a time: the numbers are those of the list of what a
worker must handle."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import pytest

from atlas.local.postgres import free_port
from atlas.supabase.channel import Patience, State
from atlas.supabase.tokens import KeyTokens, MintedTokens, Tokens
from atlas.wake_ups.realtime import RealtimeWakeUps
from tests.doubles.transcript import GOOD, Player, closed, play, playing
from tests.support.core import until

FAST = Patience(
    connect=2, join=2, receiving=2, heartbeat=5, answer=2, refresh_before=60, longest_pause=0.05, look=0.02,
)  # fmt: skip


@dataclass
class Heard:
    """What the wake-ups did."""

    wakes: list[str] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    wake_ups: RealtimeWakeUps | None = None

    async def until(self, check: Callable[[Heard], bool], seconds: float = 8) -> None:
        async def look() -> bool:
            return check(self)

        try:
            await until(look, seconds)
        except AssertionError:
            raise AssertionError(f"not within {seconds} s: {self}") from None


@asynccontextmanager
async def listening(
    player: Player | str, *, patience: Patience = FAST, tokens: Tokens | None = None, settled: float = 0
) -> AsyncIterator[Heard]:
    heard = Heard()
    wake_ups = heard.wake_ups = RealtimeWakeUps(
        player if isinstance(player, str) else player.url, tokens or KeyTokens("sb_secret_x"), patience=patience,
        entered=heard.states.append, troubled=heard.troubles.append, settled=settled,
    )  # fmt: skip
    job = asyncio.create_task(wake_ups.run(lambda source, _cancel: heard.wakes.append(source)))
    try:
        yield heard
        assert not job.done(), "it never stops by itself"
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


async def test_1_the_sweep_runs_when_events_flow_and_not_only_when_joined() -> None:
    recording = play("07w_cold_window", upto=12)
    async with playing(recording[:1]) as player, listening(player) as heard:
        await heard.until(lambda h: h.states[-1:] == ["joined"])
        assert heard.wakes == ["realtime_join"]
    async with playing(recording) as player, listening(player) as heard:
        await heard.until(lambda h: h.wakes.count("realtime_changes") == 10)
        # once for the join, once for "Subscribed to PostgreSQL", before the first row
        assert heard.wakes[:3] == ["realtime_join", "realtime_join", "realtime_changes"]
        assert heard.states[-1] == "receiving"


async def test_1_a_join_that_never_receives_is_given_up() -> None:
    patience = Patience(connect=2, join=2, receiving=0.3, longest_pause=0.05, look=0.02)
    async with playing(GOOD[:1], GOOD) as player, listening(player, patience=patience) as heard:
        await heard.until(lambda h: "receiving" in h.states)
        assert heard.troubles == ["silent"]


async def test_2_a_false_subscription_is_found_out_by_what_the_sweep_finds() -> None:
    async with playing(play("00_slot_unavailable_silent_v1", upto=2)) as player, listening(player) as heard:
        await heard.until(lambda h: "receiving" in h.states)
        assert heard.wake_ups is not None
        heard.wake_ups.missed(2)
        await asyncio.sleep(0.2)
        assert player.connections == 1, "two rows may be a race"
        heard.wake_ups.missed(1)
        await heard.until(lambda h: h.troubles == ["deaf"] and player.connections == 2)


@pytest.mark.parametrize(
    "name", ["30a_slot_backends_terminated", "30c_postgres_restart", "32_rate_limit_silent_drop_after_burst"]
)
async def test_3_losses_without_a_frame_leave_only_the_sweep(name: str) -> None:
    """The recorded frames say nothing of the rows that were lost: the channel stays joined."""
    recording = play(name, upto=40)
    async with playing(recording) as player, listening(player) as heard:
        rows = sum('"event":"postgres_changes"' in frame["data"] for frame in recording)
        await heard.until(lambda h: h.wakes.count("realtime_changes") == rows)
        assert heard.troubles == []
        assert heard.wake_ups is not None
        heard.wake_ups.missed(3)
        await heard.until(lambda h: h.troubles == ["deaf"])


@pytest.mark.parametrize("code", [1012, 1006, 1000, 1001])
async def test_4_a_server_that_restarts_is_joined_again(code: int) -> None:
    async with playing([*GOOD, closed(code)], GOOD) as player, listening(player) as heard:
        await heard.until(lambda h: player.connections == 2 and h.states[-1] == "receiving")
        assert heard.troubles == ["channel_error"] or heard.troubles == ["closed"]
        assert heard.wakes.count("realtime_join") == 4


async def test_4_a_server_that_stays_away_is_tried_for_ever() -> None:
    port = free_port()
    async with listening(f"http://127.0.0.1:{port}") as heard:
        # the client alone gives up after five
        await heard.until(lambda h: len(h.troubles) >= 15)
        assert set(heard.troubles) == {"connect"}
        async with playing(GOOD, port=port):
            await heard.until(lambda h: h.states[-1] == "receiving")


async def test_4_the_pause_grows_with_full_jitter_up_to_thirty_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def uniform(low: float, high: float) -> float:
        asked.append(high)
        return 0.0

    monkeypatch.setattr("tenacity.wait.random.uniform", uniform)
    patience = Patience(look=0.02)
    async with listening(f"http://127.0.0.1:{free_port()}", patience=patience) as heard:
        await heard.until(lambda h: len(h.troubles) >= 9)
    assert asked[:9] == [1, 2, 4, 8, 16, 30, 30, 30, 30]


async def test_5_a_close_with_an_old_ref_ends_the_client_and_not_the_wake_ups() -> None:
    recording = play("13_py_not_in_publication")
    old_close = next(frame for frame in recording if "phx_close" in frame["data"])
    async with playing([*GOOD, old_close], GOOD) as player, listening(player) as heard:
        await heard.until(lambda h: player.connections == 2 and h.states[-1] == "receiving")
        assert heard.troubles == ["closed"]


async def test_6_an_expired_token_is_replaced_by_a_new_session() -> None:
    expiry = [frame for frame in play("14_py_token_expiry") if '"topic":"phoenix"' not in frame["data"]]
    tokens = MintedTokens("sb_secret_x", "s" * 32)
    async with playing(expiry, GOOD) as player, listening(player, tokens=tokens) as heard:
        await heard.until(lambda h: player.connections == 2 and h.states[-1] == "receiving")
        assert heard.troubles == ["channel_error"], "Token has expired 0 seconds ago"


async def test_6_a_token_is_refreshed_before_it_expires() -> None:
    tokens = MintedTokens("sb_secret_x", "s" * 32, lasts=2)
    async with playing(GOOD) as player, listening(player, tokens=tokens) as heard:
        began = time.monotonic()
        await heard.until(lambda h: len(player.tokens) >= 2)
        assert time.monotonic() - began < 4
        # the first was sent with the join; each refresh is another one, confirmed by another "Subscribed"
        assert len({player.joins[0]["access_token"], *player.tokens}) == 3
        assert player.connections == 1
        assert heard.troubles == []
        assert heard.wakes.count("realtime_join") >= 3


async def test_6_a_refresh_that_is_not_confirmed_ends_the_session() -> None:
    patience = Patience(connect=2, join=2, receiving=0.4, longest_pause=0.05, look=0.02)
    tokens = MintedTokens("sb_secret_x", "s" * 32, lasts=1)
    async with playing(GOOD) as player, listening(player, patience=patience, tokens=tokens) as heard:
        await heard.until(lambda h: "receiving" in h.states)
        player.mute = True
        await heard.until(lambda h: "silent" in h.troubles)


@pytest.mark.parametrize(
    "name", ["02b_bad_filter_0", "02b_bad_filter_1", "06b_join_table_not_in_publication", "06c_join_table_missing"]
)
async def test_7_an_ok_that_is_followed_by_an_error_is_no_subscription(name: str) -> None:
    async with playing(play(name), GOOD) as player, listening(player) as heard:
        await heard.until(lambda h: "receiving" in h.states)
        assert heard.troubles == ["channel_error"]
        assert heard.states.index("receiving") > heard.states.index("down")


async def test_8_a_refused_join_is_tried_again_with_pauses() -> None:
    refusal = play("05b_private_refused", upto=1)
    patience = Patience(connect=2, join=2, longest_pause=0.3, look=0.02)
    async with playing(refusal, refusal, refusal, GOOD) as player, listening(player, patience=patience) as heard:
        await heard.until(lambda h: "receiving" in h.states)
        assert heard.troubles == ["channel_error"] * 3
        # one channel a socket: a refusal holds nothing else up
        assert len(player.joins) == player.connections == 4
        assert player.joins[0]["config"]["private"] is True


async def test_9_a_cut_record_is_a_hint_all_the_same() -> None:
    recording = play("08_payload_limits")
    async with playing(recording) as player, listening(player) as heard:
        rows = sum('"event":"postgres_changes"' in frame["data"] for frame in recording)
        assert any('"errors":["Error 413' in frame["data"] for frame in recording)
        await heard.until(lambda h: h.wakes.count("realtime_changes") == rows)
        assert heard.troubles == []


async def test_9_a_row_that_the_key_may_not_see_is_left_to_the_sweep() -> None:
    """The client itself refuses the real server's 401 frame, since its commit_timestamp is null: no hint, and no harm."""
    async with playing(play("02d_no_select_grant")) as player, listening(player) as heard:
        await heard.until(lambda h: "receiving" in h.states)
        await asyncio.sleep(0.2)
        assert "realtime_changes" not in heard.wakes
        assert (heard.troubles, player.connections) == ([], 1)


async def test_10_a_delete_that_reaches_everyone_wakes_nobody() -> None:
    recording = play("03b_rls_full_delete_anon")
    async with playing(recording) as player, listening(player) as heard:
        await heard.until(lambda h: "receiving" in h.states)
        await asyncio.sleep(0.2)
        # only inserts are asked for, and no row is ever read from a frame
        assert [one["event"] for one in player.joins[0]["config"]["postgres_changes"]] == ["INSERT"]
        assert "realtime_changes" not in heard.wakes
        assert (heard.troubles, player.connections) == ([], 1)


async def test_11_a_frame_over_one_mebibyte_costs_a_session_and_no_row() -> None:
    big = next(frame for frame in play("15_py_frame_over_1MiB") if '"postgres_changes"' in frame["data"][:40])
    message = json.loads(big["data"])
    message["payload"]["data"]["record"]["data"] = {"blob": "x" * 1_200_000}
    async with playing([*GOOD, {"dir": "recv", "data": json.dumps(message)}], GOOD) as player, listening(player) as heard:
        await heard.until(lambda h: player.connections == 2 and h.states[-1] == "receiving")
        assert heard.wakes.count("realtime_join") == 4, "each session sweeps"


async def test_12_a_flood_that_closes_the_channel_is_outlived() -> None:
    flood = play("17_broadcast_flood_receiver")
    script = [*GOOD, *flood[1:20], *flood[-2:]]
    async with playing(script, GOOD) as player, listening(player) as heard:
        await heard.until(lambda h: player.connections == 2 and h.states[-1] == "receiving")
        assert heard.troubles == ["channel_error"], "Too many messages per second"
        assert "realtime_broadcast" not in heard.wakes, "other events than ours wake nobody"


async def test_13_http_refusals_are_outlived() -> None:
    refusals = [HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN]
    async with playing(*refusals, GOOD) as player, listening(player) as heard:
        await heard.until(lambda h: "receiving" in h.states)
        assert heard.troubles == ["key", "connect", "key"], "a refused key is its own kind"


async def test_13_a_missing_answer_to_a_heartbeat_is_noticed() -> None:
    patience = Patience(connect=2, join=2, receiving=2, heartbeat=0.2, answer=0.3, longest_pause=0.05, look=0.02)
    async with playing(GOOD) as player, listening(player, patience=patience) as heard:
        await heard.until(lambda h: "receiving" in h.states)
        await asyncio.sleep(1)
        assert heard.troubles == [], "answered heartbeats are no trouble"
        player.mute = True
        await heard.until(lambda h: "silent" in h.troubles)


async def test_13_an_idle_close_is_outlived() -> None:
    async with playing([*GOOD, closed(1000)], GOOD) as player, listening(player) as heard:
        await heard.until(lambda h: player.connections == 2 and h.states[-1] == "receiving")


async def test_14_no_filter_is_asked_for() -> None:
    async with playing(GOOD) as player, listening(player) as heard:
        await heard.until(lambda h: "receiving" in h.states)
        (wanted,) = player.joins[0]["config"]["postgres_changes"]
        assert wanted == {"event": "INSERT", "schema": "public", "table": "architect_in"}


async def test_a_source_of_tokens_that_fails_ends_no_more_than_a_session() -> None:
    class Failing(KeyTokens):
        calls = 0

        async def token(self) -> tuple[str, float | None]:
            Failing.calls += 1
            if Failing.calls < 4:
                raise OSError("the login server is away")
            return self.apikey, None

    async with playing(GOOD) as player, listening(player, tokens=Failing("sb_secret_x")) as heard:
        await heard.until(lambda h: h.states[-1:] == ["receiving"])
        assert heard.troubles == ["client"] * 3
