import assert from "node:assert/strict";
import { hmac } from "../_shared/http.ts";
import { handler } from "../slack/handler.ts";
import { number, SECRET, withDb } from "./support.ts";

function signed(body: string, type: string, more: { secret?: string; at?: number; stamp?: string } = {}): Request {
  const stamp = more.stamp ?? String(Math.floor((more.at ?? Date.now()) / 1000));
  return new Request("https://x.supabase.co/functions/v1/slack", {
    method: "POST",
    body,
    headers: {
      "content-type": type,
      "x-slack-request-timestamp": stamp,
      "x-slack-signature": `v0=${hmac(more.secret ?? SECRET, `v0:${stamp}:${body}`)}`,
    },
  });
}

const FORM = "application/x-www-form-urlencoded";
const slash = (more: Record<string, string> = {}) =>
  new URLSearchParams({
    command: "/atlas",
    text: "Which queue?",
    team_id: "T1",
    channel_id: "C1",
    user_id: "U1",
    trigger_id: `${number()}.1`,
    ...more,
  })
    .toString();
const mention = (more: Record<string, unknown> = {}, id = `Ev${number()}`) =>
  JSON.stringify({
    type: "event_callback",
    team_id: "T1",
    event_id: id,
    event: {
      type: "app_mention",
      user: "U1",
      channel: "C1",
      ts: `${number()}.000100`,
      text: "<@UBOT> Which queue?",
      ...more,
    },
  });

Deno.test("a slash command is a task with a place for its answer", () =>
  withDb(async (db) => {
    const take = handler({ db, secrets: [SECRET] });
    const body = slash();
    const answer = await take(signed(body, FORM));
    const said = await answer.json();
    assert.equal(said.response_type, "ephemeral");
    const task = /`([0-9a-f-]{36})`/.exec(said.text)![1]!;
    await take(signed(body, FORM));
    const rows = await db`select data from public.architect_in where task_id = ${task}`;
    assert.equal(rows.length, 1);
    assert.match(rows[0]!.data.metadata.reply_to, /^slack:T1:C1:\/[0-9a-f-]{36}$/);
    assert.equal(rows[0]!.data.metadata.sender_key, "slack:T1:U1");
    assert.match((await (await take(signed(slash({ text: " " }), FORM))).json()).text, /Ask a design question/);
    assert.equal(await (await take(signed("ssl_check=1", FORM))).text(), "");
    assert.equal((await take(signed("text=x", FORM))).status, 400);
  }));

Deno.test("a mention is a task in its thread, once, and the next one goes on from its answer", () =>
  withDb(async (db) => {
    const take = handler({ db, secrets: [SECRET] });
    const ts = `${number()}.000200`;
    const body = mention({ ts });
    const first = await (await take(signed(body, "application/json"))).json();
    assert.equal(first.created, true);
    assert.equal((await (await take(signed(body, "application/json"))).json()).created, false);
    assert.equal(
      (await (await take(signed(mention({ ts }), "application/json"))).json()).created,
      false,
      "another event about the same message",
    );
    const [row] = await db`select data from public.architect_in where task_id = ${first.task_id}`;
    assert.deepEqual([row!.data.content, row!.data.metadata.reply_to], ["Which queue?", `slack:T1:C1:${ts}`]);
    await db`update atlas.task set state = 'completed', finished_at = now() where id = ${first.task_id}`;
    const next =
      await (await take(signed(mention({ thread_ts: ts, text: "<@UBOT|atlas> And why?" }), "application/json"))).json();
    const [later] = await db`select parent_id from atlas.task where id = ${next.task_id}`;
    assert.equal(later!.parent_id, first.task_id);
  }));

Deno.test("bots, empty mentions and other events ask nothing; a challenge is answered", () =>
  withDb(async (db) => {
    const take = handler({ db, secrets: [SECRET] });
    for (const more of [{ bot_id: "B1" }, { subtype: "bot_message" }, { text: "<@UBOT>" }, { type: "message" }]) {
      assert.ok((await (await take(signed(mention(more), "application/json"))).json()).ignored);
    }
    const challenge = JSON.stringify({ type: "url_verification", challenge: "c" });
    assert.deepEqual(await (await take(signed(challenge, "application/json"))).json(), { challenge: "c" });
    assert.equal((await take(signed(mention({ channel: "../x" }), "application/json"))).status, 400);
    assert.equal((await take(signed("no json", "application/json"))).status, 400);
  }));

Deno.test("old, unsigned and foreign requests are refused", () =>
  withDb(async (db) => {
    const take = handler({ db, secrets: ["another", SECRET] });
    const body = mention();
    for (
      const more of [{ secret: "wrong" }, { at: Date.now() - 301_000 }, { at: Date.now() + 301_000 }, { stamp: "" }, {
        stamp: "1e9",
      }, { stamp: "NaN" }]
    ) {
      assert.equal((await take(signed(body, "application/json", more))).status, 401, JSON.stringify(more));
    }
  }));

Deno.test("a slow database is answered within three seconds", () =>
  withDb(async (db) => {
    const lock = await db.reserve();
    await lock`begin`;
    await lock`lock table public.architect_in in access exclusive mode`;
    try {
      const take = handler({ db, secrets: [SECRET], log: () => {} });
      const began = Date.now();
      const [event, command] = await Promise.all([
        take(signed(mention(), "application/json")),
        take(signed(slash(), FORM)),
      ]);
      assert.ok(Date.now() - began < 3000);
      assert.equal(event.status, 503, "Slack delivers it again");
      assert.match((await command.json()).text, /slow/);
    } finally {
      await lock`rollback`;
      lock.release();
    }
  }));
