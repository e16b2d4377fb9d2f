import type { Db } from "./db.ts";
import { Busy, Refused } from "./errors.ts";

/** A post that is there. */
export interface Post {
  id: string;
  url?: string;
}

/** How a place outside takes posts. look: finds an earlier post of ours by its marker, made since then. */
export interface Place {
  address: string;
  make(): Promise<Post>;
  look(since: Date): Promise<Post | null>;
}

/**
 * Longer than one post may take (a token, its installation and the post are three calls of ten seconds at most), and than GitHub or
 * Slack may take to list what was made.
 */
const LEASE = "60 seconds";

/**
 * Makes a post once for a task and part, whatever happens in between: what an earlier call may have made is looked for first. made
 * says whether this call made it.
 *
 * The window that remains: GitHub or Slack lists a post later than a minute after it was made, and its maker never heard of it.
 */
export async function once(
  db: Db,
  task: string,
  part: string,
  event: string,
  place: Place,
): Promise<Post & { made: boolean }> {
  const [row] =
    await db`select verdict, external_id, url, since from atlas.begin_post(${task}, ${part}, ${event}, ${place.address}, ${LEASE})`;
  switch (row?.verdict) {
    case "posted":
      return { id: row.external_id, url: row.url ?? undefined, made: false };
    case "busy":
      throw new Busy(`another call is posting ${part} of task ${task}`, 5);
    case "look_up": {
      const found = await place.look(new Date(row.since));
      if (found !== null) {
        await finish(db, task, part, found);
        return { ...found, made: false };
      }
      // looking takes its time: what is made now is made under a fresh lease, or not at all
      const [lease] = await db`select atlas.extend_post(${task}, ${part}, ${LEASE}) as held`;
      if (lease?.held !== true) throw new Busy(`looking for ${part} of task ${task} took too long`, 5);
    }
  }
  let post: Post;
  try {
    post = await place.make();
  } catch (error) {
    // refused for certain: nothing was made. Anything else may have been, and the lease leaves time for it to show
    if (error instanceof Refused) await drop(db, task, part);
    throw error;
  }
  await finish(db, task, part, post);
  return { ...post, made: true };
}

async function finish(db: Db, task: string, part: string, post: Post): Promise<void> {
  await db`select atlas.finish_post(${task}, ${part}, ${post.id}, ${post.url ?? null})`;
}

/** Forgets a post that is gone, so that it is made anew. */
export async function drop(db: Db, task: string, part: string): Promise<void> {
  await db`select atlas.drop_post(${task}, ${part})`;
}
