"""The rules of Supabase's advisors (splinter) from level WARN on, by their meaning, on the catalog: also where the CLI's own command
cannot run. Rules 0028 and 0029, definer functions that people may call, are looked at one by one."""

from __future__ import annotations

import asyncpg
import pytest

from tests.support.advisors import DEFINER
from tests.support.core import ROOT

OURS = "('atlas', 'rag', 'public')"

RULES = {
    "0007 policy_exists_rls_disabled, 0013 rls_disabled": f"""
        select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in {OURS} and c.relkind in ('r', 'p') and not c.relrowsecurity""",
    "0010 security_definer_view": f"""
        select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in {OURS} and c.relkind = 'v'
          and not coalesce('security_invoker=true' = any (c.reloptions), false)""",
    "0011 function_search_path_mutable": f"""
        select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in {OURS} and not exists (select from unnest(p.proconfig) s where s like 'search_path=%')""",
    "0003 auth_rls_initplan": f"""
        select polrelid::regclass || ': ' || polname from pg_policy p join pg_class c on c.oid = p.polrelid
        join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in {OURS} and exists (
          select from unnest(array[pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)]) e
          where regexp_replace(e, '\\( SELECT auth\\.\\w+\\(\\) AS \\w+\\)', '', 'gi') ~ 'auth\\.\\w+\\(\\)|current_setting')""",
    "0006 multiple_permissive_policies": f"""
        select schemaname || '.' || tablename from pg_policies cross join unnest(roles) r
        where schemaname in {OURS} and permissive = 'PERMISSIVE' group by schemaname, tablename, r, cmd having count(*) > 1""",
    "0009 duplicate_index": f"""
        select min(indexrelid::regclass::text) from pg_index i join pg_class c on c.oid = i.indrelid
        join pg_namespace n on n.oid = c.relnamespace where n.nspname in {OURS}
        group by indrelid, indkey::text, indclass::text, coalesce(pg_get_expr(indexprs, indrelid), ''),
          coalesce(pg_get_expr(indpred, indrelid), '') having count(*) > 1""",
    "0014 extension_in_public": """
        select extname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where n.nspname = 'public'""",
    "0015 rls_references_user_metadata": f"""
        select tablename || ': ' || policyname from pg_policies
        where schemaname in {OURS} and coalesce(qual, '') || coalesce(with_check, '') ~ 'user_metadata'""",
    "0024 rls_policy_always_true": f"""
        select tablename || ': ' || policyname from pg_policies
        where schemaname in {OURS} and cmd <> 'SELECT' and 'true' in (coalesce(qual, ''), coalesce(with_check, ''))""",
    "0028 anon_security_definer_function_executable": f"""
        select p.oid::regproc::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in {OURS} and p.prosecdef and p.prorettype <> 'trigger'::regtype
          and has_function_privilege('anon', p.oid, 'execute')""",
}

BREAKS = {
    "0007 policy_exists_rls_disabled, 0013 rls_disabled": "create table atlas.x (id int primary key)",
    "0010 security_definer_view": "create view atlas.x as select 1 as a",
    "0011 function_search_path_mutable": "create function atlas.x() returns int language sql as 'select 1'",
    "0003 auth_rls_initplan": "create policy x on atlas.worker for select to authenticated using (id = auth.uid())",
    "0006 multiple_permissive_policies": "create policy x on atlas.task for select to authenticated using (false)",
    "0009 duplicate_index": "create index x on atlas.task (queued_at desc)",
    "0014 extension_in_public": "create extension pg_trgm schema public",
    "0015 rls_references_user_metadata": "create policy x on atlas.worker for select to authenticated "
    "using ((select auth.jwt()) -> 'user_metadata' ->> 'admin' = 'yes')",
    "0024 rls_policy_always_true": "create policy x on atlas.worker for delete to authenticated using (true)",
    "0028 anon_security_definer_function_executable": "create function atlas.x() returns int language sql security definer "
    "set search_path = '' as 'select 1'; grant execute on function atlas.x() to anon",
}


@pytest.mark.parametrize("rule", RULES)
async def test_a_rule_finds_nothing_and_can_find_something(rule: str, db: asyncpg.Connection) -> None:
    await db.execute("drop schema if exists testing cascade")
    assert [row[0] for row in await db.fetch(RULES[rule])] == []
    await db.execute(BREAKS[rule])
    assert len(await db.fetch(RULES[rule])) >= 1


async def test_0029_definer_functions_that_people_may_call_have_a_reason(db: asyncpg.Connection) -> None:
    rows = await db.fetch(
        "select n.nspname || '.' || p.proname as f from pg_proc p join pg_namespace n on n.oid = p.pronamespace "
        f"where n.nspname in {OURS} and p.prosecdef and p.prorettype <> 'trigger'::regtype "
        "and has_function_privilege('authenticated', p.oid, 'execute')"
    )
    assert {row["f"] for row in rows} == DEFINER.keys()
    text = (ROOT / "docs/access.md").read_text()
    for name, why in DEFINER.items():
        assert f"| `{name}` | {why} |" in text, f"docs/access.md: run scripts/snapshot ({name})"
