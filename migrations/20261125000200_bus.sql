-- The bus: what comes in, what goes out, and how a message is validated.
--
-- A message is one JSON object in `data` (docs/event_examples, `atlas schema`). `insert into architect_in (data)` is
-- all that a producer must do: the trigger validates it and fills task_id and sender.

create table public.architect_in (
  id bigint generated always as identity primary key,
  data jsonb not null,
  task_id uuid not null,
  sender uuid default auth.uid(),
  created_at timestamptz not null default now(),
  constraint data_is_an_object check (jsonb_typeof(data) = 'object'),
  constraint data_is_bounded check (octet_length(data::text) <= 1048576),
  constraint addresses_are_short check (coalesce(length(data #>> '{metadata,reply_to}'), 0) <= 300
    and coalesce(length(data #>> '{metadata,sender_key}'), 0) <= 300)
);
-- One question a task id. Control messages may name the task they are about.
create unique index architect_in_one_chat on public.architect_in (task_id)
  where (data ->> 'msg_type') = 'chat' and (data ->> 'role') = 'architect';
create index architect_in_task on public.architect_in (task_id);
-- A question finds the conversation that it belongs to by its address.
create index architect_in_reply_to on public.architect_in ((data #>> '{metadata,reply_to}'))
  where data #>> '{metadata,reply_to}' is not null;
comment on table public.architect_in is 'Questions and control messages to Atlas: insert one JSON object into data. See docs/event_examples.';
comment on column public.architect_in.id is 'Order of arrival; not the order of commits.';
comment on column public.architect_in.data is 'The message: task_id, role, msg_type, content, metadata. At most 1 MiB.';
comment on column public.architect_in.task_id is 'Filled from data.task_id by the trigger.';
comment on column public.architect_in.sender is 'The user who sent it (auth.uid()); null for the service role itself.';
comment on column public.architect_in.created_at is 'When the message was inserted.';
comment on constraint data_is_an_object on public.architect_in is 'A message is one JSON object.';
comment on constraint data_is_bounded on public.architect_in is 'At most 1 MiB.';
comment on constraint addresses_are_short on public.architect_in is 'reply_to and sender_key are looked up by an index, whose entries are short.';
alter table public.architect_in enable row level security;
create policy "people send their own messages" on public.architect_in for insert to authenticated
  with check (sender = (select auth.uid()));
comment on policy "people send their own messages" on public.architect_in is 'Row level security: people send their own messages.';
create policy "people read what they sent" on public.architect_in for select to authenticated
  using (sender = (select auth.uid()));
comment on policy "people read what they sent" on public.architect_in is 'Row level security: people read what they sent.';
grant select, insert (data, sender) on public.architect_in to authenticated, service_role;

create table public.architect_out (
  id bigint generated always as identity primary key,
  data jsonb not null,
  task_id uuid not null,
  owner uuid,
  project_id uuid,
  event_id uuid not null default atlas.new_id(),
  created_at timestamptz not null default now(),
  constraint data_is_an_object check (jsonb_typeof(data) = 'object')
);
-- A task is answered once, and says once that it began.
create unique index architect_out_one_reply on public.architect_out (task_id)
  where (data ->> 'msg_type') = 'spec' and (data #>> '{metadata,status}') = 'completed';
create unique index architect_out_one_start on public.architect_out (task_id)
  where (data ->> 'msg_type') = 'spec' and (data #>> '{metadata,status}') = 'in_progress';
create index architect_out_task on public.architect_out (task_id, id);
-- Rows are written once, in the order of time.
create index architect_out_created on public.architect_out using brin (created_at);
comment on table public.architect_out is 'What Atlas answers: one in_progress row and one final row a task, answers to control messages, escalations.';
comment on column public.architect_out.id is 'Order of writing; not the order of commits.';
comment on column public.architect_out.data is 'The message: task_id, role, msg_type, content, metadata with its status.';
comment on column public.architect_out.task_id is 'The task_id of the message that it answers.';
comment on column public.architect_out.owner is 'The user whose task it answers; row level security reads it.';
comment on column public.architect_out.project_id is 'The project whose members may read it.';
comment on column public.architect_out.created_at is 'When the row was written.';
comment on column public.architect_out.event_id is
  'The same wherever this row is sent, and whenever it is sent again: dedupe on it.';
comment on constraint data_is_an_object on public.architect_out is 'A message is one JSON object.';
alter table public.architect_out enable row level security;
create policy "people read replies to their own and their projects' tasks" on public.architect_out
  for select to authenticated
  using (owner = (select auth.uid()) or project_id in (select atlas.my_projects()));
comment on policy "people read replies to their own and their projects' tasks" on public.architect_out is 'Row level security: people read replies to their own and their projects'' tasks.';
grant select on public.architect_out to authenticated, service_role;

revoke all on public.architect_in, public.architect_out from public, anon, authenticated, service_role;
grant select, insert (data, sender) on public.architect_in to authenticated, service_role;
revoke all on sequence public.architect_in_id_seq, public.architect_out_id_seq from anon, authenticated;
grant select on public.architect_out to authenticated, service_role;

do $$
begin
  create publication architect_bus for table public.architect_in, public.architect_out;
  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
  alter publication supabase_realtime add table public.architect_in, public.architect_out;
end
$$;

-- Validation errors carry SQLSTATE AT001, the field in COLUMN, and the fix in HINT.
create function atlas.refuse(field text, problem text, fix text, state text default 'AT001', thing text default 'architect_in')
returns void
language plpgsql set search_path = ''
as $$
begin
  raise exception using errcode = state, message = format('%s: %s %s', thing, field, problem), hint = fix, column = field;
end
$$;
comment on function atlas.refuse(text, text, text, text, text) is 'Raises the error of a message that breaks the contract.';

create function atlas.as_uuid(value text) returns uuid
language sql immutable set search_path = ''
as $$
  select case when value ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then value::uuid end
$$;
comment on function atlas.as_uuid(text) is 'The text as a UUID, or null where it is none.';
grant execute on function atlas.as_uuid(text) to authenticated, service_role;

create function atlas.as_timestamp(value text) returns timestamptz
language plpgsql stable set search_path = ''
as $$
begin
  return value::timestamptz;
exception when data_exception then
  return null;
end
$$;
comment on function atlas.as_timestamp(text) is 'The text as a point in time, or null where it is none.';

-- The command of a control message: content holds its JSON, metadata may carry it too. Null where neither does.
create function atlas.control_command(message jsonb) returns jsonb
language plpgsql immutable set search_path = ''
as $$
declare
  command jsonb;
begin
  begin
    command := (message ->> 'content')::jsonb;
  exception when data_exception then
    command := null;
  end;
  if jsonb_typeof(command) is distinct from 'object' or not command ? 'command' then
    command := message -> 'metadata';
  end if;
  if jsonb_typeof(command -> 'command') is distinct from 'string' then
    return null;
  end if;
  return command;
end
$$;
comment on function atlas.control_command(jsonb) is 'The command object of a control message, or null.';

create function atlas.check_control(message jsonb) returns void
language plpgsql stable set search_path = ''
as $$
declare
  command jsonb := atlas.control_command(message);
  names constant text[] := array['flush_cache', 'heartbeat', 'set_budget', 'escalate', 'cancel', 'pause', 'resume'];
  limits jsonb;
begin
  if command is null then
    perform atlas.refuse('content', 'of a control message must be JSON with a "command"',
      'send content such as {"command":"heartbeat"}');
  end if;
  if command ->> 'command' = 'docs.added' then
    perform atlas.refuse('role', 'is architect, and docs.added is for the indexer', 'send it with "role": "rag"');
  end if;
  if command ->> 'command' <> all (names) then
    perform atlas.refuse('content.command', format('%L is not known', command ->> 'command'),
      'use one of ' || array_to_string(names, ', '));
  end if;
  if command ->> 'command' = 'set_budget' then
    select jsonb_object_agg(l.key, l.value) into limits from jsonb_each(command) l
    where l.key in ('per_run', 'daily', 'monthly', 'usd_per_run', 'usd_daily', 'usd_monthly', 'enforcement', 'when_spent');
    if limits is null then
      perform atlas.refuse('content', 'of set_budget names no budget',
        'add per_run, daily (tokens) or usd_daily, such as {"command":"set_budget","per_run":8000}');
    end if;
    perform atlas.check_limits(case when command ? 'scope' then command ->> 'scope' else 'global' end, limits, 'AT001',
      'architect_in', 'content.');
  end if;
  if command ->> 'command' = 'cancel'
     and command ? 'task_id' and atlas.as_uuid(command ->> 'task_id') is null then
    perform atlas.refuse('content.task_id', format('%s is not a UUID', command -> 'task_id'),
      'name the task to cancel by its id');
  end if;
end
$$;
comment on function atlas.check_control(jsonb) is 'Refuses a control message that no worker could carry out.';

-- For the error of a word that is not known.
create function atlas.distance(p_one text, p_other text) returns integer
language plpgsql immutable set search_path = ''
as $$
declare
  before integer[] := array(select generate_series(0, length(p_other)));
  line integer[];
begin
  for i in 1..length(p_one) loop
    line := array[i];
    for j in 1..length(p_other) loop
      line := line || least(line[j] + 1, before[j + 1] + 1,
        before[j] + (substr(p_one, i, 1) <> substr(p_other, j, 1))::integer);
    end loop;
    before := line;
  end loop;
  return before[length(p_other) + 1];
end
$$;
comment on function atlas.distance(text, text) is 'How many letters make the one word of the other (Levenshtein). Internal.';

create function atlas.nearest(p_word text, p_known text[]) returns text
language sql immutable set search_path = ''
as $$
  select k.word from (select u.word, atlas.distance(lower(left(p_word, 40)), u.word) as far from unnest(p_known) as u (word)) k
  where k.far <= greatest(1, length(k.word) / 4) order by k.far, k.word limit 1
$$;
comment on function atlas.nearest(text, text[]) is 'The known word that a misspelt one is taken for; null where none is near. Internal.';

create function atlas.check_metadata(metadata jsonb) returns void
language plpgsql stable set search_path = ''
as $$
declare
  known constant text[] := array['tokens', 'model', 'parent_id', 'status', 'schema_ver', 'chunk', 'sources', 'usage', 'error', 'priority',
    'reply_to', 'sender_key', 'run_after', 'completion_window', 'kind', 'warnings', 'traceparent', 'project', 'truncated'];
  kind text;
begin
  if metadata is null then
    return;
  end if;
  if jsonb_typeof(metadata) <> 'object' then
    perform atlas.refuse('metadata', 'must be an object', 'leave it out, or send {"schema_ver": 1}');
  end if;
  -- metadata may carry the command of a control message, with the command's own names
  if not metadata ? 'command' then
    select k into kind from jsonb_object_keys(metadata) k where k <> all (known) and k not like 'x\_%' limit 1;
    if found then
      perform atlas.refuse('metadata.' || left(kind, 100), 'is not known',
        coalesce('did you mean ' || atlas.nearest(kind, known) || '? ', '') || 'names of your own begin with x_');
    end if;
  end if;
  if metadata ? 'schema_ver' and metadata -> 'schema_ver' not in ('1', '2') then
    perform atlas.refuse('metadata.schema_ver', format('%s is not known', metadata -> 'schema_ver'), 'send 1 or 2');
  end if;
  if jsonb_typeof(metadata -> 'parent_id') <> 'null' and atlas.as_uuid(metadata ->> 'parent_id') is null then
    perform atlas.refuse('metadata.parent_id', format('%s is not a UUID', metadata -> 'parent_id'),
      'send the task_id of the earlier question, or null');
  end if;
  if jsonb_typeof(metadata -> 'tokens') not in ('number', 'null') then
    perform atlas.refuse('metadata.tokens', 'must be a number', 'leave it out: Atlas counts tokens itself');
  end if;
  foreach kind in array array['model', 'status', 'kind', 'traceparent', 'project', 'reply_to', 'sender_key'] loop
    if jsonb_typeof(metadata -> kind) not in ('string', 'null') then
      perform atlas.refuse('metadata.' || kind, 'must be a string', 'send a string, or leave it out');
    end if;
  end loop;
  if jsonb_typeof(metadata -> 'completion_window') <> 'null'
     and metadata -> 'completion_window' not in ('"soonest"', '"2h"', '"8h"') then
    perform atlas.refuse('metadata.completion_window', format('%s is not known', metadata -> 'completion_window'),
      'send "2h" or "8h" for a later and cheaper reply, or leave it out');
  end if;
  if jsonb_typeof(metadata -> 'priority') <> 'null'
     and not (jsonb_typeof(metadata -> 'priority') = 'number' and metadata ->> 'priority' ~ '^-?[0-9]{1,3}$'
              and (metadata ->> 'priority')::int between -100 and 100) then
    perform atlas.refuse('metadata.priority', format('%s is out of range', metadata -> 'priority'),
      'send a whole number from -100 to 100; higher goes first');
  end if;
  if jsonb_typeof(metadata -> 'run_after') <> 'null'
     and (jsonb_typeof(metadata -> 'run_after') <> 'string'
          or metadata ->> 'run_after' !~ '^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)$'
          or atlas.as_timestamp(metadata ->> 'run_after') is null) then
    perform atlas.refuse('metadata.run_after', format('%s is not a time', metadata -> 'run_after'),
      'send ISO 8601 with a zone, such as 2026-12-01T09:00:00Z');
  end if;
end
$$;
comment on function atlas.check_metadata(jsonb) is 'Refuses metadata whose known fields have the wrong shape.';

create function atlas.check_message(message jsonb) returns void
language plpgsql stable set search_path = ''
as $$
begin
  if jsonb_typeof(message) is distinct from 'object' then
    perform atlas.refuse('data', 'must be one JSON object', 'see docs/event_examples/chat.json');
  end if;
  if octet_length(message::text) > 1048576 then
    perform atlas.refuse('data', 'is larger than 1 MiB', 'index long documents with `atlas index` and ask about them');
  end if;
  -- what a client cannot read would fail in whoever reads it, and with it all that is read together
  if jsonb_path_exists(message, 'strict $.** ? (@.type() == "number" && (@ > 1e300 || @ < -1e300))') then
    perform atlas.refuse('data', 'holds a number that is out of range', 'send numbers of at most 1e300, or send it as a string');
  end if;
  if jsonb_path_exists(message, 'strict $.**{65 to last}') then
    perform atlas.refuse('data', 'is nested more than 64 levels deep', 'send a flatter object, or the deep part as a string');
  end if;
  if atlas.as_uuid(message ->> 'task_id') is null then
    perform atlas.refuse('task_id', case when message ? 'task_id' then format('%s is not a UUID', message -> 'task_id')
      else 'is missing' end, 'send a UUID of your own making, such as atlas.new_id()');
  end if;
  if jsonb_typeof(message -> 'role') is distinct from 'string' or message ->> 'role' = '' then
    perform atlas.refuse('role', 'is missing', 'send "architect"');
  end if;
  -- a message of another role is somebody else's, and is kept; a misspelt one would wait for ever
  if message ->> 'role' not in ('architect', 'rag') and atlas.nearest(message ->> 'role', array['architect', 'rag']) is not null then
    perform atlas.refuse('role', format('%s is not known', message -> 'role'),
      format('did you mean "%s"?', atlas.nearest(message ->> 'role', array['architect', 'rag'])));
  end if;
  if coalesce(message ->> 'msg_type', '') not in ('chat', 'spec', 'control') then
    perform atlas.refuse('msg_type', case when message ? 'msg_type'
      then format('%s is not known', message -> 'msg_type') else 'is missing' end,
      'send "chat" for a question, "control" for a command');
  end if;
  if jsonb_typeof(message -> 'content') is distinct from 'string' then
    perform atlas.refuse('content', 'must be a string', 'send the question as text');
  end if;
  perform atlas.check_metadata(message -> 'metadata');
  if message ->> 'role' <> 'architect' then
    return;
  end if;
  if message ->> 'msg_type' = 'spec' then
    perform atlas.refuse('msg_type', '"spec" is what Atlas answers', 'send "chat" for a question');
  end if;
  if message ->> 'msg_type' = 'control' then
    perform atlas.check_control(message);
  elsif btrim(message ->> 'content', E' \t\r\n') = '' then
    perform atlas.refuse('content', 'is empty', 'send the question as text');
  end if;
end
$$;
comment on function atlas.check_message(jsonb) is
  'Refuses (AT001) a message that breaks the contract, naming the field and the fix.';
grant execute on function atlas.check_message(jsonb) to service_role;

create function atlas.validate_message() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  service constant boolean := atlas.is_service();
begin
  perform atlas.check_message(new.data);
  new.task_id := (new.data ->> 'task_id')::uuid;
  new.created_at := now();
  if not service then
    if atlas.uid() is null then
      perform atlas.refuse('sender', 'is nobody: the token has no user', 'log in first', 'AT006');
    end if;
    if new.sender is distinct from atlas.uid() then
      perform atlas.refuse('sender', 'is not you', 'leave sender out: it is filled from your login', 'AT006');
    end if;
    if new.data ->> 'msg_type' = 'control' then
      perform atlas.refuse('msg_type', '"control" is for the service role', 'ask an operator', 'AT006');
    end if;
    if new.data -> 'metadata' ?| array['reply_to', 'priority', 'sender_key'] then
      perform atlas.refuse('metadata', 'sets reply_to, priority or sender_key', 'only the service role may: leave them out',
        'AT006');
    end if;
  end if;
  if new.data ->> 'role' = 'architect' and new.data ->> 'msg_type' = 'chat' then
    -- whose it is, and how far, is nobody's business who can only name it
    if exists (select from atlas.task t where t.id = new.task_id) then
      raise exception using errcode = 'unique_violation', message = 'architect_in: task_id is taken',
        hint = 'send a task_id of your own making, such as atlas.new_id(); atlas.submit_task takes the same question twice',
        constraint = 'architect_in_one_chat';
    end if;
  end if;
  return new;
end
$$;
comment on function atlas.validate_message() is 'Validates a message of architect_in, names its sender, refuses a second chat.';

create trigger validate_message before insert on public.architect_in
  for each row execute function atlas.validate_message();
comment on trigger validate_message on public.architect_in is 'Validates a message of architect_in, names its sender, refuses a second chat.';

revoke execute on all functions in schema atlas, rag from public;
