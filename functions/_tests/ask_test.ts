import assert from "node:assert/strict";
import { createLocalJWKSet, exportJWK, generateKeyPair, SignJWT } from "jose";
import type { Db } from "../_shared/db.ts";
import { type Deps, handler, keysOf } from "../ask/handler.ts";
import { withDb } from "./support.ts";

const SECRET = "a secret of at least thirty-two characters";
const { publicKey, privateKey } = await generateKeyPair("ES256");
const published = createLocalJWKSet({ keys: [{ ...await exportJWK(publicKey), alg: "ES256", kid: "k" }] });
const ANN = crypto.randomUUID(), BOB = crypto.randomUUID();

const deps = (db: Db, more: Partial<Deps> = {}): Deps => ({ db, keys: keysOf(SECRET, published), poll: 20, ...more });

async function legacy(
  user: string,
  claims: Record<string, unknown> = {},
  lasts = "1h",
  secret = SECRET,
): Promise<string> {
  return await new SignJWT({ role: "authenticated", sub: user, ...claims }).setProtectedHeader({ alg: "HS256" })
    .setIssuedAt()
    .setExpirationTime(lasts).sign(new TextEncoder().encode(secret));
}

function call(path: string, token: string, more: RequestInit = {}): Request {
  return new Request(`https://x.supabase.co/functions/v1${path}`, {
    ...more,
    headers: { authorization: `Bearer ${token}`, ...more.headers },
  });
}

const post = (body: unknown, token: string) =>
  call("/ask", token, { method: "POST", body: typeof body === "string" ? body : JSON.stringify(body) });

/** Claims a task as a worker does. */
async function claim(db: Db, task: string): Promise<string> {
  await db`update atlas.task set priority = 100 where id = ${task}`;
  const rows = await db`select * from atlas.claim_tasks(${crypto.randomUUID()}, 1, 0, '1 minute')`;
  assert.equal(rows[0]?.task_id, task);
  return rows[0]!.attempt_id;
}

async function part(db: Db, attempt: string, offset: number, text: string, generation = 0): Promise<void> {
  const item = [{
    attempt_id: attempt,
    call: 0,
    generation,
    response_id: "r",
    resumable: false,
    sequence_number: offset,
    offset,
    text,
    model: "m",
  }];
  await db`select * from atlas.record_progress(${db.json(item)})`;
}

interface Told {
  event: string;
  id: string;
  // deno-lint-ignore no-explicit-any
  data: any;
}

function read(text: string): Told[] {
  return text.split("\n\n").filter((block) => block.includes("event: ")).map((block) => {
    const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(block)?.[1] ?? "";
    return { event: field("event"), id: field("id"), data: JSON.parse(field("data")) };
  });
}

Deno.test("a question is asked, looked at and followed by its owner alone", () =>
  withDb(async (db) => {
    const take = handler(deps(db));
    const ann = await legacy(ANN), bob = await legacy(BOB);
    const asked = await take(post({ question: "Which queue?" }, ann));
    assert.equal(asked.status, 201);
    const { task_id: task } = await asked.json();
    assert.equal(
      (await take(post({ question: "Which queue?", task_id: task }, ann))).status,
      200,
      "the same again is no second task",
    );
    assert.equal((await take(post({ question: "Mine?", task_id: task }, bob))).status, 409);
    assert.equal((await (await take(call(`/ask/${task}`, ann))).json()).state, "queued");
    for (const path of [`/ask/${task}`, `/ask/${task}/events`]) assert.equal((await take(call(path, bob))).status, 404);

    const attempt = await claim(db, task);
    const stream = take(call(`/ask/${task}/events`, ann)).then((answer) => answer.text());
    await part(db, attempt, 0, "Use Ka");
    await new Promise((resolve) => setTimeout(resolve, 100));
    await part(db, attempt, 6, "fka 😀");
    await new Promise((resolve) => setTimeout(resolve, 100));
    await part(db, attempt, 0, "Use Postgres", 1);
    await new Promise((resolve) => setTimeout(resolve, 100));
    await db`select testing.complete_task(${attempt}, 'Use Postgres')`;
    const told = read(await stream);
    const order = told.map((one) => one.event).filter((name) => name !== "state");
    assert.deepEqual(order, ["delta", "delta", "reset", "delta", "done"]);
    assert.equal(told.findLast((one) => one.event === "state")!.data.state, "completed");
    assert.deepEqual(told.filter((one) => one.event === "delta").map((one) => one.data.text), [
      "Use Ka",
      "fka 😀",
      "Use Postgres",
    ]);
    assert.equal(told.at(-1)!.data.reply, "Use Postgres");

    const after = told.find((one) => one.event === "delta")!.id;
    const resumed = read(
      await (await take(call(`/ask/${task}/events`, ann, { headers: { "last-event-id": after } }))).text(),
    );
    assert.deepEqual(resumed.filter((one) => one.event === "delta").map((one) => one.data.text), [
      "fka 😀",
      "Use Postgres",
    ]);
  }));

Deno.test("keys of both kinds are taken, and nothing else", () =>
  withDb(async (db) => {
    const take = handler(deps(db));
    const modern = await new SignJWT({ role: "authenticated", sub: ANN }).setProtectedHeader({ alg: "ES256", kid: "k" })
      .setIssuedAt().setExpirationTime("1h")
      .sign(privateKey);
    assert.equal((await take(post({ question: "Which key?" }, modern))).status, 201);
    const none = btoa(JSON.stringify({ alg: "none" })).replace(/=/g, "") + "." +
      btoa(JSON.stringify({ role: "authenticated", sub: ANN })).replace(/=/g, "") + ".";
    const bad = [
      "",
      "x",
      none,
      await legacy(ANN, { role: "service_role" }),
      await legacy(ANN, { role: "anon" }),
      await legacy("not a uuid"),
      await legacy(ANN, {}, "-1s"),
      await legacy(ANN, {}, "1h", "another secret of at least thirty-two chars"),
    ];
    for (const token of bad) {
      const answer = await take(post({ question: "x" }, token));
      assert.equal(answer.status, 401, token);
      assert.equal(answer.headers.get("access-control-allow-origin"), "*", "a browser may read why");
    }
    const without = handler(deps(db, { keys: keysOf(undefined, published) }));
    assert.equal((await without(post({ question: "x" }, await legacy(ANN)))).status, 401, "no secret: no HS256");
  }));

Deno.test("bad input is named, with its field", () =>
  withDb(async (db) => {
    const take = handler(deps(db));
    const ann = await legacy(ANN);
    const cases: [unknown, number, RegExp][] = [
      [{}, 422, /question is missing/],
      [{ question: "  " }, 422, /question/],
      [{ question: 5 }, 422, /question/],
      [{ question: "x", task_id: "y" }, 422, /task_id/],
      [{ question: "x", parent_id: "y" }, 422, /parent_id/],
      [{ question: "x", project: "none-of-mine" }, 403, /none of yours/],
      [{ question: "x", priority: 5 }, 422, /priority is not known/],
      [{ question: "nul \0" }, 422, /NUL/],
      ['{"question": "\\ud800"}', 422, /surrogate/],
      ["no json", 400, /JSON/],
      ["x".repeat(300_000), 413, /larger/],
    ];
    for (const [body, status, why] of cases) {
      const answer = await take(post(body, ann));
      const { error } = await answer.json();
      assert.equal(answer.status, status, JSON.stringify(error));
      assert.match(error.message, why);
    }
    for (
      const [path, status] of [["/ask/x", 404], [`/ask/${crypto.randomUUID()}`, 404], [
        `/ask/${crypto.randomUUID()}/x`,
        404,
      ], ["/ask/a/b/c", 404]] as const
    ) {
      assert.equal((await take(call(path, ann))).status, status, path);
    }
    assert.equal((await take(call("/ask", ann, { method: "DELETE" }))).status, 405);
    assert.equal((await take(new Request("https://x/functions/v1/ask", { method: "OPTIONS" }))).status, 204);
  }));

Deno.test("one user's streams leave room for others", () =>
  withDb(async (db) => {
    const take = handler(deps(db));
    const ann = await legacy(ANN), bob = await legacy(BOB);
    const ask = async (token: string) => (await (await take(post({ question: "Long?" }, token))).json()).task_id;
    const [mine, theirs] = [await ask(ann), await ask(bob)];
    const open = await Promise.all(Array.from({ length: 30 }, () => take(call(`/ask/${mine}/events`, ann))));
    const statuses = open.map((one) => one.status);
    assert.deepEqual([statuses.filter((one) => one === 200).length, statuses.filter((one) => one === 429).length], [
      10,
      20,
    ]);
    const other = await take(call(`/ask/${theirs}/events`, bob));
    assert.equal(other.status, 200);
    await Promise.all([...open, other].map((one) => one.body?.cancel()));
    await new Promise((resolve) => setTimeout(resolve, 100));
    const again = await take(call(`/ask/${mine}/events`, ann));
    assert.equal(again.status, 200, "places are given back");
    await again.body?.cancel();
  }));

Deno.test("a stream ends before the platform ends it, and with its token", () =>
  withDb(async (db) => {
    const { task_id: task } = await (await handler(deps(db))(post({ question: "Will you wait?" }, await legacy(ANN))))
      .json();
    for (const [more, lasts] of [[{ longest: 200, beat: 50 }, "1h"], [{}, "1s"]] as const) {
      const began = Date.now();
      const text = await (await handler(deps(db, more))(call(`/ask/${task}/events`, await legacy(ANN, {}, lasts))))
        .text();
      assert.ok(Date.now() - began < 3000);
      assert.ok(text.startsWith("retry: 1000"));
      assert.ok(!text.includes("event: done"));
    }
    const answer = await handler(deps(db))(call(`/ask/${task}/events`, await legacy(ANN)));
    await answer.body!.cancel();
  }));
