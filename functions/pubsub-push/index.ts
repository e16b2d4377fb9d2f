import { createRemoteJWKSet } from "jose";
import { connect } from "../_shared/db.ts";
import { needed } from "../_shared/http.ts";
import { serve } from "../_shared/serve.ts";
import { handler } from "./handler.ts";

const env = Deno.env.get;

serve(
  handler({
    db: connect(needed("SUPABASE_DB_URL", env("SUPABASE_DB_URL"))),
    keys: createRemoteJWKSet(new URL(env("GOOGLE_JWKS_URL") ?? "https://www.googleapis.com/oauth2/v3/certs")),
    audience: needed("PUBSUB_PUSH_AUDIENCE", env("PUBSUB_PUSH_AUDIENCE")),
    email: needed("PUBSUB_PUSH_EMAIL", env("PUBSUB_PUSH_EMAIL")),
  }),
);
