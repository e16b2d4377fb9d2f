import { Webhook } from "standardwebhooks";
import type { Db } from "../_shared/db.ts";
import { guarded, Upstream, UserError } from "../_shared/errors.ts";
import { asObject, asText, get, type Json, type JsonObject, readBody, text } from "../_shared/http.ts";

export interface Deps {
  db: Db;
  /** whsec_…: the provider's, and the one before it while it is rotated. */
  secrets: string[];
  apiKey: string;
  apiUrl: string;
  log?: (line: string) => void;
}

const MOST = 64 * 1024;
const TYPES = new Set(["response.completed", "response.failed", "response.cancelled", "response.incomplete"]);

/** The provider says that a response is over: a call that nobody heard of becomes known, and its task goes on. */
export function handler(deps: Deps): (request: Request) => Promise<Response> {
  return guarded("openai-webhook", (request) => handle(request, deps), deps.log);
}

async function handle(request: Request, deps: Deps): Promise<Response> {
  const body = asText(await readBody(request, MOST));
  verify(request, body, deps.secrets);
  const event = asObject(body);
  const type = text(event, "type"), id = text(event, "data", "id");
  if (!TYPES.has(type)) return Response.json({ ignored: `${type || "an event without a type"} is about no response` });
  if (!/^[\w-]{1,200}$/.test(id)) {
    throw new UserError(422, "shape", "data.id is missing, or is not the id of a response");
  }
  const response = await retrieve(id, deps);
  if (response === null) return Response.json({ ignored: `the provider has no response ${id} for this key` });
  const told = {
    id,
    status: text(response, "status"),
    metadata: get(response, "metadata") ?? {},
    usage: usageOf(response),
    text: textOf(response),
  };
  const [row] = await deps.db`select atlas.adopt_response(${deps.db.json(told as never)}) as outcome`;
  return Response.json({ outcome: row?.outcome });
}

function verify(request: Request, body: string, secrets: string[]): void {
  const headers = Object.fromEntries(request.headers);
  for (const secret of secrets) {
    try {
      new Webhook(secret).verify(body, headers);
      return;
    } catch {
      // the next one may fit, while they are rotated
    }
  }
  throw new UserError(
    401,
    "signature",
    "no secret fits the signature, or it is older than five minutes",
    "set OPENAI_WEBHOOK_SECRET to the signing secret of the provider's webhook",
  );
}

/** What the webhook does not carry: the response itself. Null where this key has none of that id. */
async function retrieve(id: string, deps: Deps): Promise<JsonObject | null> {
  let answer: Response;
  try {
    answer = await fetch(`${deps.apiUrl}/responses/${id}`, {
      headers: { authorization: `Bearer ${deps.apiKey}` },
      redirect: "error",
      signal: AbortSignal.timeout(8000),
    });
  } catch (error) {
    throw new Upstream(`the provider cannot be asked for ${id} (${(error as Error).name})`);
  }
  if (answer.status === 404) {
    await answer.body?.cancel();
    return null;
  }
  if (!answer.ok) {
    await answer.body?.cancel();
    throw new Upstream(`the provider answered ${answer.status} for ${id}`);
  }
  return (await answer.json()) as JsonObject;
}

/** As atlas.settle_spends takes it; null where the provider does not say, or says zeros, which no answer costs. */
function usageOf(response: JsonObject): JsonObject | null {
  const count = (...path: string[]): number => {
    const found = get(response, "usage", ...path);
    return typeof found === "number" && Number.isSafeInteger(found) && found > 0 ? found : 0;
  };
  const input = count("input_tokens"), output = count("output_tokens");
  if (input + output === 0) return null;
  const cached = Math.min(count("input_tokens_details", "cached_tokens"), input);
  return {
    input_tokens: input,
    cached_tokens: cached,
    cache_write_tokens: Math.min(count("input_tokens_details", "cache_write_tokens"), input - cached),
    output_tokens: output,
    reasoning_tokens: Math.min(count("output_tokens_details", "reasoning_tokens"), output),
    tier: text(response, "service_tier") || null,
  };
}

function textOf(response: JsonObject): string {
  const list = (value: Json | undefined): Json[] => Array.isArray(value) ? value : [];
  return list(get(response, "output"))
    .filter((item) => text(item, "type") === "message")
    .flatMap((item) => list(get(item, "content")))
    .map((part) => text(part, "text") || text(part, "refusal"))
    .join("")
    // what Postgres cannot hold
    .replaceAll("\0", "\ufffd").toWellFormed();
}
