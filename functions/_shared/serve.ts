/** Serves a handler. Supabase's runtime has its own port; PORT and HOST are for other places. */
export function serve(handler: (request: Request) => Promise<Response>): void {
  Deno.serve({ port: Number(Deno.env.get("PORT") ?? 8000), hostname: Deno.env.get("HOST") ?? "0.0.0.0" }, handler);
}
