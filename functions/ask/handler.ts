import { errors, type JWTPayload, jwtVerify, type JWTVerifyGetKey } from "jose";
import type { TransactionSql } from "postgres";
import type { Db } from "../_shared/db.ts";
import { guarded, Upstream, UserError } from "../_shared/errors.ts";
import { asObject, asText, isTokensFault, type Json, type JsonObject, readBody, UUID } from "../_shared/http.ts";
import { chat, newId } from "../_shared/message.ts";

export interface Deps {
  db: Db;
  /** The project's keys. */
  keys: JWTVerifyGetKey;
  /** Milliseconds: between looks, between signs of life, and how long one stream may last. */
  poll?: number;
  beat?: number;
  longest?: number;
  log?: (line: string) => void;
}

const MOST = 256 * 1024;
const STREAMS = 200; // of one isolate
const STREAMS_EACH = 10; // of one user
/** Nothing more comes by itself: it is over, or asks back. */
const ENDED = ["completed", "failed", "cancelled", "dead_lettered", "needs_input"];
const CORS = {
  "access-control-allow-origin": "*", // the token, not the origin, decides
  "access-control-allow-methods": "GET, POST, OPTIONS",
  "access-control-allow-headers": "authorization, apikey, content-type, last-event-id, x-client-info",
};

/**
 * Plain HTTPS for UI clients, under the user's own token: row level security decides what they see.
 *
 * POST /ask {"question", "task_id"?, "parent_id"?, "project"?, "kind"?, "anew"?} → {task_id, state, created}
 * GET /ask/<task> → {task_id, state, reply, …}
 * GET /ask/<task>/events → server-sent events: delta, reset, state, done; Last-Event-ID goes on from there
 */
export function handler(deps: Deps): (request: Request) => Promise<Response> {
  const streams = new Map<string, number>();
  let all = 0;
  /** Takes a place for a stream of a user; answers how it is left. */
  const enter = (user: string): () => void => {
    const mine = streams.get(user) ?? 0;
    if (all >= STREAMS || mine >= STREAMS_EACH) {
      throw new UserError(429, "streams", "too many streams at once", "close one, or poll GET /ask/<task_id>");
    }
    streams.set(user, mine + 1);
    all += 1;
    return () => {
      const left = (streams.get(user) ?? 1) - 1;
      if (left > 0) streams.set(user, left);
      else streams.delete(user);
      all -= 1;
    };
  };
  const inner = guarded("ask", async (request) => {
    if (request.method === "OPTIONS") return new Response(null, { status: 204 });
    const claims = await userOf(request, deps);
    const [task, what, ...more] = new URL(request.url).pathname.replace(/^.*\/ask(?=\/|$)/, "").split("/").filter(
      Boolean,
    );
    if (task === undefined) return await ask(request, deps, claims);
    if (!UUID.test(task) || more.length > 0) {
      throw new UserError(404, "path", "there is nothing here", "GET /ask/<task_id>");
    }
    if (request.method !== "GET") {
      throw new UserError(405, "method", `${request.method} is not taken here`, "send a GET");
    }
    if (what === undefined) return Response.json(await stateOf(deps, claims, task));
    if (what !== "events") throw new UserError(404, "path", "there is nothing here", "GET /ask/<task_id>/events");
    const leave = enter(String(claims.sub));
    try {
      await stateOf(deps, claims, task);
    } catch (error) {
      leave();
      throw error;
    }
    return events(request, deps, claims, task, leave);
  }, deps.log);
  return async (request) => {
    const response = await inner(request);
    for (const [name, value] of Object.entries(CORS)) response.headers.set(name, value);
    return response;
  };
}

async function userOf(request: Request, deps: Deps): Promise<JWTPayload> {
  const refuse = (why: string) =>
    new UserError(401, "token", why, "send the access token of your login: Authorization: Bearer …");
  const token = /^Bearer (\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  if (token === undefined) throw refuse("there is no token");
  let claims: JWTPayload;
  try {
    // the key is chosen by the algorithm that the token names: a secret for HS256, a public key for the others
    ({ payload: claims } = await jwtVerify(token, deps.keys, {
      requiredClaims: ["sub", "exp", "role"],
      algorithms: ["HS256", "ES256", "RS256"],
    }));
  } catch (error) {
    const code = (error as { code?: string }).code ?? "";
    if (!isTokensFault(code)) throw new Upstream("the project's keys cannot be read");
    throw refuse(code === "ERR_JWT_EXPIRED" ? "the token has expired" : `the token is refused (${code})`);
  }
  if (claims.role !== "authenticated" || !UUID.test(String(claims.sub))) throw refuse("the token is not a user's");
  return claims;
}

/** Keys of a project: its JWT secret where it has one (HS256), and its published ones. */
export function keysOf(secret: string | undefined, published: JWTVerifyGetKey): JWTVerifyGetKey {
  return async (header, token) => {
    if (header.alg !== "HS256") return await published(header, token);
    if (!secret) throw new errors.JWKSNoMatchingKey();
    return new TextEncoder().encode(secret);
  };
}

/** A transaction as the user, as PostgREST makes one. */
async function acting<T>(deps: Deps, claims: JWTPayload, work: (sql: TransactionSql) => Promise<T>): Promise<T> {
  return await deps.db.begin(async (sql) => {
    await sql`select set_config('request.jwt.claims', ${
      JSON.stringify(claims)
    }, true), set_config('role', 'authenticated', true)`;
    return await work(sql);
  }) as T;
}

async function ask(request: Request, deps: Deps, claims: JWTPayload): Promise<Response> {
  const body = asObject(asText(await readBody(request, MOST)));
  const unknown = Object.keys(body).find((name) =>
    !["question", "task_id", "parent_id", "project", "kind", "anew"].includes(name)
  );
  if (unknown !== undefined) {
    throw new UserError(
      422,
      "field",
      `${unknown} is not known`,
      "send question, and task_id, parent_id, project, kind or anew",
    );
  }
  const { question, task_id: task = newId(), parent_id, project, kind, anew } = body;
  if (typeof question !== "string" || question.trim() === "") {
    throw new UserError(422, "question", "question is missing, or empty");
  }
  if (typeof task !== "string" || !UUID.test(task)) throw new UserError(422, "task_id", "task_id is not a UUID");
  const message = {
    ...chat(question, {
      ...(parent_id == null ? {} : { parent_id }),
      ...(project == null ? {} : { project }),
      ...(kind == null ? {} : { kind }),
      ...(anew == null ? {} : { anew }),
    }),
    task_id: task,
  };
  const [row] = await acting(deps, claims, (sql) =>
    sql<{ created: boolean }[]>`
    select task_id, state, created from atlas.submit_task(${sql.json(message as never)})`);
  if (row === undefined) {
    throw new UserError(409, "task_id", "task_id is taken", "send a task_id of your own making, or none");
  }
  return Response.json(row, { status: row.created ? 201 : 200 });
}

async function stateOf(deps: Deps, claims: JWTPayload, task: string): Promise<JsonObject> {
  const [row] = await acting(
    deps,
    claims,
    (sql) => sql<{ state: JsonObject | null }[]>`select atlas.task_state(${task}) as state`,
  );
  if (row === undefined || row.state === null) throw new UserError(404, "task", `no task ${task} of yours`);
  return row.state;
}

interface Place {
  attempt: number;
  generation: number;
  offset: number;
}

interface Part extends Place {
  seq: number;
  text: string;
}

function placeOf(id: string | null): Place {
  const found = /^(\d{1,6})\.(\d{1,6})\.(\d{1,9})$/.exec(id ?? "");
  return found === null
    ? { attempt: 0, generation: 0, offset: -1 }
    : { attempt: Number(found[1]), generation: Number(found[2]), offset: Number(found[3]) };
}

/** The tables are looked at again and again, a moment each: no transaction is held while nothing happens. */
function events(request: Request, deps: Deps, claims: JWTPayload, task: string, left: () => void): Response {
  const { poll = 300, beat = 15_000, longest = 120_000 } = deps;
  const encoder = new TextEncoder();
  const began = Date.now();
  let place = placeOf(request.headers.get("last-event-id"));
  let isGone = false;
  const stream = new ReadableStream<Uint8Array>({
    async start(controller) {
      const send = (text: string) => controller.enqueue(encoder.encode(text));
      const tell = (event: string, data: Json, id = "") =>
        send(`event: ${event}\n${id && `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`);
      let last = "", beaten = Date.now();
      try {
        send("retry: 1000\n\n");
        while (!isGone) {
          // a stream ends with its token, and before the platform ends it
          if (Date.now() - began > longest || Date.now() / 1000 > (claims.exp ?? 0)) break;
          // the state first: parts written after it was read are found by the next look, or stand in the reply
          const state = await stateOf(deps, claims, task);
          const parts = await acting(deps, claims, (sql) =>
            sql<Part[]>`
            select * from atlas.read_parts(${task}, ${place.attempt}, ${place.generation}, ${place.offset})`);
          for (const part of parts) {
            const isNew = part.attempt !== place.attempt || part.generation !== place.generation;
            if (isNew && place.attempt > 0) tell("reset", { attempt: part.attempt, offset: 0 });
            place = part;
            tell(
              "delta",
              { attempt: part.attempt, seq: part.seq, offset: part.offset, text: part.text },
              `${part.attempt}.${part.generation}.${part.offset}`,
            );
          }
          const now = JSON.stringify([state.state, state.wait_reason]);
          if (now !== last) tell("state", { state: state.state!, wait_reason: state.wait_reason! });
          last = now;
          if (ENDED.includes(String(state.state))) {
            tell("done", state);
            break;
          }
          if (Date.now() - beaten > beat) {
            send(": still here\n\n");
            beaten = Date.now();
          }
          await new Promise((resolve) => setTimeout(resolve, poll));
        }
      } catch (error) {
        if (!isGone) {
          (deps.log ?? console.error)(
            JSON.stringify({ level: "error", function: "ask", task, message: String((error as Error).message) }),
          );
          tell("error", { code: "internal", message: "the stream ended: connect again" });
        }
      } finally {
        left();
        if (!isGone) controller.close();
      }
    },
    cancel() {
      isGone = true;
    },
  });
  return new Response(stream, {
    headers: { "content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no" },
  });
}
