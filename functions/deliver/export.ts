import { Buffer } from "node:buffer";
import type { Db } from "../_shared/db.ts";
import { Refused } from "../_shared/errors.ts";
import { type GitHub, githubAddress, isOurs } from "../_shared/github.ts";
import { type Json, type JsonObject, text } from "../_shared/http.ts";
import { harmless, titleOf, withoutOpening, workItems } from "../_shared/markdown.ts";
import type { Message } from "../_shared/message.ts";
import { drop, once } from "../_shared/posts.ts";
import { GitHubThread, marker } from "./github.ts";
import type { Deps } from "./thread.ts";

const FOLDER = "docs/adr";

interface Spec {
  task: string;
  event: string;
  repository: string;
  content: string;
  title: string;
  slug: string;
}

/** A spec as one pull request, or its work items as issues; both only on request. */
export async function exportSpec(deps: Deps, event: string, data: JsonObject): Promise<JsonObject> {
  const github = deps.github;
  const task = text(data, "task_id");
  const repository = text(data, "repository");
  if (github === undefined) throw new Refused("GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY are not set here", 422);
  const [row] = await deps.db`select atlas.get_delivery(${task}) as found`;
  const message = row?.found?.spec as Message | null;
  if (!message) throw new Refused(`task ${task} has no spec`, 422);
  const content = withoutOpening(message.content, text(message.metadata.read_first, "opening"));
  const spec = {
    task,
    event,
    repository,
    content,
    ...titleOf(content, String(row?.found?.title ?? "")),
  };
  const said = text(data, "export") === "issues"
    ? await issues(deps.db, github, spec, message.metadata.truncated === true)
    : await pullRequest(deps.db, github, spec);
  const at = githubAddress(text(data, "reply_to"));
  if (at !== null) {
    await new GitHubThread(deps.db, github, at, text(data, "reply_to"), task, event).put(
      `notice:${event}`,
      harmless(said),
    );
  }
  return { delivered: "export", said };
}

async function pullRequest(db: Db, github: GitHub, spec: Spec): Promise<string> {
  const { repository, task } = spec;
  const repo = (path: string) => `/repos/${repository}${path}`;
  const owner = repository.split("/")[0]!;
  const branch = `atlas/adr-${task}`;
  const base = text((await github.call(repository, "GET", repo(""))).json, "default_branch");
  const listed = (await github.call(repository, "GET", repo(`/pulls?state=all&head=${owner}:${branch}`))).json;
  const known = (Array.isArray(listed) ? listed : []) as JsonObject[];
  const merged = known.find((pull) => pull.merged_at != null);
  if (merged !== undefined) return `The record of this spec is merged already: ${text(merged, "html_url")}`;

  const head = await github.call(repository, "GET", repo(`/git/ref/heads/${branch}`), undefined, { allow: [404] });
  if (head.status === 404) {
    const sha = text((await github.call(repository, "GET", repo(`/git/ref/heads/${base}`))).json, "object", "sha");
    // 422: another call has just made it
    await github.call(repository, "POST", repo("/git/refs"), { ref: `refs/heads/${branch}`, sha }, { allow: [422] });
  }
  const [ours, theirs] = [await records(github, repository, branch), await records(github, repository, base)];
  const mine = ours.find((file) => !theirs.some((other) => other.name === file.name));
  const others = mine === undefined ? await pending(github, repository, branch) : [];
  const numbers = [...theirs, ...others].map((file) => Number(/^(\d{4})-/.exec(file.name)?.[1] ?? 0));
  const name = mine?.name ?? `${String(Math.max(0, ...numbers) + 1).padStart(4, "0")}-${spec.slug}.md`;
  const path = `${FOLDER}/${name}`;
  const content = Buffer.from(`${spec.content.trimEnd()}\n`).toString("base64");
  if (mine === undefined || mine.sha !== await blobSha(spec.content)) {
    await github.call(repository, "PUT", repo(`/contents/${path}`), {
      message: `${mine === undefined ? "Add" : "Update"} ${name}`,
      content,
      branch,
      ...(mine === undefined ? {} : { sha: mine.sha }),
    });
  }
  const open = known.find((pull) => pull.state === "open");
  // one that somebody closed is not reopened behind their back; the wish makes another
  if (open === undefined && known.length > 0) await drop(db, task, "pull_request");
  const post = await once(db, task, "pull_request", spec.event, {
    address: `github:${repository}`,
    make: async () => {
      if (open !== undefined) return asPost(open);
      const body = `${
        marker(task, "pull_request", spec.event)
      }\nArchitecture record \`${path}\`, written by Atlas for task \`${task}\`.`;
      return asPost(
        (await github.call(repository, "POST", repo("/pulls"), {
          title: harmless(spec.title),
          head: branch,
          base,
          body,
        })).json as JsonObject,
      );
    },
    look: () => Promise.resolve(open === undefined ? null : asPost(open)),
  });
  return `${post.made && open === undefined ? "Opened" : "Updated"} a pull request with \`${path}\`: ${post.url}`;
}

/** Records that wait in other pull requests of ours: their numbers are taken. */
async function pending(github: GitHub, repository: string, branch: string): Promise<{ name: string; sha: string }[]> {
  const found = await github.call(repository, "GET", `/repos/${repository}/git/matching-refs/heads/atlas/adr-`);
  const refs = (Array.isArray(found.json) ? found.json : []).map((ref) => text(ref, "ref").replace("refs/heads/", ""));
  const lists = await Promise.all(
    refs.filter((ref) => ref !== branch).slice(-20).map((ref) => records(github, repository, ref)),
  );
  return lists.flat();
}

async function records(github: GitHub, repository: string, ref: string): Promise<{ name: string; sha: string }[]> {
  const found = await github.call(
    repository,
    "GET",
    `/repos/${repository}/contents/${FOLDER}?ref=${encodeURIComponent(ref)}`,
    undefined,
    { allow: [404] },
  );
  return (Array.isArray(found.json) ? found.json : []).map((file: Json) => ({
    name: text(file, "name"),
    sha: text(file, "sha"),
  }))
    .filter((file) => /^\d{4}-.*\.md$/.test(file.name));
}

/** Git's name of a file's content: tells whether anything would change. */
async function blobSha(content: string): Promise<string> {
  const bytes = new TextEncoder().encode(`${content.trimEnd()}\n`);
  const whole = Buffer.concat([Buffer.from(`blob ${bytes.length}\0`), bytes]);
  return Buffer.from(await crypto.subtle.digest("SHA-1", whole)).toString("hex");
}

async function issues(db: Db, github: GitHub, spec: Spec, truncated: boolean): Promise<string> {
  if (truncated) throw new Refused(`the reply to task ${spec.task} was cut: its work items are not filed`, 422);
  const { repository, task } = spec;
  const lines = [];
  for (const [n, item] of workItems(spec.content).entries()) {
    const part = `issue:${n}`;
    const head = `<!-- atlas task=${task} part=${part} `;
    const post = await once(db, task, part, spec.event, {
      address: `github:${repository}`,
      make: async () =>
        asPost(
          (await github.call(repository, "POST", `/repos/${repository}/issues`, {
            title: harmless(item.title),
            body: `${marker(task, part, spec.event)}\n${harmless(item.body)}\n\n<sub>Of “${harmless(spec.title)}”</sub>`
              .slice(0, 65_536),
          })).json as JsonObject,
        ),
      look: async (since) => {
        const from = new Date(since.getTime() - 60_000).toISOString();
        for await (const found of github.list(repository, `/repos/${repository}/issues?state=all&since=${from}`)) {
          if (text(found, "body").startsWith(head) && isOurs(found, github.settings.appId)) return asPost(found);
        }
        return null;
      },
    });
    lines.push(`- ${harmless(item.title)}: ${post.url}`);
  }
  return lines.length === 0 ? "This spec has no work items." : `Filed the work items:\n${lines.join("\n")}`;
}

function asPost(found: JsonObject): { id: string; url: string } {
  return { id: text(found, "number"), url: text(found, "html_url") };
}
