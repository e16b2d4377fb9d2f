import { connect } from "../_shared/db.ts";
import { GitHub } from "../_shared/github.ts";
import { needed } from "../_shared/http.ts";
import { Slack } from "../_shared/slack.ts";
import { serve } from "../_shared/serve.ts";
import { handler } from "./handler.ts";

const env = Deno.env.get;
const [appId, privateKey, token] = [env("GITHUB_APP_ID"), env("GITHUB_APP_PRIVATE_KEY"), env("SLACK_BOT_TOKEN")];

serve(
  handler({
    db: connect(needed("SUPABASE_DB_URL", env("SUPABASE_DB_URL"))),
    secrets: needed("ATLAS_WEBHOOK_SECRET", env("ATLAS_WEBHOOK_SECRET")).split(/\s+/),
    // a team has one of them, or both
    ...(appId && privateKey
      ? { github: new GitHub({ appId, privateKey, apiUrl: env("GITHUB_API_URL") ?? "https://api.github.com" }) }
      : {}),
    ...(token ? { slack: new Slack({ token, apiUrl: env("SLACK_API_URL") ?? "https://slack.com/api" }) } : {}),
    channel: env("SLACK_NOTIFY_CHANNEL") ?? "",
  }),
);
