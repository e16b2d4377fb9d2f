import type { Json, JsonObject } from "./http.ts";

/** A message of the bus: docs/event_examples, `atlas schema`. The database checks it; these are its names. */
export interface Message {
  /** Left out where the database derives it from the message's name: submit.ts. */
  task_id?: string;
  role: string;
  msg_type: "chat" | "spec" | "control";
  content: string;
  metadata: Metadata;
}

export interface Metadata {
  [key: string]: Json | undefined;
  status?: string;
  model?: string | null;
  tokens?: number;
  parent_id?: string | null;
  schema_ver?: number;
  reply_to?: string;
  truncated?: boolean;
  kind?: string;
}

/** A UUIDv7: ids that are made together lie together in Postgres's indexes. */
export function newId(now = Date.now(), random = crypto.getRandomValues(new Uint8Array(10))): string {
  const bytes = new Uint8Array(16);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(now) << 16n);
  bytes.set(random, 6);
  bytes[6] = 0x70 | (bytes[6]! & 0x0f);
  bytes[8] = 0x80 | (bytes[8]! & 0x3f);
  return Array.from(bytes, (byte, at) => ([4, 6, 8, 10].includes(at) ? "-" : "") + byte.toString(16).padStart(2, "0"))
    .join("");
}

/** A question. reply_to: where deliver brings the answer. */
export function chat(content: string, metadata: JsonObject): Message {
  return { role: "architect", msg_type: "chat", content, metadata: { schema_ver: 2, ...metadata } };
}

/** `docs.added`: what the team knows changed in a repository. For the indexer, whose role is rag. */
export function docsAdded(
  repository: string,
  ref: string,
  changed: string[],
  removed: string[],
): Message {
  const content = JSON.stringify({ command: "docs.added", repository, ref, changed, removed });
  return {
    role: "rag",
    msg_type: "control",
    content,
    metadata: { schema_ver: 2, kind: "docs.added" },
  };
}
