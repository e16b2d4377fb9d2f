import { createRemoteJWKSet } from "jose";
import { connect } from "../_shared/db.ts";
import { needed } from "../_shared/http.ts";
import { serve } from "../_shared/serve.ts";
import { handler, keysOf } from "./handler.ts";

const env = Deno.env.get;
const published = `${needed("SUPABASE_URL", env("SUPABASE_URL"))}/auth/v1/.well-known/jwks.json`;

serve(
  handler({
    db: connect(needed("SUPABASE_DB_URL", env("SUPABASE_DB_URL"))),
    // names that begin with SUPABASE_ cannot be set as secrets; JWT_SECRET is for projects with the legacy secret
    keys: keysOf(env("SUPABASE_JWT_SECRET") ?? env("JWT_SECRET"), createRemoteJWKSet(new URL(published))),
  }),
);
