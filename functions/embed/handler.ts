import { guarded, UserError } from "../_shared/errors.ts";
import { asObject, asText, readBody, same } from "../_shared/http.ts";

/** The part of Supabase's runtime that makes vectors: Supabase.ai.Session. */
export interface Session {
  run(text: string, options: { mean_pool: boolean; normalize: boolean }): Promise<ArrayLike<number>>;
}

export interface Deps {
  session: Session;
  /** Any of these opens it: vectors cost time of the project. */
  keys: string[];
  log?: (line: string) => void;
}

export const MODEL = "gte-small";
const MOST = 2 * 1024 * 1024;
const TEXTS = 64;
const LONGEST = 32_000; // characters; the model reads 512 tokens of them

/**
 * Vectors of 384 numbers, by Supabase's own gte-small, in the shape of OpenAI's API.
 *
 * POST /embed/embeddings {"model": "gte-small", "input": text | [text, …]} → {"data": [{"index", "embedding"}], …}
 */
export function handler(deps: Deps): (request: Request) => Promise<Response> {
  return guarded("embed", async (request) => {
    const token = /^Bearer (\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
    if (!deps.keys.some((key) => same(key, token))) {
      throw new UserError(
        401,
        "token",
        "the token is not a key of this project",
        "send its secret key as a bearer token",
      );
    }
    const { input, model = MODEL, ...more } = asObject(asText(await readBody(request, MOST)));
    if (model !== MODEL) throw new UserError(404, "model", `${model} is not here`, `ask for ${MODEL}`);
    if ((more.dimensions ?? 384) !== 384 || (more.encoding_format ?? "float") !== "float") {
      throw new UserError(422, "dimensions", `${MODEL} gives 384 numbers as floats`, "leave dimensions out");
    }
    const texts = typeof input === "string" ? [input] : input;
    if (!Array.isArray(texts) || texts.length === 0 || texts.length > TEXTS) {
      throw new UserError(422, "input", `input must be a text, or 1 to ${TEXTS} of them`, "send it in parts");
    }
    const data = [];
    for (const [index, text] of texts.entries()) {
      if (typeof text !== "string" || text.trim() === "" || text.length > LONGEST) {
        throw new UserError(422, "input", `input[${index}] must be a text of 1 to ${LONGEST} characters`);
      }
      const vector = await deps.session.run(text, { mean_pool: true, normalize: true });
      data.push({ object: "embedding", index, embedding: Array.from(vector) });
    }
    return Response.json({ object: "list", model: MODEL, data, usage: { prompt_tokens: 0, total_tokens: 0 } });
  }, deps.log);
}

/** The keys of a project as its runtime has them: the legacy one, the new ones by name, and one of our own. */
export function keysOf(env: (name: string) => string | undefined): string[] {
  const named = Object.values(JSON.parse(env("SUPABASE_SECRET_KEYS") || "{}") as Record<string, string>);
  const keys = [env("SUPABASE_SERVICE_ROLE_KEY"), env("ATLAS_EMBED_KEY"), ...named].filter((key) => Boolean(key));
  if (keys.length === 0) throw new Error("no key is set: run `supabase secrets set ATLAS_EMBED_KEY=…`");
  return keys as string[];
}
