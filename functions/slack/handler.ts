import type { Db } from "../_shared/db.ts";
import { guarded, UserError } from "../_shared/errors.ts";
import { asObject, asText, get, hmac, type JsonObject, readBody, same, text } from "../_shared/http.ts";
import { chat } from "../_shared/message.ts";
import { accept, type Accepted } from "../_shared/submit.ts";

export interface Deps {
  db: Db;
  /** Signing secrets; two while they are rotated. */
  secrets: string[];
  /** Milliseconds since 1970. */
  now?: () => number;
  log?: (line: string) => void;
}

const MOST = 1024 * 1024;
const WINDOW = 300; // seconds: Slack's own advice against replays
const WITHIN = 2500; // milliseconds: Slack waits three seconds

/** Slack: the slash command, and mentions. Questions are put on the bus at once; deliver brings the reply into the thread. */
export function handler(deps: Deps): (request: Request) => Promise<Response> {
  return guarded("slack", (request) => handle(request, deps), deps.log);
}

async function handle(request: Request, deps: Deps): Promise<Response> {
  const raw = await readBody(request, MOST, 2500);
  verify(request, raw, deps);
  const body = asText(raw);
  if ((request.headers.get("content-type") ?? "").startsWith("application/x-www-form-urlencoded")) {
    return await slash(new URLSearchParams(body), deps);
  }
  const payload = asObject(body);
  if (text(payload, "type") === "url_verification") return Response.json({ challenge: text(payload, "challenge") });
  if (text(payload, "type") === "event_callback") return await mention(payload, deps);
  return Response.json({ ignored: text(payload, "type") });
}

function verify(request: Request, raw: Uint8Array, deps: Deps): void {
  const stamp = request.headers.get("x-slack-request-timestamp") ?? "";
  const given = request.headers.get("x-slack-signature") ?? "";
  const age = Math.abs((deps.now?.() ?? Date.now()) / 1000 - Number(stamp));
  if (!/^\d{1,12}$/.test(stamp) || age > WINDOW) {
    throw new UserError(401, "replay", "the request is older than five minutes, or has no time");
  }
  const head = new TextEncoder().encode(`v0:${stamp}:`);
  const content = new Uint8Array(head.length + raw.length);
  content.set(head);
  content.set(raw, head.length);
  if (!deps.secrets.some((secret) => same(given, `v0=${hmac(secret, content)}`))) {
    throw new UserError(
      401,
      "signature",
      "the signature does not fit the body",
      "set SLACK_SIGNING_SECRET to the app's signing secret",
    );
  }
}

async function slash(form: URLSearchParams, deps: Deps): Promise<Response> {
  if (form.get("ssl_check")) return new Response("");
  const say = (said: string) => Response.json({ response_type: "ephemeral", text: said });
  const question = (form.get("text") ?? "").replaceAll("\0", "").trim();
  const [team, channel, user, trigger] = ["team_id", "channel_id", "user_id", "trigger_id"].map((name) =>
    form.get(name) ?? ""
  );
  if (!/^[A-Z0-9]+:[A-Z0-9]+:[A-Z0-9]+$/.test(`${team}:${channel}:${user}`) || !trigger) {
    throw new UserError(
      400,
      "form",
      "this is not a slash command: team_id, channel_id, user_id or trigger_id is missing",
    );
  }
  if (question === "") return say("Ask a design question: `/atlas How do we roll back a release?`");
  const message = chat(question, { reply_to: `slack:${team}:${channel}:/${crypto.randomUUID()}` });
  const writer = { provider: "slack" as const, id: `${team}:${user}` };
  try {
    const accepted = await soon(
      accept(deps.db, { source: "slack", id: trigger! }, message, `slack:${team}:${trigger}`, writer),
    );
    const isClosed = ["privategroup", "directmessage"].includes(form.get("channel_name") ?? "");
    const invite = isClosed ? " Invite Atlas here first (`/invite @Atlas`), or it cannot answer." : "";
    return say(`Atlas is on it: the answer comes into this channel.${invite} Task \`${accepted.task_id}\``);
  } catch (error) {
    const { code, message: why } = error as { code?: string; message?: string };
    // the database's own words to the person, where the question is at fault; nothing of the rest
    if (code?.startsWith("AT")) return say(`That cannot be asked: ${why}`);
    if (error instanceof UserError) {
      return say("The database is slow: your question may be answered all the same, or ask again.");
    }
    deps.log?.(JSON.stringify({ level: "error", function: "slack", message: String(why) }));
    return say("Atlas cannot be reached now, and your question was not taken: please ask again.");
  }
}

async function mention(payload: JsonObject, deps: Deps): Promise<Response> {
  const event = get(payload, "event");
  const team = text(payload, "team_id");
  const [channel, user, stamp] = ["channel", "user", "ts"].map((name) => text(event, name));
  const isPerson = get(event, "bot_id") === undefined && get(event, "subtype") === undefined;
  if (text(event, "type") !== "app_mention" || !isPerson) return Response.json({ ignored: "no mention by a person" });
  const id = text(payload, "event_id");
  if (
    !/^[A-Z0-9]+:[A-Z0-9]+:[A-Z0-9]+$/.test(`${team}:${channel}:${user}`) || !/^\d+\.\d+$/.test(stamp!) || id === "" ||
    id.length > 200
  ) {
    throw new UserError(400, "event", "the event lacks team_id, event_id, channel, user or ts");
  }
  const question = text(event, "text").replace(/<@[A-Z0-9]+(\|[^>]*)?>/g, "").trim();
  if (question === "") return Response.json({ ignored: "it asks nothing" });
  const thread = /^\d+\.\d+$/.test(text(event, "thread_ts")) ? text(event, "thread_ts") : stamp;
  // the message's own place names it, so that a second event about it is no second task
  const message = chat(question, { reply_to: `slack:${team}:${channel}:${thread}` });
  const writer = { provider: "slack" as const, id: `${team}:${user}` };
  const place = `${team}:${channel}`;
  const taken = async (): Promise<Accepted> => {
    const [row] = await deps
      .db`select atlas.answer_at('slack', ${`answer:${place}:${stamp}`}, ${`slack:${place}:${thread}`}, ${question}) as task`;
    if (row?.task) return { task_id: row.task, state: "queued", created: false };
    return await accept(deps.db, { source: "slack", id }, message, `slack:${place}:${stamp}`, writer);
  };
  const accepted = await soon(taken());
  return Response.json(accepted);
}

/** Slack sends an event again when no answer comes in time; a commit that was late is then known by its delivery. */
async function soon(work: Promise<Accepted>): Promise<Accepted> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new UserError(503, "slow", "the database is slow", "it is delivered again")),
      WITHIN,
    );
  });
  work.catch(() => {}); // when it is late, nobody else looks at its end
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
