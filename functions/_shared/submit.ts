import type { Db } from "./db.ts";
import type { Message } from "./message.ts";

export interface Accepted {
  task_id: string | null;
  state: string;
  created: boolean;
}

export interface Delivery {
  source: "github" | "slack" | "pubsub";
  /** The sender's id of the delivery: the same one again is no second message. */
  id: string;
}

/** Who wrote it, there: a user where atlas.identity knows them, else a sender of their own. */
export interface Writer {
  provider: "github" | "slack";
  id: string;
}

/**
 * Puts a message on the bus, once a delivery. Raises what the database refuses.
 *
 * name: what names it there, such as a comment's number; its task_id is derived from that by the database, which has the key.
 */
export async function accept(
  db: Db,
  delivery: Delivery,
  message: Message,
  name: string | null = null,
  writer?: Writer,
): Promise<Accepted> {
  const [row] = await db<Accepted[]>`
    select task_id, state, created from atlas.accept_message(${delivery.source}, ${delivery.id}, ${
    db.json(message as never)
  },
      ${writer?.provider ?? null}, ${writer?.id ?? null}, ${name})`;
  if (row === undefined) throw new Error("accept_message answered nothing");
  return row;
}
