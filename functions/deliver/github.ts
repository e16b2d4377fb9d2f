import type { Db } from "../_shared/db.ts";
import { Refused } from "../_shared/errors.ts";
import { type GitHub, isOurs } from "../_shared/github.ts";
import { type JsonObject, text } from "../_shared/http.ts";
import { harmless, split } from "../_shared/markdown.ts";
import { drop, once, type Post } from "../_shared/posts.ts";
import type { Thread } from "./thread.ts";

/** GitHub's limit of a comment, in characters; an emoji counts as two here, which errs on the short side. */
export const COMMENT = 65_536;

/** A hidden line that names task, part and event. Part and task find a post again; the event says what asked for it. */
export function marker(task: string, part: string, event: string): string {
  return `<!-- atlas task=${task} part=${part} event=${event} -->`;
}

/** The comments of an issue or a pull request. */
export class GitHubThread implements Thread {
  constructor(
    readonly db: Db,
    readonly github: GitHub,
    readonly at: { repository: string; number: number },
    readonly address: string,
    readonly task: string,
    readonly event: string,
  ) {}

  async show(body: string): Promise<void> {
    await this.put("reply:0", harmless(body));
  }

  async reply(spec: string, footer: string): Promise<void> {
    const foot = `\n\n<sub>${harmless(footer)}</sub>`;
    const parts = split(harmless(spec), COMMENT - foot.length - 200);
    for (const [n, part] of parts.entries()) {
      await this.put(`reply:${n}`, n === parts.length - 1 ? part + foot : part);
    }
  }

  /** The comment of this part: made if there is none, edited if it differs, made anew if somebody removed it. */
  async put(part: string, body: string): Promise<Post> {
    const whole = `${marker(this.task, part, this.event)}\n${body}`;
    const { repository, number } = this.at;
    const post = await once(this.db, this.task, part, this.event, {
      address: this.address,
      make: async () =>
        comment(
          (await this.github.call(repository, "POST", `/repos/${repository}/issues/${number}/comments`, {
            body: whole,
          })).json as JsonObject,
        ),
      look: (since) => findComment(this.github, this.at, this.task, part, since),
    });
    if (post.made) return post;
    try {
      await this.github.call(repository, "PATCH", `/repos/${repository}/issues/comments/${post.id}`, { body: whole });
      return post;
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 404) throw error;
      await drop(this.db, this.task, part);
      return await this.put(part, body);
    }
  }
}

function comment(found: JsonObject): Post {
  return { id: text(found, "id"), url: text(found, "html_url") };
}

async function findComment(
  github: GitHub,
  at: { repository: string; number: number },
  task: string,
  part: string,
  since: Date,
): Promise<Post | null> {
  const from = new Date(since.getTime() - 60_000).toISOString(); // clocks differ
  for await (
    const found of github.list(at.repository, `/repos/${at.repository}/issues/${at.number}/comments?since=${from}`)
  ) {
    if (
      text(found, "body").startsWith(`<!-- atlas task=${task} part=${part} `) && isOurs(found, github.settings.appId)
    ) return comment(found);
  }
  return null;
}
