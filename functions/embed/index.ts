import { serve } from "../_shared/serve.ts";
import { handler, keysOf, MODEL, type Session } from "./handler.ts";

// what Supabase's edge runtime brings, and plain Deno does not
declare const Supabase: { ai: { Session: new (model: string) => Session } };

serve(handler({ session: new Supabase.ai.Session(MODEL), keys: keysOf(Deno.env.get) }));
