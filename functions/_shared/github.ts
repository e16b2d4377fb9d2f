import { createPrivateKey } from "node:crypto";
import { importPKCS8, SignJWT } from "jose";
import { Refused, Upstream } from "./errors.ts";
import { type Json, type JsonObject, text } from "./http.ts";

export interface GitHubSettings {
  appId: string;
  /** The App's key as GitHub gives it (PKCS#1), or PKCS#8. */
  privateKey: string;
  apiUrl: string;
}

export interface Answer {
  status: number;
  json: Json;
  text: string;
}

/** GitHub as an App: a token an installation, kept until it is about to expire. Errors: Upstream, Refused. */
export class GitHub {
  #tokens = new Map<string, { token: string; until: number }>();

  constructor(readonly settings: GitHubSettings, readonly now: () => number = Date.now) {}

  /** A call for a repository. allow: statuses that are an answer, and no error. */
  async call(
    repository: string,
    method: string,
    path: string,
    body?: JsonObject,
    more: { accept?: string; allow?: number[] } = {},
  ): Promise<Answer> {
    const token = await this.#token(repository);
    return await this.#fetch(token, method, path, body, more.accept, more.allow);
  }

  /** Every item of a list, page by page, at most so many pages. */
  async *list(repository: string, path: string, pages = 20): AsyncGenerator<JsonObject> {
    const join = path.includes("?") ? "&" : "?";
    for (let page = 1; page <= pages; page++) {
      const found = (await this.call(repository, "GET", `${path}${join}per_page=100&page=${page}`)).json;
      const items = Array.isArray(found) ? found : [];
      for (const item of items) yield item as JsonObject;
      if (items.length < 100) return;
    }
  }

  async #token(repository: string): Promise<string> {
    const known = this.#tokens.get(repository);
    if (known !== undefined && known.until > this.now() + 60_000) return known.token;
    const app = await this.#appToken();
    const found = await this.#fetch(app, "GET", `/repos/${repository}/installation`);
    const made = await this.#fetch(app, "POST", `/app/installations/${text(found.json, "id")}/access_tokens`, {});
    const token = text(made.json, "token");
    this.#tokens.set(repository, { token, until: Date.parse(text(made.json, "expires_at")) || this.now() + 600_000 });
    return token;
  }

  async #appToken(): Promise<string> {
    const pem = createPrivateKey(this.settings.privateKey.replaceAll("\\n", "\n")).export({
      type: "pkcs8",
      format: "pem",
    });
    const seconds = Math.floor(this.now() / 1000);
    return await new SignJWT({}).setProtectedHeader({ alg: "RS256" }).setIssuer(this.settings.appId)
      .setIssuedAt(seconds - 30).setExpirationTime(seconds + 540).sign(await importPKCS8(String(pem), "RS256"));
  }

  async #fetch(
    token: string,
    method: string,
    path: string,
    body?: JsonObject,
    accept?: string,
    allow: number[] = [],
  ): Promise<Answer> {
    let response: Response;
    let said: string;
    try {
      response = await fetch(this.settings.apiUrl + path, {
        method,
        headers: {
          accept: accept ?? "application/vnd.github+json",
          authorization: `Bearer ${token}`,
          "user-agent": "atlas-router",
          "x-github-api-version": "2022-11-28",
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        redirect: "manual",
        signal: AbortSignal.timeout(10_000),
      });
      said = await response.text();
    } catch (error) {
      throw new Upstream(`GitHub does not answer (${(error as Error).name})`);
    }
    const isJson = (response.headers.get("content-type") ?? "").includes("json");
    let json: Json = null;
    if (isJson && said !== "") {
      try {
        json = JSON.parse(said);
      } catch {
        throw new Upstream("GitHub's answer is not JSON");
      }
    }
    const moved = [301, 302, 307, 308].includes(response.status) ? response.headers.get("location") : null;
    if (moved?.startsWith(`${this.settings.apiUrl}/`) && !path.includes("moved=1")) {
      // a repository was renamed or transferred; the same call goes to where it is now, once
      const there = moved.slice(this.settings.apiUrl.length);
      const again = `${there}${there.includes("?") ? "&" : "?"}moved=1`;
      return await this.#fetch(token, method, again, body, accept, allow);
    }
    if (response.ok || allow.includes(response.status)) return { status: response.status, json, text: said };
    const message = `GitHub: ${method} ${path.split("?")[0]}: ${response.status} ${
      text(json, "message").slice(0, 200)
    }`;
    const wait = Number(response.headers.get("retry-after") ?? NaN);
    const spent = response.headers.get("x-ratelimit-remaining") === "0";
    const isLimit = response.status === 429 ||
      (response.status === 403 && (Number.isFinite(wait) || spent || /rate limit/i.test(message)));
    if (isLimit) {
      const reset = Number(response.headers.get("x-ratelimit-reset") ?? 0) - this.now() / 1000;
      // GitHub asks for a minute at least where it names no time (a secondary limit)
      throw new Upstream(message, Number.isFinite(wait) ? wait : spent ? Math.max(1, Math.min(reset, 3600)) : 60);
    }
    if (response.status >= 500 || response.status === 408) throw new Upstream(message);
    if (response.status === 401) this.#tokens.clear();
    throw new Refused(message, response.status);
  }
}

/** Whether a post was made by this App: anybody can write our marker, and only we can write as us. */
export function isOurs(item: JsonObject, appId: string): boolean {
  return text(item, "performed_via_github_app", "id") === appId;
}

/** `github:owner/repo#7`, taken apart; null for any other address. */
export function githubAddress(address: string): { repository: string; number: number } | null {
  const found = /^github:([^#]+)#(\d{1,9})$/.exec(address);
  if (found === null || !isRepository(found[1]!)) return null;
  return { repository: found[1]!, number: Number(found[2]) };
}

/** owner/name, as GitHub has them; users of enterprises have an underscore. */
export function isRepository(name: string): boolean {
  return /^[A-Za-z0-9_-]+\/[A-Za-z0-9._-]+$/.test(name) && !/\/\.{1,2}$/.test(name);
}

/** May this person give Atlas work here? Those who may write to the repository. */
export async function mayWrite(github: GitHub, repository: string, login: string): Promise<boolean> {
  const path = `/repos/${repository}/collaborators/${encodeURIComponent(login)}/permission`;
  const found = await github.call(repository, "GET", path, undefined, { allow: [404, 403] });
  return found.status === 200 && ["admin", "write"].includes(text(found.json, "permission"));
}
