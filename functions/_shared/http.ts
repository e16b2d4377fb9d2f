import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { Buffer } from "node:buffer";
import { UserError } from "./errors.ts";

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

/** The body of a POST, at most so many bytes, read within so many milliseconds. */
export async function readBody(request: Request, most: number, within = 10_000): Promise<Uint8Array> {
  if (request.method !== "POST") {
    throw new UserError(405, "method", `${request.method} is not taken here`, "send a POST");
  }
  if (Number(request.headers.get("content-length") ?? 0) > most) {
    throw new UserError(413, "too_large", `the body is larger than ${most} bytes`);
  }
  const reader = request.body?.getReader();
  const parts: Uint8Array[] = [];
  let size = 0;
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    reader?.cancel().catch(() => {});
  }, within);
  try {
    while (reader !== undefined) {
      const { done, value } = await reader.read();
      if (done) break;
      size += value.length;
      if (size > most) {
        await reader.cancel();
        throw new UserError(413, "too_large", `the body is larger than ${most} bytes`);
      }
      parts.push(value);
    }
  } finally {
    clearTimeout(timer);
  }
  if (late) throw new UserError(408, "slow", `the body took longer than ${within / 1000} s`);
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function asText(body: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(body);
  } catch {
    throw new UserError(400, "encoding", "the body is not UTF-8");
  }
}

export function asObject(text: string): JsonObject {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    throw new UserError(400, "json", "the body is not JSON");
  }
  if (typeof found !== "object" || found === null || Array.isArray(found)) {
    throw new UserError(400, "json", "the body is not a JSON object");
  }
  if (!isStorable(found as JsonObject)) {
    throw new UserError(
      422,
      "characters",
      "the text holds a NUL, or half of a surrogate pair",
      "send Unicode text without them",
    );
  }
  return found as JsonObject;
}

/** Whether Postgres can hold it: JSON escapes just what it cannot, a NUL and lone surrogates. */
export function isStorable(value: Json): boolean {
  return !/\\u(0000|d[89a-f][0-9a-f]{2})/i.test(JSON.stringify(value));
}

/** A value of a path such as get(payload, "issue", "user", "id"); undefined where something is missing on the way. */
export function get(value: Json | undefined, ...path: string[]): Json | undefined {
  let found: Json | undefined = value;
  for (const name of path) {
    if (typeof found !== "object" || found === null || Array.isArray(found)) return undefined;
    found = found[name];
  }
  return found;
}

export function text(value: Json | undefined, ...path: string[]): string {
  const found = get(value, ...path);
  return typeof found === "string" ? found : typeof found === "number" ? String(found) : "";
}

export function hmac(key: string, content: Uint8Array | string): string {
  return createHmac("sha256", key).update(content).digest("hex");
}

/** Compares in a time that does not tell how much was right. */
export function same(one: string, other: string): boolean {
  const [a, b] = [one, other].map((value) => createHash("sha256").update(value).digest()) as [Buffer, Buffer];
  return timingSafeEqual(a, b);
}

/** Whether jose refuses a token for what it is; else its keys cannot be read, which says nothing of the token. */
export function isTokensFault(code: string): boolean {
  return code.startsWith("ERR_J") && !["ERR_JWKS_TIMEOUT", "ERR_JWKS_INVALID", "ERR_JWK_INVALID", "ERR_JOSE_GENERIC"]
    .includes(code);
}

/** A setting that must be there. */
export function needed(name: string, value: string | undefined): string {
  if (!value) throw new Error(`${name} is not set: run \`supabase secrets set ${name}=…\``);
  return value;
}

/** A secret and, while it is rotated, the one before it (NAME_PREVIOUS). */
export function secretsOf(name: string, env: (name: string) => string | undefined): string[] {
  const previous = env(`${name}_PREVIOUS`);
  return [needed(name, env(name)), ...(previous ? [previous] : [])];
}

export const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
