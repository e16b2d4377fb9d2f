import assert from "node:assert/strict";
import { handler, keysOf, type Session } from "../embed/handler.ts";

/** As Supabase.ai.Session answers: numbers of the text, so that an order that is mixed up shows. */
const session: Session = {
  run: (text, options) => {
    assert.deepEqual(options, { mean_pool: true, normalize: true });
    return Promise.resolve(Float32Array.from({ length: 384 }, (_, index) => (index === 0 ? text.length : 0)));
  },
};
const handle = handler({ session, keys: ["service-key", "sb_secret_x"], log: () => {} });

const post = (body: unknown, key = "service-key") =>
  new Request("https://x.supabase.co/functions/v1/embed/embeddings", {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });

Deno.test("vectors come in the order of the texts, in OpenAI's shape", async () => {
  const response = await handle(
    post({ model: "gte-small", input: ["a", "bbb"], encoding_format: "float" }, "sb_secret_x"),
  );
  assert.equal(response.status, 200);
  const { data, model } = await response.json();
  assert.equal(model, "gte-small");
  assert.deepEqual(data.map((item: { index: number; embedding: number[] }) => [item.index, item.embedding[0]]), [
    [0, 1],
    [1, 3],
  ]);
  assert.equal(data[0].embedding.length, 384);
  const single = await (await handle(post({ input: "four" }))).json();
  assert.equal(single.data[0].embedding[0], 4);
});

Deno.test("what it cannot do is said", async () => {
  const cases: [unknown, number, RegExp][] = [
    [{ input: "a", model: "text-embedding-3-small" }, 404, /not here/],
    [{ input: "a", dimensions: 512 }, 422, /384/],
    [{ input: [] }, 422, /1 to 64/],
    [{ input: Array(65).fill("a") }, 422, /1 to 64/],
    [{ input: ["a", " "] }, 422, /input\[1\]/],
    [{ input: [1] }, 422, /input\[0\]/],
    ["no json", 400, /not JSON/],
  ];
  for (const [body, status, message] of cases) {
    const response = await handle(post(body));
    assert.equal(response.status, status);
    assert.match((await response.json()).error.message, message);
  }
});

Deno.test("nobody else's key opens it", async () => {
  for (const key of ["", "service-ke", "anon"]) {
    assert.equal((await handle(post({ input: "a" }, key))).status, 401);
  }
});

Deno.test("the keys of a project, legacy and new", () => {
  const env = (values: Record<string, string>) => (name: string) => values[name];
  assert.deepEqual(keysOf(env({ SUPABASE_SERVICE_ROLE_KEY: "a", SUPABASE_SECRET_KEYS: '{"default":"b"}' })), [
    "a",
    "b",
  ]);
  assert.throws(() => keysOf(env({})), /no key is set/);
});
