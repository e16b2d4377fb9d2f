-- Row level security: what somebody else's login reads, then what one's own does. Denials first.
begin;
set local search_path = public, extensions;
select plan(40);

-- Ann and Bob belong to a project; Eve belongs to none.
insert into auth.users (id, email) values
  ('00000000-0000-4000-8000-00000000000a', 'ann@example.com'), ('00000000-0000-4000-8000-00000000000b', 'bob@example.com'),
  ('00000000-0000-4000-8000-00000000000e', 'eve@example.com');
select atlas.create_project('payments') as project \gset
select atlas.add_member(:'project', 'ann@example.com'), atlas.add_member(:'project', 'bob@example.com') \g /dev/null

create function pg_temp.message(task uuid, kind text default 'chat') returns jsonb language sql as $$
  select jsonb_build_object('task_id', task, 'role', 'architect', 'msg_type', kind,
    'content', case kind when 'control' then '{"command": "pause"}' else 'How?' end) $$;

-- one task of Ann's, in its project, with a reservation and a part; one document of the project
insert into public.architect_in (data, sender)
  values (pg_temp.message('00000000-0000-4000-8000-0000000000a1'), '00000000-0000-4000-8000-00000000000a');
select attempt_id from atlas.claim_tasks(gen_random_uuid(), 1, 0, interval '1 minute') \gset
select atlas.reserve_tokens(jsonb_build_array(jsonb_build_object('attempt_id', :'attempt_id', 'call', 0, 'model', 'none',
  'input_tokens', 1, 'output_tokens', 1))) \g /dev/null
select atlas.record_progress(jsonb_build_array(jsonb_build_object('attempt_id', :'attempt_id', 'call', 0, 'generation', 0,
  'response_id', 'r', 'resumable', false, 'offset', 0, 'text', 'Like', 'model', 'none'))) \g /dev/null
select atlas.set_budget('project:' || :'project', '{"daily": 1000}') \g /dev/null
insert into atlas.identity (provider, external_id, user_id) values ('github', '1', '00000000-0000-4000-8000-00000000000a');
select rag.put_document(:'project', 'a.md', 'A', 'markdown', sha256('a'),
  '[{"seq": 0, "heading": "A", "start_line": 1, "end_line": 1, "text": "secret", "tokens": 1}]') \g /dev/null
insert into rag.embed_job (sender) values ('00000000-0000-4000-8000-00000000000a');

-- nobody
set local role anon;
select throws_ok('select * from public.architect_in', '42501', null, 'anon reads no message');
select throws_ok('select * from public.architect_out', '42501', null, 'anon reads no reply');
select throws_ok('select * from atlas.task', '42501', null, 'anon reads no task');
select throws_ok($$insert into public.architect_in (data) values ('{}')$$, '42501', null, 'anon sends nothing');
reset role;

-- a worker touches no table (whoever migrates may become one for these three lines)
grant atlas_worker to current_user;
set local role atlas_worker;
select throws_ok('select * from atlas.task', '42501', null, 'a worker reads no task');
select throws_ok('update atlas.spend set tokens = 0', '42501', null, 'a worker writes no spend');
select throws_ok('delete from atlas.audit', '42501', null, 'a worker deletes no audit');
reset role;

-- somebody else
set local role authenticated;
set local request.jwt.claims = '{"role": "authenticated", "sub": "00000000-0000-4000-8000-00000000000e"}';
select is_empty('select * from public.architect_in', 'Eve reads no question of Ann''s');
select is_empty('select * from public.architect_out', 'Eve reads no reply to Ann');
select is_empty('select * from atlas.task', 'Eve reads no task of Ann''s');
select is_empty('select * from atlas.attempt', 'nor its attempts');
select is_empty('select * from atlas.reply_part', 'nor its text');
select is_empty('select * from atlas.spend', 'nor what it cost');
select is_empty('select * from atlas.audit', 'nor its audit');
select is_empty('select * from atlas.budget', 'nor a budget');
select is_empty('select * from atlas.budget_day', 'nor what it holds');
select is_empty('select * from atlas.member', 'nor who belongs to a project');
select is_empty('select * from atlas.identity', 'nor who is who outside');
select is_empty('select * from atlas.post', 'nor what was posted');
select is_empty('select * from rag.document', 'nor the project''s documents');
select is_empty('select * from rag.chunk', 'nor their chunks');
select is_empty('select * from rag.passage', 'nor their texts');
select is_empty('select * from rag.embed_job', 'nor a job');
select results_eq('select name from atlas.project', array['default'], 'Eve sees the default project alone');
select is(atlas.get_task('00000000-0000-4000-8000-0000000000a1'), null, 'the reader shows her nothing either');
select is_empty('select atlas.find_task(''00000000-0000-4000'')', 'and finds nothing');
select throws_ok($$select atlas.cancel_task('00000000-0000-4000-8000-0000000000a1')$$, 'AT004', null, 'Eve cancels nothing of Ann''s');
select throws_ok($$insert into public.architect_in (data, sender)
  values (pg_temp.message(gen_random_uuid()), '00000000-0000-4000-8000-00000000000a')$$, 'AT006', null, 'Eve sends nothing as Ann');
select throws_ok($$insert into public.architect_in (data)
  values (pg_temp.message(gen_random_uuid(), 'control'))$$, 'AT006', null, 'a person sends no command');
select throws_ok('update atlas.task set state = state', '42501', null, 'a person changes no task');

-- a member of the project
set local request.jwt.claims = '{"role": "authenticated", "sub": "00000000-0000-4000-8000-00000000000b"}';
select is_empty('select * from public.architect_in', 'Bob reads no message that Ann sent');
select isnt_empty('select * from atlas.task', 'Bob reads the task of his project');
select isnt_empty('select * from atlas.reply_part', 'and its text');
select isnt_empty('select * from atlas.budget', 'and the project''s budget');
select isnt_empty('select * from rag.passage', 'and its documents');

-- Ann herself
set local request.jwt.claims = '{"role": "authenticated", "sub": "00000000-0000-4000-8000-00000000000a"}';
select isnt_empty('select * from public.architect_in', 'Ann reads what she sent');
select isnt_empty('select * from atlas.spend', 'and what it cost');
select is(atlas.task_state('00000000-0000-4000-8000-0000000000a1') ->> 'state', 'running', 'and where it stands');
select isnt_empty('select * from rag.embed_job', 'and her jobs');
select is(atlas.cancel_task('00000000-0000-4000-8000-0000000000a1'), 'running', 'and asks to stop it');
reset role;

select * from finish();
rollback;
