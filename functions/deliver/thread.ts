import type { Db } from "../_shared/db.ts";
import type { GitHub } from "../_shared/github.ts";
import type { Slack } from "../_shared/slack.ts";

export interface Deps {
  db: Db;
  /** whsec_…; several while they are rotated. */
  secrets: string[];
  github?: GitHub;
  slack?: Slack;
  /** The channel of notifications. */
  channel?: string;
  log?: (line: string) => void;
}

/** Where a reply is shown while it is made, and when it is done. */
export interface Thread {
  /** Edits the one post that shows how far the task is; makes it first where it is missing. */
  show(body: string): Promise<void>;
  /** Shows the whole of a reply, in as many posts as it needs. */
  reply(spec: string, footer: string): Promise<void>;
}
