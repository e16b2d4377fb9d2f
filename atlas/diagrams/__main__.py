"""The parsing process: a JSON list of diagrams on standard input, a list of errors (null: it parses) on standard output.

Mermaid runs in QuickJS, as mermaidx packs both. Only its parser is called: nothing is drawn, and no script of a diagram runs.
"""

from __future__ import annotations

import json
import resource
import sys
from importlib.resources import files
from typing import Any

import quickjs

_SECONDS = 2.0
"""CPU seconds of one diagram."""

_PARSE = """
var verdict;
mermaid.initialize({startOnLoad: false});
function parse(source) {
  verdict = null;
  mermaid.parse(source).then(() => { verdict = "ok" }, (error) => { verdict = String(error && error.message || error) });
}
"""


def main() -> None:
    """Parses all of them."""
    most = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    context = None
    errors: list[str | None] = []
    for source in json.load(sys.stdin):
        context = context or _context()
        error = _error(context, source)
        if error is not None and error.startswith(_GAVE_UP):
            # what was interrupted is in no state to go on
            context = None
        errors.append(error)
    json.dump(errors, sys.stdout)


_GAVE_UP = "too much to parse"


def _context() -> Any:
    assets = files("mermaidx").joinpath("assets")
    context = quickjs.Context()
    context.set_memory_limit(512 << 20)
    context.eval(files("atlas.diagrams").joinpath("dom.js").read_text(encoding="utf-8"))
    context.eval(assets.joinpath("mermaid.js").read_text(encoding="utf-8"))
    context.eval(_PARSE)
    context.set_time_limit(_SECONDS)
    return context


def _error(context: Any, source: str) -> str | None:
    try:
        context.eval(f"parse({json.dumps(source)})")
        while context.execute_pending_job():
            pass
        verdict = context.eval("verdict")
    except (quickjs.JSException, MemoryError) as error:
        return f"{_GAVE_UP} ({str(error).splitlines()[0] if str(error) else 'no memory'})"
    return None if verdict == "ok" else str(verdict)


main()
