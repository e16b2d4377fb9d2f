import { connect } from "../_shared/db.ts";
import { needed, secretsOf } from "../_shared/http.ts";
import { serve } from "../_shared/serve.ts";
import { handler } from "./handler.ts";

const env = Deno.env.get;

serve(
  handler({
    db: connect(needed("SUPABASE_DB_URL", env("SUPABASE_DB_URL"))),
    secrets: secretsOf("SLACK_SIGNING_SECRET", env),
    log: console.error,
  }),
);
