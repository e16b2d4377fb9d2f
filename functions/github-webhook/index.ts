import { connect } from "../_shared/db.ts";
import { GitHub } from "../_shared/github.ts";
import { needed, secretsOf } from "../_shared/http.ts";
import { serve } from "../_shared/serve.ts";
import { handler } from "./handler.ts";

const env = Deno.env.get;

serve(
  handler({
    db: connect(needed("SUPABASE_DB_URL", env("SUPABASE_DB_URL"))),
    github: new GitHub({
      appId: needed("GITHUB_APP_ID", env("GITHUB_APP_ID")),
      privateKey: needed("GITHUB_APP_PRIVATE_KEY", env("GITHUB_APP_PRIVATE_KEY")),
      apiUrl: env("GITHUB_API_URL") ?? "https://api.github.com",
    }),
    secrets: secretsOf("GITHUB_WEBHOOK_SECRET", env),
  }),
);
