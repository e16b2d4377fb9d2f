-- What each role may do with each table, view and function: denials first. Row level security is in rows.test.sql.
begin;
set local search_path = public, extensions;
select plan(178);

-- anon
select table_privs_are('atlas', 'attempt', 'anon', array[]::text[]);
select table_privs_are('atlas', 'audit', 'anon', array[]::text[]);
select table_privs_are('atlas', 'audit_checkpoint', 'anon', array[]::text[]);
select table_privs_are('atlas', 'budget', 'anon', array[]::text[]);
select table_privs_are('atlas', 'budget_day', 'anon', array[]::text[]);
select table_privs_are('atlas', 'control', 'anon', array[]::text[]);
select table_privs_are('atlas', 'dead_letters', 'anon', array[]::text[]);
select table_privs_are('atlas', 'destination', 'anon', array[]::text[]);
select table_privs_are('atlas', 'identity', 'anon', array[]::text[]);
select table_privs_are('atlas', 'inbound', 'anon', array[]::text[]);
select table_privs_are('atlas', 'member', 'anon', array[]::text[]);
select table_privs_are('atlas', 'model', 'anon', array[]::text[]);
select table_privs_are('atlas', 'model_price', 'anon', array[]::text[]);
select table_privs_are('atlas', 'model_state', 'anon', array[]::text[]);
select table_privs_are('atlas', 'notification', 'anon', array[]::text[]);
select table_privs_are('atlas', 'outbox', 'anon', array[]::text[]);
select table_privs_are('atlas', 'outbox_status', 'anon', array[]::text[]);
select table_privs_are('atlas', 'post', 'anon', array[]::text[]);
select table_privs_are('atlas', 'project', 'anon', array[]::text[]);
select table_privs_are('atlas', 'queue_status', 'anon', array[]::text[]);
select table_privs_are('atlas', 'rejected_message', 'anon', array[]::text[]);
select table_privs_are('atlas', 'reply_part', 'anon', array[]::text[]);
select table_privs_are('atlas', 'spend', 'anon', array[]::text[]);
select table_privs_are('atlas', 'spend_by_day', 'anon', array[]::text[]);
select table_privs_are('atlas', 'spend_by_model', 'anon', array[]::text[]);
select table_privs_are('atlas', 'spend_by_project', 'anon', array[]::text[]);
select table_privs_are('atlas', 'spend_by_sender', 'anon', array[]::text[]);
select table_privs_are('atlas', 'task', 'anon', array[]::text[]);
select table_privs_are('atlas', 'task_history', 'anon', array[]::text[]);
select table_privs_are('atlas', 'worker', 'anon', array[]::text[]);
select table_privs_are('public', 'architect_in', 'anon', array[]::text[]);
select table_privs_are('public', 'architect_out', 'anon', array[]::text[]);
select table_privs_are('rag', 'cache', 'anon', array[]::text[]);
select table_privs_are('rag', 'chunk', 'anon', array[]::text[]);
select table_privs_are('rag', 'citation', 'anon', array[]::text[]);
select table_privs_are('rag', 'document', 'anon', array[]::text[]);
select table_privs_are('rag', 'embed_item', 'anon', array[]::text[]);
select table_privs_are('rag', 'embed_job', 'anon', array[]::text[]);
select table_privs_are('rag', 'embedding', 'anon', array[]::text[]);
select table_privs_are('rag', 'embedding_index', 'anon', array[]::text[]);
select table_privs_are('rag', 'epoch', 'anon', array[]::text[]);
select table_privs_are('rag', 'passage', 'anon', array[]::text[]);
select table_privs_are('rag', 'usage', 'anon', array[]::text[]);

-- atlas_worker
select table_privs_are('atlas', 'attempt', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'audit', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'audit_checkpoint', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'budget', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'budget_day', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'control', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'dead_letters', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'destination', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'identity', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'inbound', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'member', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'model', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'model_price', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'model_state', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'notification', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'outbox', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'outbox_status', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'post', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'project', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'queue_status', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'rejected_message', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'reply_part', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'spend', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'spend_by_day', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'spend_by_model', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'spend_by_project', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'spend_by_sender', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'task', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'task_history', 'atlas_worker', array[]::text[]);
select table_privs_are('atlas', 'worker', 'atlas_worker', array[]::text[]);
select table_privs_are('public', 'architect_in', 'atlas_worker', array[]::text[]);
select table_privs_are('public', 'architect_out', 'atlas_worker', array[]::text[]);
select table_privs_are('rag', 'cache', 'atlas_worker', array[]::text[]);
select table_privs_are('rag', 'chunk', 'atlas_worker', array[]::text[]);
select table_privs_are('rag', 'citation', 'atlas_worker', array[]::text[]);
select table_privs_are('rag', 'document', 'atlas_worker', array[]::text[]);
select table_privs_are('rag', 'embed_item', 'atlas_worker', array[]::text[]);
select table_privs_are('rag', 'embed_job', 'atlas_worker', array[]::text[]);
select table_privs_are('rag', 'embedding', 'atlas_worker', array[]::text[]);
select table_privs_are('rag', 'embedding_index', 'atlas_worker', array[]::text[]);
select table_privs_are('rag', 'epoch', 'atlas_worker', array[]::text[]);
select table_privs_are('rag', 'passage', 'atlas_worker', array[]::text[]);
select table_privs_are('rag', 'usage', 'atlas_worker', array[]::text[]);

-- authenticated
select table_privs_are('atlas', 'audit_checkpoint', 'authenticated', array[]::text[]);
select table_privs_are('atlas', 'control', 'authenticated', array[]::text[]);
select table_privs_are('atlas', 'destination', 'authenticated', array[]::text[]);
select table_privs_are('atlas', 'inbound', 'authenticated', array[]::text[]);
select table_privs_are('atlas', 'model_state', 'authenticated', array[]::text[]);
select table_privs_are('atlas', 'notification', 'authenticated', array[]::text[]);
select table_privs_are('atlas', 'outbox', 'authenticated', array[]::text[]);
select table_privs_are('atlas', 'outbox_status', 'authenticated', array[]::text[]);
select table_privs_are('atlas', 'rejected_message', 'authenticated', array[]::text[]);
select table_privs_are('atlas', 'worker', 'authenticated', array[]::text[]);
select table_privs_are('rag', 'cache', 'authenticated', array[]::text[]);
select table_privs_are('rag', 'citation', 'authenticated', array[]::text[]);
select table_privs_are('rag', 'embed_item', 'authenticated', array[]::text[]);
select table_privs_are('rag', 'epoch', 'authenticated', array[]::text[]);
select table_privs_are('rag', 'usage', 'authenticated', array[]::text[]);
select table_privs_are('atlas', 'attempt', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'audit', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'budget', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'budget_day', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'dead_letters', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'identity', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'member', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'model', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'model_price', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'post', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'project', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'queue_status', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'reply_part', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'spend', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'spend_by_day', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'spend_by_model', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'spend_by_project', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'spend_by_sender', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'task', 'authenticated', array['SELECT']::text[]);
select table_privs_are('atlas', 'task_history', 'authenticated', array['SELECT']::text[]);
select table_privs_are('public', 'architect_in', 'authenticated', array['SELECT']::text[]);
select table_privs_are('public', 'architect_out', 'authenticated', array['SELECT']::text[]);
select table_privs_are('rag', 'chunk', 'authenticated', array['SELECT']::text[]);
select table_privs_are('rag', 'document', 'authenticated', array['SELECT']::text[]);
select table_privs_are('rag', 'embed_job', 'authenticated', array['SELECT']::text[]);
select table_privs_are('rag', 'embedding', 'authenticated', array['SELECT']::text[]);
select table_privs_are('rag', 'embedding_index', 'authenticated', array['SELECT']::text[]);
select table_privs_are('rag', 'passage', 'authenticated', array['SELECT']::text[]);

-- service_role
select table_privs_are('atlas', 'attempt', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'audit', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'audit_checkpoint', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'budget', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'budget_day', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'control', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'dead_letters', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'destination', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('atlas', 'identity', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('atlas', 'inbound', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'member', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('atlas', 'model', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('atlas', 'model_price', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('atlas', 'model_state', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('atlas', 'notification', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'outbox', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'outbox_status', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'post', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'project', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('atlas', 'queue_status', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'rejected_message', 'service_role', array['DELETE', 'INSERT', 'SELECT']::text[]);
select table_privs_are('atlas', 'reply_part', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'spend', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'spend_by_day', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'spend_by_model', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'spend_by_project', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'spend_by_sender', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'task', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'task_history', 'service_role', array['SELECT']::text[]);
select table_privs_are('atlas', 'worker', 'service_role', array['SELECT']::text[]);
select table_privs_are('public', 'architect_in', 'service_role', array['SELECT']::text[]);
select table_privs_are('public', 'architect_out', 'service_role', array['SELECT']::text[]);
select table_privs_are('rag', 'cache', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('rag', 'chunk', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('rag', 'citation', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('rag', 'document', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('rag', 'embed_item', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('rag', 'embed_job', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('rag', 'embedding', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('rag', 'embedding_index', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('rag', 'epoch', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('rag', 'passage', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);
select table_privs_are('rag', 'usage', 'service_role', array['DELETE', 'INSERT', 'SELECT', 'UPDATE']::text[]);

-- no table without a line above
select is((select count(*)::integer from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'v') and n.nspname in ('atlas', 'rag')), 41, 'every table and view of atlas and rag stands here');
-- a sender writes its message, and whose it is; nothing else
select column_privs_are('public', 'architect_in', 'data', 'authenticated', array['INSERT', 'SELECT']);
select column_privs_are('public', 'architect_in', 'task_id', 'authenticated', array['SELECT']);

-- functions
select is((select array_agg(n.nspname || '.' || p.proname order by n.nspname || '.' || p.proname) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
   where n.nspname in ('atlas', 'rag') and has_function_privilege('anon', p.oid, 'execute')), null, 'anon calls nothing');
select is((select array_agg(n.nspname || '.' || p.proname order by n.nspname || '.' || p.proname) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
   where n.nspname in ('atlas', 'rag') and has_function_privilege('authenticated', p.oid, 'execute')), array[
  'atlas.as_uuid', 'atlas.caller_role', 'atlas.cancel_task', 'atlas.find_task', 'atlas.get_task', 'atlas.is_service', 'atlas.my_projects', 'atlas.owns_task', 'atlas.read_parts', 'atlas.submit_task', 'atlas.task_state', 'atlas.today', 'rag.candidates', 'rag.search'], 'people call these and no other');
select is((select array_agg(n.nspname || '.' || p.proname order by n.nspname || '.' || p.proname) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
   where n.nspname in ('atlas', 'rag') and has_function_privilege('atlas_worker', p.oid, 'execute')), array[
  'atlas.adopt_outbox', 'atlas.audit_digest', 'atlas.caller_role', 'atlas.cancel_task', 'atlas.claim_outbox', 'atlas.claim_tasks', 'atlas.complete_tasks', 'atlas.cost', 'atlas.count_streams', 'atlas.escalate', 'atlas.extend_leases', 'atlas.fail_task', 'atlas.flush_cache', 'atlas.get_budgets', 'atlas.get_thread', 'atlas.has_work', 'atlas.is_service', 'atlas.list_destinations', 'atlas.list_models', 'atlas.mark_worker', 'atlas.next_due', 'atlas.pause', 'atlas.price_on', 'atlas.provide_topic', 'atlas.queue_metrics', 'atlas.raise_notifications', 'atlas.record_destination', 'atlas.record_model', 'atlas.record_progress', 'atlas.record_usage', 'atlas.register_worker', 'atlas.release_expired', 'atlas.report_progress', 'atlas.reserve_tokens', 'atlas.resume', 'atlas.seal_audit', 'atlas.set_budget', 'atlas.settle_outbox', 'atlas.today', 'atlas.trim_inbound', 'atlas.trim_messages', 'atlas.trim_outbox', 'rag.embedding_indexes', 'rag.recall', 'rag.record_usage', 'rag.remember', 'rag.search_task'], 'workers call these and no other');

select * from finish();
rollback;
