// A minimal client for a UI: ask a question, and follow its reply as it is written.
// The tables are the truth; Realtime only makes it quick. It runs in a browser as it stands.
import type { SupabaseClient } from "@supabase/supabase-js";
import type { Database } from "./database.types.ts";

export type Atlas = SupabaseClient<Database>;

/** Asks; answers the task's id. The same id again asks once. */
export async function ask(client: Atlas, question: string, taskId: string = crypto.randomUUID()): Promise<string> {
  const data = { task_id: taskId, role: "architect", msg_type: "chat", content: question, metadata: { schema_ver: 1 } };
  const { error } = await client.schema("atlas").rpc("submit_task", { data });
  if (error) throw new Error(error.hint ? `${error.message}: ${error.hint}` : error.message);
  return taskId;
}

interface Part {
  attempt: number;
  generation: number;
  offset: number;
  text: string;
}

/**
 * Calls show with the whole text so far, each time there is more of it; answers the final message.
 * A socket that is cut, or joined late, misses deltas: what does not join on is read from atlas.reply_part.
 */
export async function follow(client: Atlas, taskId: string, show: (text: string) => void): Promise<string> {
  let at = { attempt: 0, generation: 0 };
  let text = "";
  let wake = () => {};

  // offsets count Unicode code points, and so does the spread; .length would count UTF-16 units
  const length = () => [...text].length;
  const feed = (part: Part): boolean => {
    const order = part.attempt - at.attempt || part.generation - at.generation;
    if (order < 0) return true;
    const held = order === 0 ? length() : 0;
    if (part.offset > held) return false;
    // a broadcast carries all since the one before: some of it may have been read from the tables already
    if (part.offset + [...part.text].length <= held) return true;
    text = (order === 0 ? [...text].slice(0, part.offset).join("") : "") + part.text;
    at = part;
    show(text);
    return true;
  };
  const readParts = async () => {
    const { data, error } = await client.schema("atlas").rpc("read_parts", {
      p_task_id: taskId,
      p_attempt: at.attempt,
      p_generation: at.generation,
      p_offset: length() - 1,
    });
    if (error) throw new Error(error.message);
    for (const part of data) feed(part);
  };

  // broadcasts are for streams that somebody watches; where this fails, the tables are left
  const reader = crypto.randomUUID();
  const watch = async () => {
    await client.schema("atlas").rpc("watch_task", { p_task_id: taskId, p_reader: reader });
  };
  await watch();
  const watching = setInterval(watch, 10_000);

  const channel = client
    .channel(`task:${taskId}`, { config: { private: true } })
    .on("broadcast", { event: "delta" }, ({ payload }) => {
      if (!feed(payload as Part)) wake();
    })
    .on(
      "postgres_changes",
      { event: "INSERT", schema: "public", table: "architect_out", filter: `task_id=eq.${taskId}` },
      () => wake(),
    )
    .subscribe(() => wake());
  try {
    while (true) {
      const woken = new Promise<void>((resolve) => (wake = resolve));
      const { data: task, error } = await client
        .schema("atlas").from("task").select("state, out_id, error_message").eq("id", taskId).single();
      if (error) throw new Error(error.message);
      await readParts();
      if (task.out_id !== null) {
        const { data: reply } = await client.from("architect_out").select("data").eq("id", task.out_id).single();
        const message = reply?.data as { content: string };
        if (task.state !== "completed") throw new Error(`${task.state}: ${task.error_message}`);
        show(message.content);
        return message.content;
      }
      // a delta that does not join on, a row of architect_out, a rejoin; and in any case before a second is over
      let timer: ReturnType<typeof setTimeout> | undefined;
      await Promise.race([woken, new Promise<void>((resolve) => (timer = setTimeout(resolve, 750)))]);
      clearTimeout(timer);
    }
  } finally {
    clearInterval(watching);
    await client.removeChannel(channel);
  }
}
