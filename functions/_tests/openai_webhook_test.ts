import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { Webhook } from "standardwebhooks";
import type { Db } from "../_shared/db.ts";
import type { JsonObject } from "../_shared/http.ts";
import { type Deps, handler } from "../openai-webhook/handler.ts";
import { number, withDb } from "./support.ts";

const SECRET = `whsec_${Buffer.from("a secret of thirty-two bytes ....").toString("base64")}`;
const URL_OF = "https://x.supabase.co/functions/v1/openai-webhook";

/** The provider: what GET /responses/{id} answers. */
async function provider(responses: Record<string, JsonObject>, work: (url: string) => Promise<void>): Promise<void> {
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
    const id = new URL(request.url).pathname.split("/").at(-1)!;
    if (id === "resp_broken") return new Response("oops", { status: 500 });
    if (request.headers.get("authorization") !== "Bearer key") return new Response("no", { status: 401 });
    const found = responses[id];
    return found ? Response.json(found) : Response.json({ error: { message: "not found" } }, { status: 404 });
  });
  try {
    await work(`http://127.0.0.1:${server.addr.port}`);
  } finally {
    await server.shutdown();
  }
}

function told(type: string, id: string, more: { at?: Date; secret?: string; body?: string } = {}): Request {
  const at = more.at ?? new Date(), event = `evt_${number()}`;
  const body = JSON.stringify({ object: "event", id: event, type, created_at: 0, data: { id } });
  const signature = new Webhook(more.secret ?? SECRET).sign(event, at, body);
  const headers = {
    "webhook-id": event,
    "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
    "webhook-signature": signature,
  };
  return new Request(URL_OF, { method: "POST", body: more.body ?? body, headers });
}

/** A task whose call was sent, and lost with its worker: it is held. */
async function held(db: Db): Promise<{ task: string; attempt: string; call: string }> {
  const task = crypto.randomUUID();
  const message = { task_id: task, role: "architect", msg_type: "chat", content: "How?", metadata: { priority: 100 } };
  await db`insert into public.architect_in (data) values (${db.json(message)})`;
  const [claimed] = await db`select * from atlas.claim_tasks(gen_random_uuid(), 1, 0, interval '-1 second')`;
  assert.equal(claimed!.task_id, task);
  const attempt = claimed!.attempt_id as string;
  const request = [{ attempt_id: attempt, call: 0, model: "gpt-4.1", input_tokens: 100, output_tokens: 900 }];
  const [answer] = await db`select r from atlas.reserve_tokens(${db.json(request)}) r`;
  await db`select atlas.release_expired()`;
  return { task, attempt, call: String(answer!.r.spend_id) };
}

function response(id: string, metadata: JsonObject, more: JsonObject = {}): JsonObject {
  const content = [{ type: "output_text", text: "# The reply" }];
  return {
    id,
    status: "completed",
    metadata,
    service_tier: "flex",
    usage: {
      input_tokens: 100,
      input_tokens_details: { cached_tokens: 40, cache_write_tokens: 20 },
      output_tokens: 50,
      output_tokens_details: { reasoning_tokens: 5 },
    },
    output: [{ type: "reasoning" }, { type: "message", content }],
    ...more,
  };
}

const deps = (db: Db, apiUrl: string): Deps => ({ db, secrets: [SECRET], apiKey: "key", apiUrl, log: () => {} });
const outcome = async (answer: Response) => (await answer.json()).outcome;

Deno.test("a held call becomes known, its task is woken, and the same event again changes nothing", () =>
  withDb(async (db) => {
    const { task, attempt, call } = await held(db);
    const id = `resp_${number()}`;
    await provider({ [id]: response(id, { task, attempt, call }) }, async (url) => {
      const take = handler(deps(db, url));
      const [before] = await db`select wait_reason from atlas.task where id = ${task}`;
      assert.equal(before!.wait_reason, "held");
      assert.equal(await outcome(await take(told("response.completed", id))), "adopted");
      const [after] = await db`select wait_reason from atlas.task where id = ${task}`;
      assert.equal(after!.wait_reason, null);
      const [spend] = await db`select state, response_id from atlas.spend where id = ${call}`;
      assert.deepEqual({ ...spend }, { state: "reserved", response_id: id });
      for (let n = 0; n < 3; n++) await take(told("response.completed", id));
      const rows = await db`select 1 from atlas.spend where task_id = ${task}`;
      assert.equal(rows.length, 1);
    });
    // the next attempt goes on with it
    const [next] = await db`select * from atlas.claim_tasks(gen_random_uuid(), 1, 0, interval '1 minute')`;
    assert.deepEqual([next!.task_id, next!.inherited.response_id], [task, id]);
    await db`select atlas.cancel_task(${task}, ${next!.attempt_id}, ${db.json({ "0": { known: "none" } })})`;
  }));

Deno.test("a text whose task is over is settled, and kept as its attempt's", () =>
  withDb(async (db) => {
    const { task, attempt, call } = await held(db);
    const id = `resp_${number()}`;
    await db`select atlas.cancel_task(${task})`;
    await provider({ [id]: response(id, { task, attempt, call }) }, async (url) => {
      const take = handler(deps(db, url));
      assert.equal(await outcome(await take(told("response.completed", id))), "settled");
      assert.equal(await outcome(await take(told("response.completed", id))), "known");
    });
    const [spend] = await db`select state, known, tokens::int, cached_tokens::int, cache_write_tokens::int, tier_given
      from atlas.spend where id = ${call}`;
    assert.deepEqual({ ...spend }, {
      state: "settled",
      known: "reported",
      tokens: 150,
      cached_tokens: 40,
      cache_write_tokens: 20,
      tier_given: "flex",
    });
    const [kept] = await db`select late_text from atlas.attempt where id = ${attempt}`;
    assert.equal(kept!.late_text, "# The reply");
  }));

Deno.test("what was presumed not made is corrected", () =>
  withDb(async (db) => {
    const { task, attempt, call } = await held(db);
    const id = `resp_${number()}`;
    await db`update atlas.spend set held_until = now() where id = ${call}`;
    await db`select atlas.end_holds()`;
    await provider({ [id]: response(id, { task, attempt, call }) }, async (url) => {
      const take = handler(deps(db, url));
      assert.equal(await outcome(await take(told("response.completed", id))), "corrected");
      assert.equal(await outcome(await take(told("response.completed", id))), "known");
    });
    const rows = await db`select known, tokens::int from atlas.spend where task_id = ${task} order by id`;
    assert.deepEqual(rows.map((row) => [row.known, row.tokens]), [["presumed_none", 0], ["reported", 150]]);
    await db`select atlas.cancel_task(${task})`;
  }));

Deno.test("a wrong signature, an old timestamp and a changed body are refused, and change nothing", () =>
  withDb(async (db) => {
    const { task, attempt, call } = await held(db);
    const id = `resp_${number()}`;
    await provider({ [id]: response(id, { task, attempt, call }) }, async (url) => {
      const take = handler(deps(db, url));
      const other = `whsec_${Buffer.from("another secret").toString("base64")}`;
      const old = new Date(Date.now() - 6 * 60_000);
      for (
        const request of [
          told("response.completed", id, { secret: other }),
          told("response.completed", id, { at: old }),
          told("response.completed", id, { body: '{"type": "response.completed", "data": {"id": "x"}}' }),
          new Request(URL_OF, { method: "POST", body: "{}" }),
        ]
      ) {
        const answer = await take(request);
        assert.equal(answer.status, 401);
        assert.equal((await answer.json()).error.code, "signature");
      }
      assert.equal((await take(new Request(URL_OF))).status, 405);
    });
    const [spend] = await db`select state, response_id from atlas.spend where id = ${call}`;
    assert.deepEqual({ ...spend }, { state: "held", response_id: null });
    await db`select atlas.cancel_task(${task})`;
  }));

Deno.test("an unknown response, another project's, and one of another Atlas change nothing", () =>
  withDb(async (db) => {
    const { task, attempt, call } = await held(db), other = await held(db);
    const ids = Array.from({ length: 5 }, () => `resp_${number()}`);
    await provider({
      [ids[0]!]: response(ids[0]!, {}),
      [ids[1]!]: response(ids[1]!, { task: crypto.randomUUID(), attempt, call }),
      [ids[2]!]: response(ids[2]!, { task, attempt: other.attempt, call }),
      [ids[3]!]: response(ids[3]!, { task, attempt, call: "drop table" }),
    }, async (url) => {
      const take = handler(deps(db, url));
      for (const id of ids.slice(0, 4)) {
        assert.equal(await outcome(await take(told("response.completed", id))), "unknown", id);
      }
      // this key cannot read it: it is another project's of the provider
      const answer = await take(told("response.completed", ids[4]!));
      assert.equal(answer.status, 200);
      assert.match((await answer.json()).ignored, /has no response/);
      const later = await take(told("batch.completed", ids[0]!));
      assert.match((await later.json()).ignored, /is about no response/);
      assert.equal((await take(told("response.completed", "../models"))).status, 422);
    });
    const rows = await db`select state from atlas.spend where id in (${call}, ${other.call})`;
    assert.deepEqual(rows.map((row) => row.state), ["held", "held"]);
    for (const one of [task, other.task]) await db`select atlas.cancel_task(${one})`;
  }));

Deno.test("a provider that is away makes the webhook come again", () =>
  withDb(async (db) => {
    await provider({}, async (url) => {
      assert.equal((await handler(deps(db, url))(told("response.completed", "resp_broken"))).status, 503);
    });
    const away = handler(deps(db, "http://127.0.0.1:1"));
    assert.equal((await away(told("response.failed", "resp_x"))).status, 503);
  }));
