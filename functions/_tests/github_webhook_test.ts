import assert from "node:assert/strict";
import { Upstream } from "../_shared/errors.ts";
import { GitHub } from "../_shared/github.ts";
import { commandOf, handler } from "../github-webhook/handler.ts";
import { hmac } from "../_shared/http.ts";
import { comment, delivery, env, github, number, SECRET, withDb } from "./support.ts";

const quiet = { log: () => {} };

Deno.test("a comment becomes one task, however often and by whichever delivery it comes", () =>
  withDb(async (db) => {
    const take = handler({ db, github: github(), secrets: [SECRET], ...quiet });
    const payload = comment("/atlas How do we release faster?");
    const first = await take(delivery("issue_comment", payload, { id: "d1-" + number() }));
    const answered = await first.json();
    assert.equal(first.status, 202, JSON.stringify(answered));
    const again = await take(delivery("issue_comment", payload, { id: "d2-" + number() }));
    assert.deepEqual([again.status, (await again.json()).created], [200, false]);
    const both = await Promise.all([1, 2, 3].map(() => take(delivery("issue_comment", payload, { id: "d3" }))));
    assert.deepEqual(both.map((one) => one.status), [200, 200, 200]);
    const rows = await db`select data, sender from public.architect_in where task_id = ${answered.task_id}`;
    assert.equal(rows.length, 1);
    const { content, metadata } = rows[0]!.data;
    assert.ok(content.startsWith("How do we release faster?\n"));
    assert.equal(metadata.reply_to, `github:o/r#${payload.issue.number}`);
    assert.equal(metadata.sender_key, "github:583231");
    assert.equal(content.match(/^----- end -----$/gm).length, 1, "what is quoted cannot end the quotation");
    assert.ok(content.includes("Releases are slow") && content.includes("- ---- end -----"));
  }));

Deno.test("who takes a comment's id first does not swallow the comment", () =>
  withDb(async (db) => {
    const take = handler({ db, github: github(), secrets: [SECRET] });
    const payload = comment("/atlas How do we release faster?");
    const name = `github:issue_comment:${payload.repository.id}:${payload.comment.id}`;
    const [derived] = await db`select atlas.derive_id(${name}) as id, atlas.derive_id(${name}, 1) as next`;
    const data = { task_id: derived!.id, role: "architect", msg_type: "chat", content: "mine", metadata: {} };
    await db`insert into public.architect_in (data, sender) values (${db.json(data)}, ${crypto.randomUUID()})`;
    const answered = await (await take(delivery("issue_comment", payload))).json();
    assert.deepEqual(answered, { task_id: derived!.next, state: "queued", created: true });
    const again = await (await take(delivery("issue_comment", payload))).json();
    assert.deepEqual(again, { task_id: derived!.next, state: "queued", created: false });
  }));

Deno.test("a mapped person is the sender", () =>
  withDb(async (db) => {
    const user = crypto.randomUUID(), id = number();
    await db`insert into atlas.identity (provider, external_id, user_id) values ('github', ${String(id)}, ${user})`;
    const payload = comment("/atlas Who am I?");
    payload.comment.user.id = id;
    const { task_id } =
      await (await handler({ db, github: github(), secrets: [SECRET] })(delivery("issue_comment", payload))).json();
    const [row] = await db`select sender, sender_key from atlas.task where id = ${task_id}`;
    assert.deepEqual({ ...row }, { sender: user, sender_key: user });
  }));

Deno.test("a pull request's diff goes along, within the budget", () =>
  withDb(async (db) => {
    const take = handler({ db, github: github(), secrets: [SECRET] });
    const payload = comment("/atlas", { isPull: true });
    payload.issue.body = "wörter ".repeat(20_000);
    const { task_id } = await (await take(delivery("issue_comment", payload))).json();
    const [row] = await db`select data ->> 'content' as content from public.architect_in where task_id = ${task_id}`;
    assert.match(row!.content, /\+new/);
    assert.match(row!.content, /\[cut: \d+ of \d+ characters\]/);
    assert.ok(row!.content.length < 12_000, String(row!.content.length));
  }));

Deno.test("the label makes a task of the issue, for those who may write", () =>
  withDb(async (db) => {
    const take = handler({ db, github: github(), secrets: [SECRET] });
    const { comment: _, ...rest } = comment("");
    const labeled = { ...rest, action: "labeled", label: { name: "atlas" } };
    const made = await take(delivery("issues", labeled));
    assert.equal(made.status, 202);
    assert.equal(
      (await take(delivery("issues", labeled))).status,
      200,
      "another delivery of the same labelling is no second task",
    );
    const [row] = await db`select title from atlas.task where id = ${(await made.json()).task_id}`;
    assert.equal(row!.title, "Design what this issue asks for: Releases are slow");
    const other = await take(delivery("issues", { ...labeled, label: { name: "bug" } }));
    assert.match((await other.json()).ignored, /asks for nothing/);
    const stranger = await take(delivery("issues", { ...labeled, sender: { id: 1, login: "mallory", type: "User" } }));
    assert.match((await stranger.json()).ignored, /may not write/);
  }));

Deno.test("bots, strangers, edits and other comments make no task", () =>
  withDb(async (db) => {
    const take = handler({ db, github: github(), secrets: [SECRET] });
    const before = await db`select count(*) from atlas.task`;
    for (
      const payload of [
        comment("/atlas x", { type: "Bot" }),
        comment("/atlas x", { login: "mallory" }),
        { ...comment("/atlas x"), action: "edited" },
        { ...comment("/atlas x"), action: "deleted" },
        comment("see /atlas x"),
        comment("/atlassian x"),
        comment("> /atlas x"),
      ]
    ) {
      const answer = await take(delivery("issue_comment", payload));
      assert.equal(answer.status, 200);
      assert.ok((await answer.json()).ignored);
    }
    assert.deepEqual(await db`select count(*) from atlas.task`, before);
  }));

Deno.test("what is not signed, too large, or no JSON is refused with its reason", () =>
  withDb(async (db) => {
    const take = handler({ db, github: github(), secrets: ["old " + SECRET, SECRET], ...quiet });
    const payload = comment("/atlas x");
    const cases: [Request, number][] = [
      [delivery("issue_comment", payload, { secret: "wrong" }), 401],
      [delivery("issue_comment", payload, { headers: { "x-hub-signature-256": "" } }), 401],
      [delivery("issue_comment", payload, { headers: { "x-hub-signature-256": "sha1=0" } }), 401],
      [delivery("issue_comment", payload, { headers: { "x-github-delivery": "" } }), 400],
      [delivery("issue_comment", payload, { headers: { "content-type": "application/x-www-form-urlencoded" } }), 415],
      [delivery("issue_comment", [1]), 400],
      [delivery("issue_comment", "text"), 400],
      [new Request("https://x/", { method: "GET" }), 405],
    ];
    const big = "x".repeat(10 * 1024 * 1024 + 1);
    cases.push([
      new Request("https://x/", {
        method: "POST",
        body: big,
        headers: { "x-hub-signature-256": `sha256=${hmac(SECRET, big)}` },
      }),
      413,
    ]);
    for (const [request, status] of cases) {
      const answer = await take(request);
      const { error } = await answer.json();
      assert.equal(answer.status, status, JSON.stringify(error));
      assert.ok(error.code && error.message);
    }
  }));

Deno.test("what breaks inside is logged with an id, and answered with the id alone", () =>
  withDb(async (db) => {
    const lines: string[] = [];
    const broken = new Proxy(db, { apply: () => Promise.reject(new Error("password=hunter2")) });
    const answer = await handler({ db: broken, github: github(), secrets: [SECRET], log: (line) => lines.push(line) })(
      delivery("issue_comment", comment("/atlas x")),
    );
    assert.equal(answer.status, 500);
    const said = await answer.text();
    assert.ok(!said.includes("hunter2"));
    assert.ok(lines[0]!.includes(JSON.parse(said).error.id) && lines[0]!.includes("hunter2"));
  }));

Deno.test("GitHub's own hiccups are waited for, and its absence is never a silent loss", () =>
  withDb(async (db) => {
    let calls = 0;
    const flaky = github();
    const call = flaky.call.bind(flaky);
    flaky.call = async (...words: Parameters<typeof call>) => {
      calls += 1;
      if (calls < 3) throw new Upstream("GitHub does not answer");
      return await call(...words);
    };
    const take = handler({ db, github: flaky, secrets: [SECRET], pause: () => Promise.resolve() });
    assert.equal((await take(delivery("issue_comment", comment("/atlas Will it wait?")))).status, 202);
    assert.equal(calls, 3);
    const gone = new GitHub({ ...flaky.settings, apiUrl: "http://127.0.0.1:1" });
    const away = handler({ db, github: gone, secrets: [SECRET], pause: () => Promise.resolve() });
    const answer = await away(delivery("issue_comment", comment("/atlas Is it lost?")));
    assert.equal(answer.status, 503, "GitHub shows the delivery as failed, and it can be sent again");
  }));

Deno.test("names of repositories are what GitHub has, and no paths", () =>
  withDb(async (db) => {
    const take = handler({ db, github: github(), secrets: [SECRET] });
    const named = (full_name: string) => {
      const payload = comment("/atlas x");
      return { ...payload, repository: { ...payload.repository, full_name } };
    };
    assert.equal((await take(delivery("issue_comment", named("mona_acme/r")))).status, 202);
    for (const bad of ["o/..", "o/.", "../r", "o/r/../x", "o/r?x", "o/r#1", ""]) {
      assert.ok((await (await take(delivery("issue_comment", named(bad)))).json()).ignored, bad);
    }
    const nul = await take(delivery("issue_comment", comment("/atlas \0 x")));
    assert.equal(nul.status, 422);
  }));

Deno.test("a push to the default branch tells of changed documents, once", () =>
  withDb(async (db) => {
    const take = handler({ db, github: github(), secrets: [SECRET] });
    const after = "c".repeat(40);
    const repository = { ...comment("").repository, pushed_at: number() };
    const commits = [
      { added: ["docs/a.md", "src/x.py"], modified: [], removed: [] },
      { added: [], modified: ["README.md"], removed: ["docs/a.md"] },
    ];
    const push = { ref: "refs/heads/main", after, deleted: false, repository, commits };
    const first = await (await take(delivery("push", push))).json();
    assert.equal(first.created, true);
    const again = await (await take(delivery("push", push))).json();
    assert.deepEqual([again.task_id, again.created], [first.task_id, false], "the same push by another delivery");
    const later = { ...push, repository: { ...repository, pushed_at: number() } };
    assert.equal((await take(delivery("push", later))).status, 202, "the branch comes back to a commit");
    const rows =
      await db`select data from public.architect_in where data #>> '{metadata,kind}' = 'docs.added' and data ->> 'content' like ${
        "%" + after + "%"
      }`;
    assert.equal(rows.length, 2);
    assert.deepEqual(JSON.parse(rows[0]!.data.content), {
      command: "docs.added",
      repository: "https://github.com/o/r.git",
      ref: after,
      changed: ["README.md"],
      removed: ["docs/a.md"],
    });
    const nothing = [{ ...push, ref: "refs/heads/other" }, { ...push, commits: [{ added: ["src/x.py"] }] }, {
      ...push,
      deleted: true,
    }, {
      ...push,
      after: "0".repeat(40),
    }];
    for (const one of nothing) assert.ok((await (await take(delivery("push", one))).json()).ignored);
  }));

Deno.test("every example that GitHub publishes is taken without a crash, and none makes a task", () =>
  withDb(async (db) => {
    const take = handler({ db, github: github(), secrets: [SECRET] });
    const before = await db`select count(*) from atlas.task`;
    let taken = 0;
    for (const edition of ["api.github.com", "ghes-31", "ghes-32", "ghes-33", "ghes-34", "ghes-35"]) {
      const corpus = JSON.parse(await Deno.readTextFile(`${env("WEBHOOK_EXAMPLES")}/${edition}/index.json`));
      for (const { name, examples } of corpus) {
        for (const example of examples) {
          const answer = await take(delivery(name, example));
          const said = await answer.text();
          assert.ok([200, 202].includes(answer.status), `${edition} ${name}: ${answer.status} ${said}`);
          taken += 1;
        }
      }
    }
    assert.ok(taken > 500, String(taken));
    assert.deepEqual(await db`select count(*) from atlas.task`, before);
    console.log(`${taken} examples`);
  }));

Deno.test("a command stands at the very start of a comment", () => {
  assert.deepEqual(commandOf("/atlas  How?\r\nMore"), { command: "ask", question: "How?\r\nMore" });
  assert.deepEqual(commandOf("/atlas\nHow?"), { command: "ask", question: "How?" });
  assert.deepEqual(commandOf("\n/atlas pr \n"), { command: "pull_request", question: "" });
  assert.deepEqual(commandOf("/atlas issues"), { command: "issues", question: "" });
  for (const text of ["", "atlas x", "/atlasx", "x\n/atlas y", "`/atlas`"]) assert.equal(commandOf(text), null);
});

Deno.test("a record's pull request decides it, and issues of work items say how far they are", () =>
  withDb(async (db) => {
    const take = handler({ db, github: github(), secrets: [SECRET], ...quiet });
    const send = async (event: string, payload: unknown) => await (await take(delivery(event, payload))).json();
    const repository = { id: 1, full_name: "o/r" }, sender = { id: 583231, login: "octocat", type: "User" };
    const record = async () => {
      const [row] = await db`select gen_random_uuid() as id`;
      const data = { task_id: row!.id, role: "architect", msg_type: "chat", content: "Which?", metadata: {} };
      await db`insert into public.architect_in (data) values (${db.json(data)})`;
      const reply = {
        ...data,
        msg_type: "spec",
        content: "# Use one\n",
        metadata: { status: "completed", kind: "adr" },
      };
      const [out] = await db`insert into public.architect_out (data, task_id) values (${db.json(reply)}, ${
        row!.id
      }) returning id`;
      await db`update atlas.task set state = 'completed', out_id = ${out!.id}, finished_at = now() where id = ${
        row!.id
      }`;
      return row!.id as string;
    };
    const post = async (task: string, part: string, pull: number) =>
      await db`insert into atlas.post (task_id, part, event_id, address, state, lease_expires_at, external_id) values (${task}, ${part}, ${crypto.randomUUID()}, 'github:o/r', 'posted', now(), ${
        String(pull)
      })`;
    const [merged, closed, pull] = [await record(), await record(), number()];
    await post(merged, "pull_request", pull);
    await post(closed, "pull_request", pull + 1);
    const of = (n: number, isMerged: boolean) => ({
      action: "closed",
      repository,
      sender,
      pull_request: { number: n, merged: isMerged, html_url: `https://github.com/o/r/pull/${n}` },
    });
    assert.equal((await send("pull_request", of(pull, true))).status, "accepted");
    assert.equal((await send("pull_request", of(pull + 1, false))).status, "rejected");
    assert.match((await send("pull_request", of(pull + 1, true))).ignored, /already, rejected/);
    assert.match((await send("pull_request", of(pull + 2, true))).ignored, /not a pull request of a record/);
    const [row] = await db`select decided_by, reason from atlas.decision where task_id = ${merged}`;
    assert.deepEqual({ ...row }, {
      decided_by: "github:octocat",
      reason: `https://github.com/o/r/pull/${pull} was merged by octocat`,
    });

    await post(merged, "issue:0", pull + 10);
    const moved = (action: string, why: string | null) => ({
      action,
      repository,
      sender,
      issue: { number: pull + 10, state_reason: why },
    });
    for (
      const [action, why, state] of [["closed", "completed", "done"], ["reopened", "reopened", "taken"], [
        "closed",
        "not_planned",
        "dropped",
      ]] as const
    ) {
      assert.equal((await send("issues", moved(action, why))).state, state);
      const [item] = await db`select state, taken_by from atlas.work_item where task_id = ${merged} and number = 1`;
      assert.deepEqual({ ...item }, { state, taken_by: "github:octocat" });
    }
    const other = { ...moved("closed", "completed"), issue: { number: pull + 99, state_reason: "completed" } };
    assert.match((await send("issues", other)).ignored, /not an issue of a work item/);
  }));

Deno.test("who may not write does not decide", () =>
  withDb(async (db) => {
    const take = handler({ db, github: github(), secrets: [SECRET], ...quiet });
    const payload = {
      action: "closed",
      repository: { id: 1, full_name: "o/r" },
      sender: { id: 7, login: "mallory", type: "User" },
      pull_request: { number: 7, merged: false, html_url: "x" },
    };
    const answered = await (await take(delivery("pull_request", payload))).json();
    assert.match(answered.ignored, /mallory may not write/);
  }));
