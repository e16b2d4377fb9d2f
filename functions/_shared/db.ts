import postgres from "postgres";

export type Db = postgres.Sql;

/** Postgres as the router's role. Few connections: each isolate has its own, and a pooler may stand between. */
export function connect(url: string): Db {
  return postgres(url, {
    max: 4,
    prepare: false,
    idle_timeout: 20,
    connect_timeout: 5,
    onnotice: () => {},
    connection: { application_name: "atlas router", statement_timeout: 8000 },
  });
}
