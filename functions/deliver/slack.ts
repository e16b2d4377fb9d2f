import type { Db } from "../_shared/db.ts";
import type { JsonObject } from "../_shared/http.ts";
import { get, text } from "../_shared/http.ts";
import { mrkdwn, split } from "../_shared/markdown.ts";
import { drop, once, type Post } from "../_shared/posts.ts";
import type { Slack } from "../_shared/slack.ts";
import type { Deps, Thread } from "./thread.ts";

/** Slack's limit of a section's text, and how many of them we put into one message (Slack takes 50 blocks). */
export const SECTION = 3000;
const SECTIONS = 12;

/** A thread of a channel. Without a thread yet (a slash command), the first message begins one. */
export class SlackThread implements Thread {
  constructor(
    readonly db: Db,
    readonly slack: Slack,
    readonly at: { channel: string; thread: string | null },
    readonly address: string,
    readonly task: string,
    readonly event: string,
  ) {}

  async show(body: string): Promise<void> {
    await this.put("reply:0", [mrkdwn(body)], await this.thread());
  }

  async reply(spec: string, footer: string): Promise<void> {
    const thread = await this.thread();
    const sections = [...split(mrkdwn(spec), SECTION), mrkdwn(`_${footer}_`)];
    for (let n = 0; n * SECTIONS < sections.length; n++) {
      await this.put(`reply:${n}`, sections.slice(n * SECTIONS, (n + 1) * SECTIONS), thread);
    }
  }

  /** The message under which everything is said. */
  async thread(): Promise<string> {
    if (this.at.thread !== null) return this.at.thread;
    const [row] = await this.db`select title from atlas.task where id = ${this.task}`;
    return (await this.post("thread", [`*Question:* ${mrkdwn(String(row?.title ?? ""))}`], null)).id;
  }

  async put(part: string, sections: string[], thread: string): Promise<void> {
    const post = await this.post(part, sections, thread);
    if (post.made) return;
    const body = this.message(part, sections);
    const found = await this.slack.call("chat.update", { channel: this.at.channel, ts: post.id, ...body }, [
      "message_not_found",
    ]);
    if (found.ok === true) return;
    await drop(this.db, this.task, part);
    await this.post(part, sections, thread);
  }

  async post(part: string, sections: string[], thread: string | null): Promise<Post & { made: boolean }> {
    const { channel } = this.at;
    return await once(this.db, this.task, part, this.event, {
      address: this.address,
      make: async () => {
        const where: JsonObject = thread === null ? { channel } : { channel, thread_ts: thread };
        return {
          id: text(await this.slack.call("chat.postMessage", { ...where, ...this.message(part, sections) }), "ts"),
        };
      },
      look: (since) => find(this.slack, channel, thread, this.task, part, since),
    });
  }

  message(part: string, sections: string[]): JsonObject {
    return {
      text: sections[0]!.slice(0, 300), // what a notification shows
      blocks: sections.map((section) => ({ type: "section", text: { type: "mrkdwn", text: section, verbatim: true } })),
      metadata: { event_type: "atlas_post", event_payload: { task_id: this.task, part, event_id: this.event } },
      unfurl_links: false,
      unfurl_media: false,
    };
  }
}

async function find(
  slack: Slack,
  channel: string,
  thread: string | null,
  task: string,
  part: string,
  since: Date,
): Promise<Post | null> {
  const us = await slack.botId();
  const oldest = String(since.getTime() / 1000 - 60); // clocks differ
  let cursor = "";
  do {
    const common = { channel, include_all_metadata: true, limit: 200, oldest, ...(cursor ? { cursor } : {}) };
    const page = thread === null
      ? await slack.call("conversations.history", common)
      : await slack.call("conversations.replies", { ...common, ts: thread });
    const messages = get(page, "messages");
    for (const message of Array.isArray(messages) ? messages : []) {
      const payload = get(message, "metadata", "event_payload");
      // other apps can write our metadata; only we can write as our bot
      if (text(message, "bot_id") === us && text(payload, "task_id") === task && text(payload, "part") === part) {
        return { id: text(message, "ts") };
      }
    }
    cursor = text(page, "response_metadata", "next_cursor");
  } while (cursor !== "");
  return null;
}

/** What people should know, in the channel for it. */
export async function notify(deps: Deps, event: string, said: string): Promise<JsonObject> {
  if (deps.slack === undefined || !deps.channel) {
    return { ignored: "SLACK_BOT_TOKEN and SLACK_NOTIFY_CHANNEL are not both set" };
  }
  const address = `slack:-:${deps.channel}:-`;
  const thread = new SlackThread(deps.db, deps.slack, { channel: deps.channel, thread: null }, address, event, event);
  await thread.post(`notice:${event}`, [mrkdwn(said)], null);
  return { delivered: "notification" };
}
