import { connect } from "../_shared/db.ts";
import { needed } from "../_shared/http.ts";
import { serve } from "../_shared/serve.ts";
import { handler } from "./handler.ts";

const env = Deno.env.get;

serve(
  handler({
    db: connect(needed("SUPABASE_DB_URL", env("SUPABASE_DB_URL"))),
    secrets: needed("SLACK_SIGNING_SECRET", env("SLACK_SIGNING_SECRET")).split(/\s+/),
    log: console.error,
  }),
);
