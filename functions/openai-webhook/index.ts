import { connect } from "../_shared/db.ts";
import { needed } from "../_shared/http.ts";
import { serve } from "../_shared/serve.ts";
import { handler } from "./handler.ts";

const env = Deno.env.get;

serve(
  handler({
    db: connect(needed("SUPABASE_DB_URL", env("SUPABASE_DB_URL"))),
    secrets: needed("OPENAI_WEBHOOK_SECRET", env("OPENAI_WEBHOOK_SECRET")).split(/\s+/),
    apiKey: needed("OPENAI_API_KEY", env("OPENAI_API_KEY")),
    apiUrl: env("OPENAI_BASE_URL") ?? "https://api.openai.com/v1",
  }),
);
