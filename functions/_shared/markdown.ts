/** Markdown for places that have limits of their own. Specs are untrusted text: nothing in them may call people or pose as ours. */

const FENCE = /^(\s{0,3})(`{3,}(?=[^`]*$)|~{3,})(.*)$/;

/**
 * Parts of at most so many UTF-16 units: cut before a heading where there is one, else between paragraphs, lines or words. A code
 * fence that is cut is closed, and opened again in the next part.
 */
export function split(text: string, limit: number): string[] {
  const parts: string[] = [];
  let rest = text;
  let reopen = "";
  while (reopen.length + rest.length > limit) {
    const room = limit - reopen.length - 8; // for the fence that closes it
    let at = cutAt(rest, room);
    // half of a surrogate pair is not text
    if (/[\ud800-\udbff]$/.test(rest.slice(0, at))) at -= 1;
    const piece = reopen + rest.slice(0, at);
    const fence = openFence(piece);
    parts.push(fence === null ? piece.trimEnd() : `${piece.trimEnd()}\n${fence.mark}`);
    reopen = fence === null ? "" : `${fence.line}\n`;
    rest = rest.slice(at).replace(/^\n+/, "");
  }
  if (rest !== "" || parts.length === 0) parts.push(reopen + rest);
  return parts;
}

function cutAt(text: string, room: number): number {
  const head = text.slice(0, room);
  for (const mark of ["\n## ", "\n### ", "\n\n", "\n", " "]) {
    const at = head.lastIndexOf(mark);
    if (at > room / 2) return at + (mark.startsWith("\n") ? 1 : 0);
  }
  return room;
}

function openFence(text: string): { mark: string; line: string } | null {
  let open: { mark: string; line: string } | null = null;
  for (const line of text.split("\n")) {
    const found = FENCE.exec(line);
    if (found === null) continue;
    const mark = found[2]!;
    // the name of its language is kept, and no more: such a line may be of any length
    if (open === null) {
      const name = /^\s*[\w+#.-]{1,20}/.exec(found[3]!)?.[0] ?? "";
      open = { mark: mark.slice(0, 20), line: mark.slice(0, 20) + name };
    } else if (mark.startsWith(open.mark) && found[3]!.trim() === "") open = null;
  }
  return open;
}

/**
 * The text with what is outside fenced code changed. A fence counts at the margin, after an empty line, and with no backtick beside it:
 * anything else may be no code where it is shown. Code in a line does not count: whether it is code depends on what is around it.
 */
function outsideCode(text: string, change: (part: string) => string): string {
  const parts: string[] = [];
  let inside: string | null = null, held: string[] = [], before = "";
  const flush = (isCode: boolean) => {
    if (held.length > 0) parts.push(isCode ? held.join("\n") : change(held.join("\n")));
    held = [];
  };
  for (const line of text.split("\n")) {
    const fence: string | undefined = /^(`{3,}|~{3,})[^`]*$/.exec(line)?.[1];
    if (inside === null && fence !== undefined && before.trim() === "") {
      flush(false);
      inside = fence;
      held.push(line);
    } else if (inside !== null && line.startsWith(inside) && /^(`+|~+)\s*$/.test(line)) {
      held.push(line);
      flush(true);
      inside = null;
    } else {
      held.push(line);
    }
    before = line;
  }
  flush(inside !== null);
  return parts.join("\n");
}

/** A keyword, and behind it what names an issue; in between no word, but punctuation and markup, which GitHub may read through. */
const CLOSES = new RegExp(
  String.raw`\b([cfr])((?:lose|ixe?|esolve)[sd]?)\b` +
    String
      .raw`(?=(?:[^\w<&[]|<(?!a\b)[^>\n]*>|<(?![^>\n]*>)|&lt;!--[^\n]*?-->|&(?!lt;!--|amp;)|\[[^\]\n]*\]\(|\[(?![^\]\n]*\]\())*` +
    String.raw`(?:[\w./-]*#\d|gh-\d|https?:\/\/|&amp;|<a\b))`,
  "gi",
);

const SILENT = "\u200b"; // a space without width: people see the name, and nobody is called

/**
 * For GitHub: mentions call nobody, no keyword closes an issue, no comment of HTML poses as our marker, and no block of HTML makes
 * text of what looks like code. Code is changed alike: whether it is code where it is shown depends on all that is around it.
 */
export function harmless(text: string): string {
  return text.replace(/<(?=(pre|script|style|textarea)\b|[!?])/gi, "&lt;")
    .replace(/&(?=#|commat;|num;)/gi, "&amp;")
    .replace(/@/g, `@${SILENT}`)
    .replace(CLOSES, `$1${SILENT}$2`);
}

/**
 * Slack's mrkdwn. Special mentions (<!channel>, <@U1>) are escaped like every other <; names call nobody in code either; a link
 * shows its address, since its text is written by whoever wrote the rest.
 */
export function mrkdwn(text: string): string {
  const escaped = text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replace(
    /@/g,
    `@${SILENT}`,
  );
  return outsideCode(
    escaped,
    (part) =>
      part.replace(/^&gt; /gm, "> ").replace(/^#{1,6} +(.*)$/gm, (_, title) => `*${String(title).replaceAll("*", "")}*`)
        .replace(/\*\*([^*\n]+)\*\*/g, "*$1*").replace(/^(\s*)[-*] /gm, "$1• ")
        .replace(/\[([^\]\n]+)\]\((https?:\/\/[^\s)|]+)\)/g, "$1 (<$2>)"),
  );
}

/** The work items of a spec: the third-level headings below "## Work items". */
export function workItems(spec: string): { title: string; body: string }[] {
  const section = /^## Work items\s*$([\s\S]*?)(?=^## |$(?![\s\S]))/m.exec(spec)?.[1] ?? "";
  return section.split(/^### +/m).slice(1).map((item) => {
    const [title = "", ...lines] = item.split("\n");
    return { title: title.trim().slice(0, 250), body: lines.join("\n").trim() };
  }).filter((item) => item.title !== "");
}

/** The title of a spec, and a name for its file. */
export function titleOf(spec: string, otherwise: string): { title: string; slug: string } {
  const title = (/^# +(.+)$/m.exec(spec)?.[1] ?? otherwise).trim().slice(0, 120) || "Decision";
  const slug = title.normalize("NFKD").replace(/[^\w\s-]/g, "").trim().toLowerCase().replace(/[\s_-]+/g, "-").slice(
    0,
    60,
  );
  return { title, slug: slug.replace(/^-|-$/g, "") || "decision" };
}

/** A reply without the line that says how its question stood to what was decided before. */
export function withoutOpening(spec: string, opening: string): string {
  return spec.startsWith(opening) ? spec.slice(opening.length) : spec;
}
