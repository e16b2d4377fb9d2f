import { jwtVerify, type JWTVerifyGetKey } from "jose";
import { Buffer } from "node:buffer";
import type { Db } from "../_shared/db.ts";
import { guarded, Upstream, UserError } from "../_shared/errors.ts";
import {
  asObject,
  asText,
  get,
  isStorable,
  isTokensFault,
  type JsonObject,
  readBody,
  same,
  text,
} from "../_shared/http.ts";
import type { Message } from "../_shared/message.ts";
import { accept } from "../_shared/submit.ts";

export interface Deps {
  db: Db;
  keys: JWTVerifyGetKey;
  audience: string;
  /** The service account whose tokens are taken. */
  email: string;
  log?: (line: string) => void;
}

const MOST = 10 * 1024 * 1024;
const ISSUERS = ["https://accounts.google.com", "accounts.google.com"];
/** What the database says of a message itself; everything else is worth another delivery. */
const MESSAGES_OWN = new Set(["AT001", "AT006", "22P02", "22P05", "22021", "23514", "54000"]);

/** Google's push endpoint: acks (2xx) only what is in, or what never can be and is kept in atlas.rejected_message. */
export function handler(deps: Deps): (request: Request) => Promise<Response> {
  return guarded("pubsub-push", (request) => handle(request, deps), deps.log);
}

async function handle(request: Request, deps: Deps): Promise<Response> {
  if (request.method !== "POST") {
    throw new UserError(405, "method", `${request.method} is not taken here`, "send a POST");
  }
  await authenticate(request, deps);
  const envelope = asObject(asText(await readBody(request, MOST)));
  const id = text(envelope, "message", "messageId") || text(envelope, "message", "message_id");
  if (id === "" || id.length > 200 || get(envelope, "message") === undefined) {
    throw new UserError(400, "envelope", "this is not a push of Pub/Sub: message.messageId is missing");
  }
  const found = read(envelope);
  if (typeof found === "string") return await reject(deps, id, envelope, found);
  try {
    const accepted = await accept(deps.db, { source: "pubsub", id }, found);
    return Response.json(accepted);
  } catch (error) {
    const { code, message, hint } = error as { code?: string; message?: string; hint?: string };
    if (!MESSAGES_OWN.has(code ?? "")) {
      throw new Upstream(`the database does not take it now (${code ?? (error as Error).name})`);
    }
    return await reject(deps, id, found as unknown as JsonObject, [message, hint].filter(Boolean).join("; "));
  }
}

async function authenticate(request: Request, deps: Deps): Promise<void> {
  const token = /^Bearer (\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  const refuse = (why: string) =>
    new UserError(401, "token", why, "use a push subscription with authentication: docs/routers.md");
  if (token === undefined) throw refuse("there is no OIDC token");
  let payload;
  try {
    ({ payload } = await jwtVerify(token, deps.keys, {
      issuer: ISSUERS,
      audience: deps.audience,
      algorithms: ["RS256"],
      clockTolerance: 30,
      requiredClaims: ["exp", "iat", "email"],
    }));
  } catch (error) {
    const code = (error as { code?: string }).code ?? "";
    if (!isTokensFault(code)) throw new Upstream("Google's keys cannot be read");
    throw refuse(`the token is refused (${code})`);
  }
  if (payload.email_verified !== true || !same(String(payload.email), deps.email)) {
    throw refuse("the token is another account's");
  }
}

/** The message inside, or why there is none. */
function read(envelope: JsonObject): Message | string {
  const data = text(envelope, "message", "data");
  if (data === "") return "message.data is empty";
  if (!/^[A-Za-z0-9+/_-]*={0,2}$/.test(data)) return "message.data is no base64";
  try {
    return asObject(asText(new Uint8Array(Buffer.from(data, "base64")))) as unknown as Message;
  } catch (error) {
    return `message.data: ${(error as Error).message}`;
  }
}

async function reject(deps: Deps, id: string, payload: JsonObject, reason: string): Promise<Response> {
  // what Postgres cannot hold as JSON is kept as base64
  const kept = isStorable(payload) ? payload : { base64: Buffer.from(JSON.stringify(payload)).toString("base64") };
  await deps.db`select atlas.reject_message('pubsub', ${id}, ${deps.db.json(kept as never)}, ${
    reason.replaceAll("\0", "").toWellFormed()
  })`;
  return Response.json({ rejected: reason });
}
