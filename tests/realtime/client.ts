// The official JavaScript client against the door: what it hears is printed, a JSON line each.
import { createClient } from "@supabase/supabase-js";

const [url, key, topic] = Deno.args;
const client = createClient(url, key, { auth: { persistSession: false } });
const say = (what: unknown) => console.log(JSON.stringify(what));
const channel = client.channel(topic, { config: { private: true, broadcast: { self: true, ack: true } } })
  .on("broadcast", { event: "*" }, (message) => say({ broadcast: message }))
  .on("postgres_changes", { event: "INSERT", schema: "public", table: "architect_in" }, (change) => say({ change }))
  .on("system", {}, (message) => say({ system: message }))
  .subscribe((status) => {
    say({ status });
    if (status === "SUBSCRIBED") {
      channel.send({ type: "broadcast", event: "hello", payload: { from: "js" } }).then((sent) => say({ sent }));
    }
  });
setTimeout(async () => {
  say({ left: await client.removeChannel(channel) });
  Deno.exit(0);
}, 6000);
