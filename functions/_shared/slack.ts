import { Refused, Upstream } from "./errors.ts";
import type { JsonObject } from "./http.ts";
import { text } from "./http.ts";

export interface SlackSettings {
  token: string;
  apiUrl: string;
}

const TRY_AGAIN = new Set([
  "ratelimited",
  "internal_error",
  "fatal_error",
  "service_unavailable",
  "request_timeout",
  "team_added_to_org",
]);

/** Slack's Web API with a bot's token. Errors: Upstream, Refused. */
export class Slack {
  #botId: string | undefined;

  constructor(readonly settings: SlackSettings) {}

  async call(method: string, body: JsonObject, allow: string[] = []): Promise<JsonObject> {
    let response: Response;
    let found: JsonObject;
    try {
      response = await fetch(`${this.settings.apiUrl}/${method}`, {
        method: "POST",
        headers: { authorization: `Bearer ${this.settings.token}`, "content-type": "application/json; charset=utf-8" },
        body: JSON.stringify(body),
        redirect: "manual",
        signal: AbortSignal.timeout(10_000),
      });
      if (response.status === 429 || response.status >= 500) {
        await response.body?.cancel();
        throw new Upstream(
          `Slack: ${method}: HTTP ${response.status}`,
          Number(response.headers.get("retry-after") ?? 0) || 0,
        );
      }
      found = await response.json();
    } catch (error) {
      if (error instanceof Upstream) throw error;
      throw new Upstream(`Slack does not answer ${method} (${(error as Error).name})`);
    }
    if (found.ok === true) return found;
    const said = text(found, "error") || `HTTP ${response.status}`;
    if (allow.includes(said)) return found;
    if (TRY_AGAIN.has(said)) throw new Upstream(`Slack: ${method}: ${said}`);
    throw new Refused(`Slack: ${method}: ${said}`, 422);
  }

  /** The id that our own messages carry. */
  async botId(): Promise<string> {
    this.#botId ??= text(await this.call("auth.test", {}), "bot_id");
    return this.#botId;
  }
}

/** `slack:team:channel:thread`; thread is a message's ts, or `/<uuid>` while its first message is yet to be posted. */
export function slackAddress(address: string): { channel: string; thread: string | null } | null {
  const found = /^slack:([A-Z0-9]+):([A-Z0-9]+):(\d+\.\d+|\/[0-9a-f-]{36})$/.exec(address);
  if (found === null) return null;
  return { channel: found[2]!, thread: found[3]!.startsWith("/") ? null : found[3]! };
}
