-- The SQL of 16 tasks' lives, as a worker calls it, for pgbench -M prepared: claim, recall, reserve, complete.
select coalesce(jsonb_agg(jsonb_build_object('attempt_id', c.attempt_id, 'call', 0, 'model', 'gpt-6-sol',
    'input_tokens', 900, 'output_tokens', 4000)), '[]') as requests,
  coalesce(jsonb_agg(jsonb_build_object('attempt_id', c.attempt_id, 'content', :reply::text, 'model', 'gpt-6-sol',
    'response_id', 'resp', 'metadata', jsonb_build_object('tokens', 700, 'sources', jsonb '[]', 'usage', jsonb '{"input_tokens": 500, "output_tokens": 200}'),
    'usages', jsonb '{"0": {"input_tokens": 500, "output_tokens": 200, "known": "reported"}}')), '[]') as replies,
  coalesce(array_agg(c.task_id), '{}') as tasks, coalesce(array_agg(text 'How do we ship?'), '{}') as queries
from atlas.claim_tasks(md5(:client_id::text)::uuid, 16, 0, interval '30 seconds') c \gset
select count(*) from rag.recall(:tasks::uuid[], :queries::text[], 'life');
select count(*) from atlas.reserve_tokens(:requests::jsonb);
select count(*) from atlas.complete_tasks(:replies::jsonb);
