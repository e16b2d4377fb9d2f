import assert from "node:assert/strict";
import { harmless, mrkdwn, split, titleOf, withoutOpening, workItems } from "../_shared/markdown.ts";

Deno.test("parts keep to the limit, lose nothing, and cut before headings", () => {
  const text = Array.from({ length: 40 }, (_, n) => `## Part ${n}\n\n${"words of it ".repeat(30)}`).join("\n\n");
  const parts = split(text, 2000);
  assert.ok(parts.every((part) => part.length <= 2000));
  assert.ok(parts.slice(1).every((part) => part.startsWith("## ")));
  assert.equal(parts.join("\n").replace(/\s+/g, ""), text.replace(/\s+/g, ""));
});

Deno.test("a fence that is cut is closed, and opened again", () => {
  const text = "Before\n\n```yaml\n" + "key: value\n".repeat(400) + "```\n\nAfter";
  const parts = split(text, 1000);
  for (const part of parts) {
    assert.ok(part.length <= 1000);
    assert.equal((part.match(/^```/gm) ?? []).length % 2, 0, part.slice(0, 40));
  }
  assert.equal(parts.join("\n").match(/key: value/g)?.length, 400);
});

Deno.test("no character is halved, and one word without a break is cut all the same", () => {
  const parts = split("😀".repeat(5000), 1001);
  assert.ok(parts.every((part) => part.length <= 1001 && !/^[\udc00-\udfff]|[\ud800-\udbff]$/.test(part)));
  assert.equal(parts.join(""), "😀".repeat(5000));
  assert.deepEqual(split("", 100), [""]);
});

Deno.test("mentions call nobody, and nothing poses as our marker", () => {
  const found = harmless("@octocat, see `@decorator`:\n```py\n@cached\n```\n<!-- atlas task=x -->");
  assert.ok(!/@octocat/.test(found));
  assert.ok(!/@decorator/.test(found), "what looks like code in a line may be none");
  for (
    const code of [
      "x\n\n```py\n@cached\n```\n",
      "a paragraph\n```\n\n```\n@cached\n",
      "&#64;cached",
      "&#x00040;cached",
      "&commat;cached",
    ]
  ) {
    assert.ok(!/(@|&#64;|&#x0*40;|&commat;)cached/.test(harmless(code)), code);
    assert.ok(!/@\w/.test(mrkdwn(code)), code);
  }
  assert.ok(!/@&/.test(harmless("@&#111;ctocat")));
  assert.ok(!found.includes("<!--"));
});

Deno.test("what only looks like code calls nobody either", () => {
  for (
    const trick of [
      "\\`@octocat\\`",
      "``` a`b\n@octocat\n```",
      "- item\n  ```\n  code\n@octocat",
      "<div>\n```\n@octocat\n```",
      "<pre>\n\n```\n@octocat\n```\n</pre>",
      "> ```\n@octocat",
    ]
  ) {
    assert.ok(!/@octocat/.test(harmless(trick)), trick);
  }
  assert.ok(!/@(here|channel)/.test(mrkdwn("@here and @channel")));
});

Deno.test("a spec closes no issue", () => {
  for (
    const words of [
      "Closes #5",
      "fixes: o/r#5",
      "Resolved GH-5",
      "fix https://github.com/o/r/issues/5",
      "close &num;5",
      "closes <https://github.com/o/r/issues/5>",
      "Closes <b >#5</b>",
      "resolves [x](https://github.com/o/r/issues/1)",
      "fixes <!-- x --> #5",
      "fixes <a href=https://github.com/o/r/issues/5>x</a>",
      "Closes **#5**",
      "closes\\n#5",
      "closed: _o/r#5_",
    ]
  ) {
    assert.ok(!/(clos|fix|resolv)\w*:?\s+(\S*#\d|gh-|https|&num)/i.test(harmless(words)), words);
  }
  assert.equal(harmless("It fixes the release, as #5 says"), "It fixes the release, as #5 says");
  // nobody can write the keyword, or the name, in entities
  assert.equal(harmless("clos&#101;s #5, &#64octocat"), "clos&amp;#101;s #5, &amp;#64octocat");
  const began = performance.now();
  harmless("closes " + "<>[]( &lt;!-- --> &lt; ".repeat(2000));
  assert.ok(performance.now() - began < 2000, "no text makes it slow");
});

Deno.test("a fence line of any length is not repeated", () => {
  const parts = split("```" + "x".repeat(12_000) + "\n" + "code\n".repeat(3000), 3000);
  assert.ok(parts.length < 20, String(parts.length));
  assert.ok(parts.every((part) => part.length <= 3000));
});

Deno.test("Slack's own marks are escaped, Markdown becomes mrkdwn", () => {
  const found = mrkdwn("# Title\n\n**bold** <!channel> <@U1> [a](https://x.example/y)\n- item\n`**code**`");
  assert.equal(
    found,
    "*Title*\n\n*bold* &lt;!channel&gt; &lt;@\u200bU1&gt; a (<https://x.example/y>)\n• item\n`*code*`",
  );
});

Deno.test("work items are the third-level headings of their section", () => {
  const spec = "# T\n\n## Work items\n\n### One\n\n#### Context\n\nA\n\n### Two\n\nB\n\n## Sources\n\n### Not this\n";
  assert.deepEqual(workItems(spec), [{ title: "One", body: "#### Context\n\nA" }, { title: "Two", body: "B" }]);
  assert.deepEqual(workItems("# T\n\nnothing"), []);
  assert.deepEqual(workItems("# T\n\n## Work items\n\n### Last\n\nend").map((item) => item.body), ["end"]);
});

Deno.test("a title becomes a name of a file", () => {
  assert.deepEqual(titleOf("# Größe & Maß: ein “Plan”\n", "x"), {
    title: "Größe & Maß: ein “Plan”",
    slug: "groe-ma-ein-plan",
  });
  assert.equal(titleOf("no heading", "../../etc/passwd").slug, "etcpasswd");
  assert.equal(titleOf("# ???", "x").slug, "decision");
});

Deno.test("a record is exported without the line on how it stands to what is decided", () => {
  const opening = "> Would change ADR-1 (Use one).\n\n";
  assert.equal(withoutOpening(`${opening}# T\n`, opening), "# T\n");
  assert.equal(withoutOpening("# T\n", opening), "# T\n");
  assert.equal(withoutOpening("# T\n", ""), "# T\n");
});
