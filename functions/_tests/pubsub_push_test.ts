import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createLocalJWKSet, errors, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { handler } from "../pubsub-push/handler.ts";
import { number, withDb } from "./support.ts";

const AUDIENCE = "https://x.supabase.co/functions/v1/pubsub-push", EMAIL = "push@p.iam.gserviceaccount.com";
const { publicKey, privateKey } = await generateKeyPair("RS256");
const keys = createLocalJWKSet({ keys: [{ ...await exportJWK(publicKey), alg: "RS256", kid: "k" }] });

async function token(claims: JWTPayload = {}, key = privateKey, lasts = "1h"): Promise<string> {
  const payload = { iss: "https://accounts.google.com", aud: AUDIENCE, email: EMAIL, email_verified: true, ...claims };
  return await new SignJWT(payload).setProtectedHeader({ alg: "RS256", kid: "k" }).setIssuedAt().setExpirationTime(
    lasts,
  ).sign(key);
}

/** A token that nobody signed. */
function forged(header: Record<string, string>): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = {
    iss: "https://accounts.google.com",
    aud: AUDIENCE,
    email: EMAIL,
    email_verified: true,
    exp: 9e9,
    iat: 1,
  };
  return `${part(header)}.${part(claims)}.${header.alg === "none" ? "" : "c2lnbmF0dXJl"}`;
}

function push(message: unknown, bearer: string, id = `m${number()}`): Request {
  const data = btoa(
    Array.from(
      new TextEncoder().encode(typeof message === "string" ? message : JSON.stringify(message)),
      (byte) => String.fromCharCode(byte),
    ).join(""),
  );
  return raw(
    JSON.stringify({ message: { data, messageId: id, attributes: {} }, subscription: "projects/p/subscriptions/s" }),
    bearer,
  );
}

function raw(body: string, bearer: string): Request {
  return new Request(AUDIENCE, { method: "POST", body, headers: { authorization: `Bearer ${bearer}` } });
}

const question = (task: string) => ({
  task_id: task,
  role: "architect",
  msg_type: "chat",
  content: "Wie groß? 😀",
  metadata: { schema_ver: 1 },
});

Deno.test("a message is acked once it is in, and the same delivery again is no second task", () =>
  withDb(async (db) => {
    const take = handler({ db, keys, audience: AUDIENCE, email: EMAIL });
    const task = crypto.randomUUID(), id = `m${number()}`;
    const first = await take(push(question(task), await token(), id));
    assert.deepEqual([first.status, await first.json()], [200, { task_id: task, state: "queued", created: true }]);
    const others = await Promise.all(
      [id, id, `m${number()}`].map(async (one) => await take(push(question(task), await token(), one))),
    );
    assert.deepEqual(others.map((one) => one.status), [200, 200, 200]);
    const rows = await db`select data ->> 'content' as content from public.architect_in where task_id = ${task}`;
    assert.deepEqual(rows.map((row) => row.content), ["Wie groß? 😀"]);
  }));

Deno.test("an escalation of the router is taken, audited and queued", () =>
  withDb(async (db) => {
    const take = handler({ db, keys, audience: AUDIENCE, email: EMAIL });
    const task = crypto.randomUUID();
    const content = JSON.stringify({ command: "escalate", task_id: task, code: "delivery_failed" });
    const answer = await take(push({ ...question(task), msg_type: "control", content }, await token()));
    assert.equal(answer.status, 200);
    const [row] = await db`select kind, title from atlas.task where message_task_id = ${task}`;
    assert.deepEqual({ ...row }, { kind: "control", title: "escalate" });
  }));

Deno.test("docs.added becomes a job of the embed-worker", () =>
  withDb(async (db) => {
    const take = handler({ db, keys, audience: AUDIENCE, email: EMAIL });
    const task = crypto.randomUUID(), repository = `https://github.com/acme/docs${number()}`;
    const content = JSON.stringify({ command: "docs.added", repository: `${repository}.git`, ref: "main" });
    const added = { task_id: task, role: "rag", msg_type: "control", content, metadata: { schema_ver: 2 } };
    const answered = await take(push(added, await token()));
    assert.equal(answered.status, 200);
    assert.equal((await answered.json()).rejected, undefined);
    const rows = await db`select state, ref from rag.embed_job where repository = ${repository}`;
    assert.deepEqual(rows.map((row) => [row.state, row.ref]), [["queued", "main"]]);
  }));

Deno.test("what breaks the contract is acked and kept, so that it does not come forever", () =>
  withDb(async (db) => {
    const take = handler({ db, keys, audience: AUDIENCE, email: EMAIL });
    const id = `m${number()}`;
    const cases: [unknown, RegExp][] = [
      [{ ...question(crypto.randomUUID()), content: "" }, /content is empty/],
      [{ ...question("x") }, /is not a UUID/],
      [{ ...question(crypto.randomUUID()), msg_type: "spec" }, /"spec" is what Atlas answers/],
      [{ ...question(crypto.randomUUID()), content: "nul \0 here" }, /NUL/],
      ['{"task_id": "x", "content": "\\ud800"}', /surrogate/],
      [{ ...question(crypto.randomUUID()), metadata: { reply_to: "x".repeat(12_000) } }, /addresses_are_short/],
      [{ ...question(crypto.randomUUID()), metadata: { sender_key: "x".repeat(12_000) } }, /addresses_are_short/],
      ["no json", /not JSON/],
      ["[1]", /not a JSON object/],
    ];
    for (const [message, why] of cases) {
      const answer = await take(push(message, await token()));
      const said = await answer.json();
      assert.equal(answer.status, 200, JSON.stringify(said));
      assert.match(said.rejected, why);
    }
    for (let n = 0; n < 2; n++) await take(push("no json", await token(), id));
    const rows = await db`select source, reason from atlas.rejected_message`;
    assert.equal(rows.length, cases.length + 1);
    const bare = await take(raw(JSON.stringify({ message: { data: "%%", messageId: `m${number()}` } }), await token()));
    assert.match((await bare.json()).rejected, /base64/);
  }));

Deno.test("only Google's token of the one account is taken", () =>
  withDb(async (db) => {
    const take = handler({ db, keys, audience: AUDIENCE, email: EMAIL, log: () => {} });
    const stranger = (await generateKeyPair("RS256")).privateKey;
    const bad = [
      "",
      "x.y.z",
      await token({ iss: "https://evil.example" }),
      await token({ aud: "another" }),
      await token({ email: "other@p.iam.gserviceaccount.com" }),
      await token({ email_verified: false }),
      await token({}, stranger),
      await token({}, privateKey, "-2m"),
      // no signature at all, and algorithms that are not Google's
      ...["none", "HS256", "RS512"].map((alg) => forged({ alg, kid: "k" })),
    ];
    for (const one of bad) {
      const answer = await take(push(question(crypto.randomUUID()), one));
      assert.equal(answer.status, 401, one);
    }
    const away = handler({
      db,
      audience: AUDIENCE,
      email: EMAIL,
      keys: () => Promise.reject(new errors.JWKSTimeout()),
    });
    assert.equal(
      (await away(push(question(crypto.randomUUID()), await token()))).status,
      503,
      "keys that cannot be read are no 401",
    );
    const broken = handler({
      db,
      audience: AUDIENCE,
      email: EMAIL,
      keys: () => Promise.reject(new errors.JOSEError("500")),
    });
    assert.equal((await broken(push(question(crypto.randomUUID()), await token()))).status, 503);
  }));

Deno.test("a database that is away is not an ack", async () => {
  const { connect } = await import("../_shared/db.ts");
  const db = connect("postgresql://x:y@127.0.0.1:1/none");
  const answer = await handler({ db, keys, audience: AUDIENCE, email: EMAIL })(
    push(question(crypto.randomUUID()), await token()),
  );
  assert.equal(answer.status, 503);
  await db.end();
});

Deno.test("an envelope that is none is refused", () =>
  withDb(async (db) => {
    const take = handler({ db, keys, audience: AUDIENCE, email: EMAIL });
    for (const body of ["", "{}", "[]", '{"message": {"data": "e30="}}']) {
      assert.equal((await take(raw(body, await token()))).status, 400);
    }
  }));
