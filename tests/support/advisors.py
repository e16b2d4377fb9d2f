"""Rule 0029 of Supabase's advisors: definer functions that people may call, each with its reason."""

from __future__ import annotations

DEFINER = {
    "atlas.accept": "accepts a reply of a project, for its deciders: it asks auth.uid() and atlas.member",
    "atlas.reject": "rejects a reply of a project, for its deciders: it asks auth.uid() and atlas.member",
    "atlas.import_decisions": "adds decisions of a project, for its deciders: it asks auth.uid() and atlas.member",
    "atlas.read_prompts": "reads prompts of tasks that the caller may read: it asks atlas.owns_task",
    "atlas.answer_task": "answers a task that the caller may read: it asks atlas.owns_task",
    "atlas.work_items": "reads work items of tasks that the caller may read: it asks atlas.owns_task",
    "atlas.take_work_item": "takes a work item of a task that the caller may read: it asks atlas.owns_task",
    "atlas.report_work_item": "reports on a work item that the caller has taken: it compares atlas.actor()",
    "atlas.supersede": "changes which decision of a project holds, for its deciders: it asks auth.uid() and atlas.member",
    "atlas.cancel_task": "cancels the caller's own task alone: it asks auth.uid(), and whose task it is",
    "atlas.my_projects": "policies call it: the projects of auth.uid(), read past the policies that need it",
    "atlas.my_scopes": "the policy of spend calls it: the budget scopes of auth.uid() and of its projects",
    "atlas.owns_task": "policies of Realtime's topics call it: one boolean about auth.uid()",
    "atlas.quote_task": "says the caller's own budgets, and what questions of anybody cost in the median",
    "atlas.set_budget": "an admin of a project sets that project's limits alone: it asks auth.uid() and atlas.member",
    "atlas.task_progress": "of a task that the caller may read: how many workers are alive, its turn, and its cost",
    "atlas.known_documents": "hashes of a project's documents, for its members: it asks auth.uid() and atlas.member",
    "atlas.index_document": "writes a document of a project, for its members, within bounds: it asks auth.uid() and atlas.member",
    "atlas.stale_documents": "names of a project's documents, for its members: it asks auth.uid() and atlas.member",
    "atlas.drop_documents": "drops a project's documents, for its members: it asks auth.uid() and atlas.member",
    "atlas.names_of": "addresses of those who share a project with the caller: it asks auth.uid() and atlas.member",
    "atlas.retry_task": "retries the caller's own ended task alone: it asks auth.uid(), and whose task it is",
    "atlas.watch_task": "writes who watches a task that the caller may read: it asks auth.uid(), and whose task it is",
    "rag.candidates": "finds ids by an index that row level security would forbid; it takes the caller's projects from auth.uid(), "
    "and rag.search shows rows under row level security",
}
"""Why each definer function may be called by `authenticated`."""
