/**
 * Errors of the router, in one tree.
 *
 * UserError    the caller's mistake: answered with its status, code, message and the next act
 * Upstream     GitHub, Slack or Google is away or asks to wait: answered 503, and worth another try
 * Busy         another call is at the same work: answered 409, and worth another try in a moment
 * Refused      GitHub or Slack will not have this: answered 422, and not worth another try
 *
 * Anything else is a defect: logged with an id, answered with a 500 that names the id and nothing more.
 */

export class UserError extends Error {
  constructor(readonly status: number, readonly code: string, message: string, readonly hint = "") {
    super(message);
  }
}

/** retryAfter: seconds. */
export class Upstream extends Error {
  constructor(message: string, readonly retryAfter = 0) {
    super(message);
  }
}

export class Busy extends Upstream {}

export class Refused extends Error {
  constructor(message: string, readonly status: number) {
    super(message);
  }
}

/** What the database refused, by the SQLSTATEs of docs/errors.md. */
const STATUSES: Record<string, number> = { AT001: 422, AT004: 404, AT005: 409, AT006: 403, "23505": 409, "42501": 403 };

function problem(status: number, code: string, message: string, more: Record<string, string> = {}): Response {
  const headers: Record<string, string> = more.retry_after ? { "retry-after": more.retry_after } : {};
  return Response.json({ error: { code, message, ...more } }, { status, headers });
}

/** The answer to whatever went wrong. log: one line of JSON. */
export function answer(error: unknown, name: string, log: (line: string) => void): Response {
  if (error instanceof UserError) {
    return problem(error.status, error.code, error.message, error.hint ? { hint: error.hint } : {});
  }
  if (error instanceof Upstream) {
    const wait = Math.ceil(error.retryAfter);
    const [status, code] = error instanceof Busy ? [409, "busy"] : [503, "upstream"];
    return problem(status, code, error.message, wait > 0 ? { retry_after: String(wait) } : {});
  }
  if (error instanceof Refused) {
    return problem(422, "refused", error.message);
  }
  const found = error as { code?: unknown; message?: unknown; hint?: unknown; stack?: unknown };
  const state = typeof found?.code === "string" ? found.code : "";
  const status = STATUSES[state];
  if (status !== undefined) {
    return problem(status, state, String(found.message), typeof found.hint === "string" ? { hint: found.hint } : {});
  }
  const id = crypto.randomUUID();
  log(
    JSON.stringify({
      level: "error",
      function: name,
      id,
      code: state,
      message: String(found?.message ?? error),
      stack: found?.stack,
    }),
  );
  return problem(500, "internal", "something went wrong here", { id });
}

/** A handler whose every error is an answer. */
export function guarded(
  name: string,
  handle: (request: Request) => Promise<Response>,
  log: (line: string) => void = console.error,
): (request: Request) => Promise<Response> {
  return async (request) => {
    try {
      return await handle(request);
    } catch (error) {
      return answer(error, name, log);
    }
  };
}
