import { Webhook } from "standardwebhooks";
import { Busy, guarded, Refused, Upstream, UserError } from "../_shared/errors.ts";
import { githubAddress } from "../_shared/github.ts";
import { asObject, asText, get, type JsonObject, readBody, text, UUID } from "../_shared/http.ts";
import { harmless } from "../_shared/markdown.ts";
import type { Message, Metadata } from "../_shared/message.ts";
import { slackAddress } from "../_shared/slack.ts";
import { exportSpec } from "./export.ts";
import { GitHubThread } from "./github.ts";
import { notify, SlackThread } from "./slack.ts";
import type { Deps, Thread } from "./thread.ts";

const MOST = 2 * 1024 * 1024;

/** The way back: the mirror's signed webhook brings replies to GitHub and Slack. */
export function handler(deps: Deps): (request: Request) => Promise<Response> {
  return guarded("deliver", async (request) => {
    try {
      return await handle(request, deps);
    } catch (error) {
      // GitHub's trouble is none of Slack's: this event waits, and the mirror goes on with others
      if (!(error instanceof Upstream) || error instanceof Busy) throw error;
      throw new Busy(error.message, Math.max(error.retryAfter, 10));
    }
  }, deps.log);
}

async function handle(request: Request, deps: Deps): Promise<Response> {
  const body = asText(await readBody(request, MOST));
  verify(request, body, deps.secrets);
  const event = request.headers.get("webhook-id") ?? "";
  const payload = asObject(body);
  const data = get(payload, "data") as JsonObject | undefined;
  const type = text(payload, "type");
  if (!UUID.test(event) || typeof data !== "object" || data === null) {
    throw new UserError(422, "shape", "this is not an event of Atlas: webhook-id or data is missing");
  }
  if (type === "notification") return Response.json(await notify(deps, event, text(data, "text")));
  if (!UUID.test(text(data, "task_id"))) return Response.json({ ignored: `${type} is about no task` });
  if (type === "export") return Response.json(await exportSpec(deps, event, data));
  return Response.json(await deliver(deps, event, type, data));
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
    "set ATLAS_WEBHOOK_SECRET here to what the mirror has",
  );
}

async function deliver(deps: Deps, event: string, type: string, data: JsonObject): Promise<JsonObject> {
  const metadata = (get(data, "metadata") ?? {}) as Metadata;
  const task = text(data, "task_id");
  const thread = threadOf(deps, metadata.reply_to ?? "", task, event);
  if (thread === null) return { ignored: "it came from nowhere that this function brings replies to" };
  const [row] = await deps.db`select atlas.get_delivery(${task}) as found`;
  const found = row?.found as { state: string; reply_to: string | null } | null;
  // the address in the message is a convenience; the one in the database is the truth
  if (found === null || found.reply_to !== metadata.reply_to) {
    throw new Refused(`task ${task} has no such address`, 422);
  }
  const isOver = !["queued", "running"].includes(found.state);
  const sign = signOf(type, data, metadata);
  if (sign === null) {
    if (data.msg_type !== "spec") return { ignored: `${type} is shown nowhere` };
    await showEnd(thread, task, data as unknown as Message);
    return { delivered: type };
  }
  // late or replayed: what the thread shows by now is newer
  if (isOver) return { ignored: `task ${task} is ${found.state}` };
  await thread.show(sign);
  // its end may have been shown while this was on its way, and be covered by it now
  const [after] = await deps.db`select atlas.get_delivery(${task}) as found`;
  if (after?.found?.final) await showEnd(thread, task, after.found.final as Message);
  return { delivered: type };
}

/** How a task ended: its reply, or why there is none. */
async function showEnd(thread: Thread, task: string, message: Message): Promise<void> {
  const { metadata } = message;
  if (metadata.status === "completed") return await thread.reply(message.content, footer(task, metadata));
  if (metadata.status === "needs_input") {
    return await thread.show(`${harmless(message.content)}\n\nAnswer here, as you asked.`);
  }
  const error = (metadata.error ?? {}) as JsonObject;
  const [why, code] = ["message", "code"].map((name) => text(error, name) || metadata.status);
  await thread.show(`Atlas could not answer: ${why} (\`${code}\`)`);
}

/** What is said of a task that is not over; null for its end, and for what is said nowhere. */
function signOf(type: string, data: JsonObject, metadata: Metadata): string | null {
  if (type === "spec.in_progress") return "Atlas is working on it.";
  if (type === "progress") return progress(metadata);
  const error = (metadata.error ?? {}) as JsonObject;
  if (get(asContent(data), "command") !== "escalate" || text(error, "code") === "outbox_dead") return null;
  return `Atlas is waiting: ${text(error, "message")}. It goes on by itself, and people were told.`;
}

function asContent(data: JsonObject): JsonObject {
  try {
    return asObject(text(data, "content"));
  } catch {
    return {};
  }
}

function threadOf(deps: Deps, address: string, task: string, event: string): Thread | null {
  const github = githubAddress(address);
  if (github !== null && deps.github !== undefined) {
    return new GitHubThread(deps.db, deps.github, github, address, task, event);
  }
  const slack = slackAddress(address);
  if (slack !== null && deps.slack !== undefined) {
    return new SlackThread(deps.db, deps.slack, slack, address, task, event);
  }
  return null;
}

function progress(metadata: Metadata): string {
  const found = (metadata.progress ?? {}) as JsonObject;
  const how = [`${text(found, "characters")} characters after ${text(found, "seconds")} s`, metadata.model ?? ""]
    .filter(Boolean).join(", ");
  return `Atlas is working on it: ${how}.`;
}

function footer(task: string, metadata: Metadata): string {
  const cut = metadata.truncated ? " The reply was cut by its budget." : "";
  return `Atlas, task ${task}, ${metadata.model ?? "no model"}, ${metadata.tokens ?? 0} tokens.${cut}`;
}
