// deno run --allow-net --allow-env ask.ts "How do we deploy?"
// Settings: SUPABASE_URL, SUPABASE_PUBLISHABLE_KEY, ATLAS_EMAIL, ATLAS_PASSWORD.
import { createClient } from "@supabase/supabase-js";
import { ask, follow } from "./atlas.ts";
import type { Database } from "./database.types.ts";

const setting = (name: string): string => {
  const value = Deno.env.get(name);
  if (!value) throw new Error(`${name} is not set`);
  return value;
};

const client = createClient<Database>(setting("SUPABASE_URL"), setting("SUPABASE_PUBLISHABLE_KEY"), {
  auth: { persistSession: false, autoRefreshToken: true },
});
const { error } = await client.auth.signInWithPassword({
  email: setting("ATLAS_EMAIL"),
  password: setting("ATLAS_PASSWORD"),
});
if (error) throw error;
await client.realtime.setAuth();

let shown = "";
let steps = 0;
const taskId = await ask(client, Deno.args[0] ?? "How do we deploy?");
console.error(`task ${taskId}`);
const reply = await follow(client, taskId, (text) => {
  // a fallback or a repair begins anew: what was shown before is void
  if (!text.startsWith(shown)) console.log("\n--- the reply begins anew ---");
  console.log(text.startsWith(shown) ? text.slice(shown.length) : text);
  shown = text;
  steps += 1;
});
console.error(`${[...reply].length} characters in ${steps} steps`);
await client.auth.signOut();
await client.realtime.disconnect();
Deno.exit(0);
