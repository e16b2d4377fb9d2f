--
-- PostgreSQL database dump
--

--
-- Name: atlas; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA atlas;

--
-- Name: SCHEMA atlas; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON SCHEMA atlas IS 'The queue, the money, the audit and the outbox of Atlas. Changed by functions only.';

--
-- Name: public; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA public;

--
-- Name: SCHEMA public; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON SCHEMA public IS 'standard public schema';

--
-- Name: rag; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA rag;

--
-- Name: SCHEMA rag; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON SCHEMA rag IS 'What the team already knows: documents, their chunks, and jobs that index them.';

--
-- Name: hit; Type: TYPE; Schema: rag; Owner: -
--

CREATE TYPE rag.hit AS (
	chunk_id bigint,
	similarity real,
	similarity_kind text,
	score real
);

--
-- Name: TYPE hit; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TYPE rag.hit IS 'A chunk that was found: its cosine to the question, or the share of the question''s words that it holds where it has no vector; and its score.';

--
-- Name: neighbour; Type: TYPE; Schema: rag; Owner: -
--

CREATE TYPE rag.neighbour AS (
	passage_id bigint,
	similarity real
);

--
-- Name: TYPE neighbour; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TYPE rag.neighbour IS 'A passage and its cosine to a question.';

--
-- Name: weighed_term; Type: TYPE; Schema: rag; Owner: -
--

CREATE TYPE rag.weighed_term AS (
	id integer,
	gain real,
	base real,
	slope real,
	weight real,
	share real,
	leads boolean
);

--
-- Name: TYPE weighed_term; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TYPE rag.weighed_term IS 'A term of a question. A passage that has it scores gain / (base + slope * its length); share: what its word is of the question.';

--
-- Name: record_words(text, text, text[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.record_words(p_title text, p_question text, p_constraints text[]) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$ select atlas.words_of(p_title || ' ' || p_question || ' ' || array_to_string(p_constraints, ' ')) $$;

--
-- Name: FUNCTION record_words(p_title text, p_question text, p_constraints text[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.record_words(p_title text, p_question text, p_constraints text[]) IS 'The words by which a decision is found. Internal.';

--
-- Name: words_of(text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.words_of(p_text text) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
  select coalesce(array_agg(u.lexeme order by u.positions[1]), '{}') from unnest(rag.terms_of('english', left(p_text, 4000))) u
$$;

--
-- Name: FUNCTION words_of(p_text text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.words_of(p_text text) IS 'The words of a text that say something, each once, in their order. Internal.';

--
-- Name: decision; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.decision (
    project_id uuid NOT NULL,
    number integer NOT NULL,
    task_id uuid,
    title text NOT NULL,
    question text DEFAULT ''::text NOT NULL,
    content text NOT NULL,
    constraints text[] DEFAULT '{}'::text[] NOT NULL,
    paths text[] DEFAULT '{}'::text[] NOT NULL,
    checks text[] DEFAULT '{}'::text[] NOT NULL,
    sources text[] DEFAULT '{}'::text[] NOT NULL,
    file text,
    status text NOT NULL,
    superseded_by integer,
    asked_by text NOT NULL,
    decided_by text NOT NULL,
    decided_at timestamp with time zone DEFAULT now() NOT NULL,
    reason text,
    superseded_at timestamp with time zone,
    superseded_reason text,
    words text[] GENERATED ALWAYS AS (atlas.record_words(title, question, constraints)) STORED NOT NULL,
    asked text[] GENERATED ALWAYS AS (atlas.words_of(question)) STORED NOT NULL,
    CONSTRAINT decision_file_check CHECK ((file ~ '^[A-Za-z0-9][^/\\]{0,195}\.md$'::text)),
    CONSTRAINT decision_number_check CHECK ((number >= 0)),
    CONSTRAINT decision_reason_check CHECK ((length(reason) <= 2000)),
    CONSTRAINT decision_status_check CHECK ((status = ANY (ARRAY['proposed'::text, 'accepted'::text, 'rejected'::text, 'deprecated'::text, 'superseded'::text]))),
    CONSTRAINT decision_superseded_reason_check CHECK ((length(superseded_reason) <= 2000)),
    CONSTRAINT no_record_supersedes_itself CHECK ((superseded_by <> number)),
    CONSTRAINT superseded_has_its_successor CHECK ((((status = 'superseded'::text) = (superseded_by IS NOT NULL)) AND ((superseded_by IS NULL) = (superseded_at IS NULL))))
);

--
-- Name: TABLE decision; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.decision IS 'What a project decided of records: each by its number, with who decided it, when and why.';

--
-- Name: COLUMN decision.project_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.project_id IS 'The project that decided.';

--
-- Name: COLUMN decision.number; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.number IS 'Its number in the project, from 1: ADR-7 is 7.';

--
-- Name: COLUMN decision.task_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.task_id IS 'The task whose reply it is; null for one that was imported.';

--
-- Name: COLUMN decision.title; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.title IS 'Its title.';

--
-- Name: COLUMN decision.question; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.question IS 'The question that it answers; empty for one that was imported.';

--
-- Name: COLUMN decision.content; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.content IS 'The record, in Markdown, as it was when it was decided.';

--
-- Name: COLUMN decision.constraints; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.constraints IS 'What must hold from then on, a sentence each.';

--
-- Name: COLUMN decision.paths; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.paths IS 'Globs of the files that it governs.';

--
-- Name: COLUMN decision.checks; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.checks IS 'Commands that verify it in a checkout; Atlas itself runs none.';

--
-- Name: COLUMN decision.sources; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.sources IS 'What it was written from, each by its hash and place: sha256:<hash> <path>.';

--
-- Name: COLUMN decision.file; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.file IS 'Its file''s name in the folder of records that it was imported from.';

--
-- Name: COLUMN decision.status; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.status IS 'accepted: it holds. rejected. superseded: it held, until another did. Of imported ones also proposed, and deprecated: it holds no longer.';

--
-- Name: COLUMN decision.superseded_by; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.superseded_by IS 'The number of the decision that holds instead.';

--
-- Name: COLUMN decision.asked_by; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.asked_by IS 'The sender whose question it answers.';

--
-- Name: COLUMN decision.decided_by; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.decided_by IS 'Who accepted or rejected it: user:<id> of a login, else role:<database role>.';

--
-- Name: COLUMN decision.decided_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.decided_at IS 'When it was accepted or rejected.';

--
-- Name: COLUMN decision.reason; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.reason IS 'Why, in the words of who decided.';

--
-- Name: COLUMN decision.superseded_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.superseded_at IS 'When another decision took its place; the audit says who saw to it.';

--
-- Name: COLUMN decision.superseded_reason; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.superseded_reason IS 'Why that was.';

--
-- Name: COLUMN decision.words; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.words IS 'The words of its title, question and constraints, as searches reduce them.';

--
-- Name: COLUMN decision.asked; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decision.asked IS 'The words of its question.';

--
-- Name: CONSTRAINT no_record_supersedes_itself ON decision; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON CONSTRAINT no_record_supersedes_itself ON atlas.decision IS 'Nothing supersedes itself.';

--
-- Name: CONSTRAINT superseded_has_its_successor ON decision; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON CONSTRAINT superseded_has_its_successor ON atlas.decision IS 'What is superseded says by what.';

--
-- Name: accept(uuid, text, bigint[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.accept(p_task uuid, p_reason text DEFAULT NULL::text, p_supersedes bigint[] DEFAULT '{}'::bigint[]) RETURNS atlas.decision
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$ select * from atlas.decide(p_task, 'accepted', 'accept', p_reason, p_supersedes) $$;

--
-- Name: FUNCTION accept(p_task uuid, p_reason text, p_supersedes bigint[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.accept(p_task uuid, p_reason text, p_supersedes bigint[]) IS 'Accepts the reply of a task as a decision of its project, which may supersede others. For deciders and admins; again, it changes nothing.';

--
-- Name: accept_message(text, text, jsonb, text, text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.accept_message(p_source text, p_event_id text, p_message jsonb, p_provider text DEFAULT NULL::text, p_external_id text DEFAULT NULL::text, p_name text DEFAULT NULL::text) RETURNS TABLE(task_id uuid, state text, created boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  message jsonb := p_message;
  writer uuid;
  parent uuid;
  counted integer := 0;
begin
  if p_external_id is not null then
    select i.user_id into writer from atlas.identity i where (i.provider, i.external_id) = (p_provider, p_external_id);
    if writer is null then
      message := jsonb_set(message, '{metadata,sender_key}', to_jsonb(p_provider || ':' || p_external_id));
    end if;
  end if;
  if p_name is not null then
    -- somebody else's message under this id is not this one, however its sender came by the id
    while exists (select from public.architect_in i
        where i.task_id = atlas.derive_id(p_name, counted) and i.data ->> 'msg_type' = 'chat'
          and i.data #>> '{metadata,sender_key}' is distinct from p_provider || ':' || p_external_id
          and (i.sender is null or i.sender is distinct from writer)) loop
      counted := counted + 1;
    end loop;
    message := jsonb_set(message, '{task_id}', to_jsonb(atlas.derive_id(p_name, counted)));
  end if;
  insert into atlas.inbound (source, event_id, task_id) values (p_source, p_event_id, atlas.as_uuid(message ->> 'task_id'))
  on conflict do nothing;
  if not found then
    return query select i.task_id, coalesce(t.state, 'queued'), false
      from atlas.inbound i left join atlas.task t on t.id = i.task_id
      where (i.source, i.event_id) = (p_source, p_event_id);
    return;
  end if;
  if message #>> '{metadata,reply_to}' is not null and message #>> '{metadata,parent_id}' is null
     and message ->> 'msg_type' = 'chat' then
    parent := atlas.last_task_at(message #>> '{metadata,reply_to}');
    if parent is not null then
      message := jsonb_set(message, '{metadata,parent_id}', to_jsonb(parent));
    end if;
  end if;
  return query select s.task_id, s.state, s.created from atlas.submit_task(message, writer) s;
end
$$;

--
-- Name: FUNCTION accept_message(p_source text, p_event_id text, p_message jsonb, p_provider text, p_external_id text, p_name text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.accept_message(p_source text, p_event_id text, p_message jsonb, p_provider text, p_external_id text, p_name text) IS 'Takes a message from outside in, once a delivery: {task_id, state, created}. p_name: its name there, from which its task_id is
derived (derive_id); null where it brings its own. Raises AT001 for what breaks the contract.';

--
-- Name: actor(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.actor() RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select coalesce('user:' || atlas.uid()::text, 'role:' || atlas.caller_role())
$$;

--
-- Name: FUNCTION actor(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.actor() IS 'Who is calling, for the audit: the user of a login, else the database role.';

--
-- Name: add_member(uuid, text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.add_member(p_project uuid, p_who text, p_role text DEFAULT 'member'::text) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_user constant uuid := atlas.user_of(p_who);
begin
  if not exists (select from auth.users u where u.id = v_user) then
    raise exception using errcode = 'AT004', message = format('no user has the id %s', v_user),
      hint = 'they sign up first; `atlas whoami` shows a user their id';
  end if;
  insert into atlas.member (project_id, user_id, role) values (p_project, v_user, p_role)
  on conflict (project_id, user_id) do update set role = excluded.role;
  return v_user;
end
$$;

--
-- Name: FUNCTION add_member(p_project uuid, p_who text, p_role text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.add_member(p_project uuid, p_who text, p_role text) IS 'Adds a user (id or e-mail address) to a project, or changes their role; answers their id.';

--
-- Name: adopt_again(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.adopt_again() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  new.adopted_at := null;
  return new;
end
$$;

--
-- Name: FUNCTION adopt_again(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.adopt_again() IS 'A destination that is enabled again gets the events that were kept.';

--
-- Name: adopt_outbox(integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.adopt_outbox(p_limit integer DEFAULT 1000) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  d atlas.destination;
  n integer;
  adopted integer := 0;
begin
  for d in
    select x.* from atlas.destination x
    where x.enabled and (x.adopted_at is null or x.adopted_at > now() - interval '10 minutes') order by x.created_at, x.id
  loop
    insert into atlas.outbox (event_id, event_kind, task_id, out_id, payload, position, created_at, destination_id)
    select k.event_id, k.event_kind, k.task_id, k.out_id, k.payload, k.position, k.created_at, d.id
    from atlas.outbox k left join public.architect_out m on m.id = k.out_id
    where k.destination_id is null and k.state = 'pending' and k.created_at >= d.events_since
      and atlas.matches(d.filter, k.event_kind, coalesce(k.payload, m.data), coalesce(m.owner::text, 'service'))
      and not exists (select from atlas.outbox c where c.event_id = k.event_id and c.destination_id = d.id)
    order by k.position limit p_limit
    on conflict on constraint outbox_once do nothing;
    get diagnostics n = row_count;
    adopted := adopted + n;
    if n = 0 and d.adopted_at is null then
      update atlas.destination x set adopted_at = now() where x.id = d.id;
    end if;
  end loop;
  return adopted;
end
$$;

--
-- Name: FUNCTION adopt_outbox(p_limit integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.adopt_outbox(p_limit integer) IS 'Copies what was kept for want of a destination to those that came since; says how many rows that made. Call it until it says 0.';

--
-- Name: adopt_response(jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.adopt_response(p_response jsonb) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  v_id constant text := p_response ->> 'id';
  v_task constant uuid := atlas.as_uuid(p_response #>> '{metadata,task}');
  v_call constant bigint := case when p_response #>> '{metadata,call}' ~ '^\d{1,18}$' then (p_response #>> '{metadata,call}')::bigint end;
  usage jsonb := p_response -> 'usage';
  call atlas.spend;
  task atlas.task;
  was text;
  answered boolean;
begin
  if coalesce(v_id, '') = '' or jsonb_typeof(p_response -> 'status') is distinct from 'string' then
    perform atlas.refuse('response', 'has no id or no status', 'send {"id", "status", "metadata", "usage", "text"}', 'AT005',
      'adopt_response');
  end if;
  if p_response ->> 'status' not in ('completed', 'incomplete', 'failed', 'cancelled') then
    return 'known';
  end if;
  select s.* into call from atlas.spend s
  where s.id = v_call and s.task_id = v_task and s.corrects is null and (s.response_id is null or s.response_id = v_id)
    and exists (select from atlas.attempt a where a.task_id = s.task_id and a.id = atlas.as_uuid(p_response #>> '{metadata,attempt}'));
  if not found then
    return 'unknown';
  end if;
  select t.* into task from atlas.task t where t.id = call.task_id for no key update;
  select s.* into call from atlas.spend s where s.id = call.id and (s.response_id is null or s.response_id = v_id) for update;
  if not found then
    return 'unknown';
  end if;
  was := call.state;
  if jsonb_typeof(usage) is distinct from 'object' then
    -- a response that failed costs nothing; of another nobody will know
    usage := case p_response ->> 'status' when 'failed' then jsonb '{"known": "none"}' end;
  else
    usage := usage || jsonb '{"known": "reported"}';
  end if;
  answered := p_response ->> 'status' in ('completed', 'incomplete') and coalesce(p_response ->> 'text', '') <> '';
  update atlas.spend s set response_id = v_id, adopted_at = coalesce(s.adopted_at, now()) where s.id = call.id;
  if was = 'settled' then
    if usage is null or call.known = 'reported'
       or exists (select from atlas.spend c where c.corrects = call.id and c.known = 'reported') then
      return 'known';
    end if;
    perform atlas.settle_call(call.id, usage);
    if task.finished_at is null and answered then
      perform atlas.go_on_with(task);
    else
      perform atlas.keep_late_text(call.attempt_id, task, p_response ->> 'text');
    end if;
    return 'corrected';
  end if;
  if task.finished_at is not null then
    perform atlas.settle_call(call.id, usage);
    perform atlas.keep_late_text(call.attempt_id, task, p_response ->> 'text');
    return 'settled';
  end if;
  if task.state = 'running' and task.attempt_id = call.attempt_id then
    if was = 'held' then
      -- an attempt that went on without it, such as after a repair that was not answered
      perform atlas.settle_call(call.id, usage);
      perform atlas.keep_late_text(call.attempt_id, task, p_response ->> 'text');
      return 'settled';
    end if;
    if answered and not exists (select from atlas.attempt a where a.id = call.attempt_id and a.response_id = v_id) then
      -- its attempt still waits for an answer that may never come
      perform atlas.go_on_with(task);
      return 'adopted';
    end if;
    return 'known';
  end if;
  if not answered then
    perform atlas.settle_call(call.id, usage);
  elsif was = 'held' then
    update atlas.spend s set state = 'reserved', held_until = null, left_at = now() where s.id = call.id;
  end if;
  perform atlas.append_audit(task.id, 'adopt_response', jsonb_build_object('response', v_id, 'status', p_response ->> 'status',
    'call', call.call, 'was', was));
  if answered or task.state = 'queued' then
    perform atlas.go_on_with(task);
  end if;
  return case when answered then 'adopted' else 'settled' end;
end
$_$;

--
-- Name: FUNCTION adopt_response(p_response jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.adopt_response(p_response jsonb) IS 'Takes what the provider''s webhook tells of a response: a held call becomes known, a task that waits for it is woken, a task that
is over has it settled. Answers unknown, known, adopted, settled or corrected.';

--
-- Name: announce_budget(text, text, text, integer, numeric, numeric); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.announce_budget(p_scope text, p_period text, p_unit text, p_level integer, p_most numeric, p_settled numeric) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_starts constant date := case p_period when 'month' then date_trunc('month', atlas.today())::date else atlas.today() end;
begin
  insert into atlas.budget_event (scope, period, starts, unit, level, most)
  values (p_scope, p_period, v_starts, p_unit, p_level, p_most) on conflict do nothing;
  if not found then
    return;
  end if;
  perform atlas.emit(case p_level when 80 then 'budget.warning' else 'budget.spent' end, jsonb_build_object(
    'scope', p_scope, 'period', p_period, 'starts', v_starts, 'unit', p_unit, 'limit', p_most, 'settled', p_settled,
    'percent', case when p_most > 0 then round(100 * p_settled / p_most, 1) else 100 end,
    'top_senders', (
      select coalesce(jsonb_agg(jsonb_build_object('sender', x.sender_key, 'tokens', x.tokens, 'usd', x.usd)
        order by x.amount desc, x.sender_key), '[]')
      from (
        select substr(s.scopes[3], 8) as sender_key, sum(s.tokens) as tokens, sum(s.usd) as usd,
          case p_unit when 'usd' then sum(s.usd) else sum(s.tokens) end as amount
        from atlas.spend s
        where s.day >= v_starts and p_scope = any (s.scopes) and s.state = 'settled'
        group by s.scopes[3] order by 4 desc nulls last, 1 limit 5) x)));
end
$$;

--
-- Name: FUNCTION announce_budget(p_scope text, p_period text, p_unit text, p_level integer, p_most numeric, p_settled numeric); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.announce_budget(p_scope text, p_period text, p_unit text, p_level integer, p_most numeric, p_settled numeric) IS 'Tells of a budget once: at 80 %, and when it is spent. Internal.';

--
-- Name: announce_budgets(text[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.announce_budgets(p_scopes text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
begin
  perform atlas.announce_budget(b.scope, l.period, l.unit, v.level, l.most, l.settled)
  from atlas.budget_now b
  cross join lateral (values ('day', 'tokens', b.daily::numeric, b.settled_tokens::numeric), ('day', 'usd', b.usd_daily, b.settled_usd),
    ('month', 'tokens', b.monthly, b.month_settled_tokens), ('month', 'usd', b.usd_monthly, b.month_settled_usd))
    as l (period, unit, most, settled)
  cross join (values (80), (100)) as v (level)
  where b.scope = any (p_scopes) and num_nonnulls(b.daily, b.usd_daily, b.monthly, b.usd_monthly) > 0
    and l.settled > 0 and l.settled * 100 >= l.most * v.level
    and not exists (select from atlas.budget_event e where e.scope = b.scope and e.period = l.period and e.unit = l.unit
      and e.level = v.level and e.most = l.most
      and e.starts = case l.period when 'month' then date_trunc('month', atlas.today())::date else atlas.today() end)
  order by b.scope, l.period, l.unit, v.level;
end
$$;

--
-- Name: FUNCTION announce_budgets(p_scopes text[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.announce_budgets(p_scopes text[]) IS 'Tells of those budgets of a list that are spent to 80 or 100 %. Internal.';

--
-- Name: announce_decision(atlas.decision, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.announce_decision(p_decision atlas.decision, p_event text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_facts constant jsonb := jsonb_strip_nulls(jsonb_build_object('project_id', p_decision.project_id, 'number', p_decision.number,
    'superseded_by', p_decision.superseded_by));
begin
  if exists (select from atlas.task t where t.id = p_decision.task_id) then
    perform atlas.append_audit(p_decision.task_id, p_event, v_facts);
  else
    perform atlas.append_audit(null, p_event, v_facts);
  end if;
  perform atlas.emit('decision.' || p_decision.status, v_facts || jsonb_strip_nulls(jsonb_build_object('task_id', p_decision.task_id,
    'project', (select p.name from atlas.project p where p.id = p_decision.project_id), 'title', p_decision.title,
    'decided_by', atlas.actor(), 'reason', case p_decision.status when 'superseded' then p_decision.superseded_reason else p_decision.reason end)),
    p_decision.task_id);
end
$$;

--
-- Name: FUNCTION announce_decision(p_decision atlas.decision, p_event text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.announce_decision(p_decision atlas.decision, p_event text) IS 'A decision''s row of the audit, and its event. Internal.';

--
-- Name: answer_at(text, text, text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.answer_at(p_source text, p_event_id text, p_reply_to text, p_answer text) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_task uuid;
begin
  select i.task_id into v_task from atlas.inbound i where (i.source, i.event_id) = (p_source, p_event_id);
  if found then
    return v_task;
  end if;
  select t.id into v_task from public.architect_in i join atlas.task t on t.in_id = i.id
  where i.data #>> '{metadata,reply_to}' = p_reply_to and t.kind = 'chat' and t.state = 'needs_input'
  order by t.queued_at desc limit 1 for no key update of t;
  if v_task is null or btrim(coalesce(p_answer, '')) = '' then
    return null;
  end if;
  insert into atlas.inbound (source, event_id, task_id) values (p_source, p_event_id, v_task) on conflict do nothing;
  if found then
    perform atlas.answer_task(v_task, left(p_answer, 20000));
  end if;
  return v_task;
end
$$;

--
-- Name: FUNCTION answer_at(p_source text, p_event_id text, p_reply_to text, p_answer text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.answer_at(p_source text, p_event_id text, p_reply_to text, p_answer text) IS 'Answers, in a thread outside, the task there that asked back; says which. Null where none did: then it is a question. Once a delivery.';

--
-- Name: answer_task(uuid, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.answer_task(p_task_id uuid, p_answer text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  task atlas.task;
begin
  select t.* into task from atlas.task t where t.id = p_task_id for no key update;
  if not found or not (atlas.is_service() or atlas.owns_task(p_task_id)) then
    raise exception using errcode = 'AT004', message = format('no task %s', p_task_id), hint = 'see `atlas tasks` or atlas.task_history for the ids';
  end if;
  if task.state <> 'needs_input' then
    raise exception using errcode = 'AT005', message = format('answer_task: task %s is %s, and is not waiting for an answer', p_task_id, task.state),
      hint = case when task.answered is not null then 'it was answered already' else 'a task that is needs_input can be answered' end;
  end if;
  if btrim(coalesce(p_answer, ''), E' \t\r\n') = '' or length(p_answer) > 20000 then
    perform atlas.refuse('answer', 'is empty, or longer than 20,000 characters', 'say it in a sentence', 'AT001', 'answer_task');
  end if;
  update atlas.task t set state = 'queued', answered = p_answer, run_after = now(), out_id = null where t.id = p_task_id;
  perform atlas.append_audit(p_task_id, 'answer_task', jsonb_build_object('sha256', encode(sha256(convert_to(p_answer, 'UTF8')), 'hex')));
  perform atlas.wake_workers();
  return 'queued';
end
$$;

--
-- Name: FUNCTION answer_task(p_task_id uuid, p_answer text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.answer_task(p_task_id uuid, p_answer text) IS 'Answers what a task asked back: it is queued again. For who may read the task.';

--
-- Name: append_audit(uuid, text, jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.append_audit(p_task uuid, p_event text, p_detail jsonb DEFAULT '{}'::jsonb) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$ select atlas.append_audits(p_event, array[p_task], array[p_detail]) $$;

--
-- Name: FUNCTION append_audit(p_task uuid, p_event text, p_detail jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.append_audit(p_task uuid, p_event text, p_detail jsonb) IS 'Appends one row to a task''s chain, or to none. Internal.';

--
-- Name: append_audits(text, uuid[], jsonb[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.append_audits(p_event text, p_tasks uuid[], p_details jsonb[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_at constant timestamptz := clock_timestamp();
  v_actor constant text := atlas.actor();
begin
  insert into atlas.audit (task_id, seq, event, actor, at, detail, prev_hash, hash)
  select i.task, coalesce(l.seq, 0) + 1, p_event, v_actor, v_at, i.detail, l.hash,
    atlas.audit_hash(l.hash, i.task, coalesce(l.seq, 0) + 1, p_event, v_actor, v_at, i.detail)
  from unnest(p_tasks, p_details) as i (task, detail)
  left join lateral (
    select a.seq, a.hash from atlas.audit a where a.task_id = i.task order by a.seq desc limit 1) l on true;
end
$$;

--
-- Name: FUNCTION append_audits(p_event text, p_tasks uuid[], p_details jsonb[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.append_audits(p_event text, p_tasks uuid[], p_details jsonb[]) IS 'Appends a row of one event to the chain of each task; a null task belongs to no chain. Internal.';

--
-- Name: as_timestamp(text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.as_timestamp(value text) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
begin
  return value::timestamptz;
exception when data_exception then
  return null;
end
$$;

--
-- Name: FUNCTION as_timestamp(value text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.as_timestamp(value text) IS 'The text as a point in time, or null where it is none.';

--
-- Name: as_uuid(text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.as_uuid(value text) RETURNS uuid
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $_$
  select case when value ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then value::uuid end
$_$;

--
-- Name: FUNCTION as_uuid(value text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.as_uuid(value text) IS 'The text as a UUID, or null where it is none.';

--
-- Name: ask_back(uuid, text, jsonb, jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.ask_back(p_attempt_id uuid, p_content text, p_metadata jsonb, p_usages jsonb DEFAULT '{}'::jsonb) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  task atlas.task;
  reply_id bigint;
begin
  select t.* into task from atlas.task t
  where t.id = (select a.task_id from atlas.attempt a where a.id = p_attempt_id) and t.attempt_id = p_attempt_id for no key update;
  if not found then
    perform atlas.raise_lost(p_attempt_id);
  end if;
  if task.asked is not null then
    raise exception using errcode = 'AT005', message = format('ask_back: task %s has asked back already', task.id), hint = 'answer with what is known';
  end if;
  reply_id := atlas.reply(task, 'spec', p_content, p_metadata || jsonb_build_object('status', 'needs_input'));
  update atlas.attempt a set state = 'released', finished_at = now() where a.id = p_attempt_id;
  update atlas.task t set state = 'needs_input', attempt_id = null, out_id = reply_id, asked = p_content, model = p_metadata ->> 'model',
    error_code = null, error_message = null, outage_since = null
  where t.id = task.id;
  perform atlas.append_audit(task.id, 'ask_back', jsonb_build_object('attempt', task.attempts, 'sha256', encode(sha256(convert_to(p_content, 'UTF8')), 'hex')));
  perform atlas.settle_attempts(array[p_attempt_id], jsonb_build_object(p_attempt_id, p_usages));
  return 'needs_input';
end
$$;

--
-- Name: FUNCTION ask_back(p_attempt_id uuid, p_content text, p_metadata jsonb, p_usages jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.ask_back(p_attempt_id uuid, p_content text, p_metadata jsonb, p_usages jsonb) IS 'Ends an attempt with a question to whoever asked: the task waits for atlas.answer_task. Its money is settled.';

--
-- Name: attempt_spend(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.attempt_spend(p_attempt uuid) RETURNS TABLE(call integer, usd numeric, known text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select s.call, s.usd, s.known
  from atlas.spend s
  where s.attempt_id = p_attempt and s.corrects is null and s.state = 'settled'
  order by s.call
$$;

--
-- Name: FUNCTION attempt_spend(p_attempt uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.attempt_spend(p_attempt uuid) IS 'What the settled calls of an attempt have cost, in US dollars. For workers.';

--
-- Name: audit_digest(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.audit_digest() RETURNS TABLE(upto xid8, rows bigint, digest bytea, prev_mac bytea)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  last record;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('atlas.audit_checkpoint', 0)) then
    return;
  end if;
  if atlas.continue_audit() then
    return;
  end if;
  select c.upto, c.mac into last from atlas.audit_checkpoint c order by c.id desc limit 1;
  upto := atlas.ended_xacts();
  prev_mac := last.mac;
  select count(*), sha256(coalesce(string_agg(a.hash, ''::bytea order by a.id), ''::bytea)) into rows, digest
  from atlas.audit a
  where a.xact < audit_digest.upto and (last.upto is null or a.xact >= last.upto);
  if rows > 0 then
    return next;
  end if;
end
$$;

--
-- Name: FUNCTION audit_digest(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.audit_digest() IS 'What is new since the last seal; no row when nothing is, or another seals.';

--
-- Name: audit_hash(bytea, uuid, integer, text, text, timestamp with time zone, jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.audit_hash(prev_hash bytea, task_id uuid, seq integer, event text, actor text, at timestamp with time zone, detail jsonb) RETURNS bytea
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
    AS $$
begin
  return sha256(convert_to(concat_ws('|', coalesce(encode(prev_hash, 'hex'), '-'), coalesce(task_id::text, '-'), seq,
    event, actor, extract(epoch from at), detail::text), 'UTF8'));
end
$$;

--
-- Name: FUNCTION audit_hash(prev_hash bytea, task_id uuid, seq integer, event text, actor text, at timestamp with time zone, detail jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.audit_hash(prev_hash bytea, task_id uuid, seq integer, event text, actor text, at timestamp with time zone, detail jsonb) IS 'The hash of an audit row.';

--
-- Name: begin_post(uuid, text, uuid, text, interval); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.begin_post(p_task_id uuid, p_part text, p_event_id uuid, p_address text, p_lease interval) RETURNS TABLE(verdict text, external_id text, url text, since timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  was atlas.post;
begin
  insert into atlas.post (task_id, part, event_id, address, lease_expires_at)
  values (p_task_id, p_part, p_event_id, p_address, now() + atlas.bounded(p_lease, '0', '1 hour')) on conflict do nothing;
  if found then
    return query select 'create', null::text, null::text, now();
    return;
  end if;
  select p.* into was from atlas.post p where (p.task_id, p.part) = (p_task_id, p_part) for no key update;
  if was.state = 'posted' then
    return query select 'posted', was.external_id, was.url, was.created_at;
  elsif was.lease_expires_at > now() then
    return query select 'busy', null::text, null::text, was.created_at;
  else
    update atlas.post p set lease_expires_at = now() + atlas.bounded(p_lease, '0', '1 hour') where (p.task_id, p.part) = (p_task_id, p_part);
    return query select 'look_up', null::text, null::text, was.created_at;
  end if;
end
$$;

--
-- Name: FUNCTION begin_post(p_task_id uuid, p_part text, p_event_id uuid, p_address text, p_lease interval); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.begin_post(p_task_id uuid, p_part text, p_event_id uuid, p_address text, p_lease interval) IS 'Before a post is made. create: make it; look_up: an earlier call may have made it, look there first; posted: it is there; busy:
another call is making it.';

--
-- Name: bounded(interval, interval, interval); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.bounded(p_value interval, p_least interval, p_most interval) RETURNS interval
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$ select greatest(p_least, least(coalesce(p_value, p_least), p_most)) $$;

--
-- Name: FUNCTION bounded(p_value interval, p_least interval, p_most interval); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.bounded(p_value interval, p_least interval, p_most interval) IS 'The value, or the nearer bound: a caller''s interval is not taken as it comes.';

--
-- Name: breaker_open_until(integer, double precision, double precision, double precision); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.breaker_open_until(p_failures integer, p_first double precision, p_longest double precision, p_asked double precision DEFAULT 0) RETURNS timestamp with time zone
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  select case when p_failures >= 3 then now() + interval '1 second' * greatest(least(p_asked, 300),
    (0.5 + random() / 2) * least(p_longest, p_first * 2 ^ least(p_failures - 3, 6))) end
$$;

--
-- Name: FUNCTION breaker_open_until(p_failures integer, p_first double precision, p_longest double precision, p_asked double precision); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.breaker_open_until(p_failures integer, p_first double precision, p_longest double precision, p_asked double precision) IS 'The breaker of destinations: from the third failure in a row it opens, for p_first seconds doubled up to p_longest, half of it
jitter, and never for less than was asked for (300 s at most). Null: it stays closed. Internal.';

--
-- Name: broadcast_cancel(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.broadcast_cancel() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform realtime.send(jsonb_build_object('task_id', new.id), 'cancel_requested', 'atlas:wake', true);
  return null;
end
$$;

--
-- Name: FUNCTION broadcast_cancel(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.broadcast_cancel() IS 'Tells workers over Realtime that a running task was asked to stop.';

--
-- Name: broadcast_interval(double precision); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.broadcast_interval(p_rate double precision) RETURNS interval
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select case when r.free > 0 then r.events / r.free * interval '1 second' end
  from (
    select
      (select count(*) + count(distinct w.task_id) from atlas.watch w join atlas.task t on t.id = w.task_id
       where w.expires_at > now() and t.state = 'running') as events,
      p_rate - (select count(*) from (select i.created_at from public.architect_in i order by i.id desc limit 500) i
                where i.created_at > now() - interval '10 seconds') / 10.0
             * (5 + 2 * (select count(*) from atlas.worker w where w.state <> 'stopped' and w.seen_at > now() - interval '2 minutes'))
        as free
  ) r
$$;

--
-- Name: FUNCTION broadcast_interval(p_rate double precision); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.broadcast_interval(p_rate double precision) IS 'How long from one broadcast of a watched stream to the next, for the whole project to stay within so many Realtime events a second; null while wake-ups need all of them. Internal.';

--
-- Name: broadcast_parts(uuid[], double precision); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.broadcast_parts(p_attempts uuid[], p_rate double precision) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
  pause interval;
  stream record;
begin
  if not exists (select from atlas.watch w join atlas.attempt a on a.task_id = w.task_id
                 where a.id = any (p_attempts) and w.expires_at > now()) then
    return;
  end if;
  pause := atlas.broadcast_interval(p_rate);
  for stream in
    select a.task_id, a.number, a.generation, s.starts, p.ends, p.seq, p.text
    from atlas.attempt a
    cross join lateral (
      select max(w.sent_at) as sent_at,
        max(w.sent_to) filter (where w.sent_attempt = a.number and w.sent_generation = a.generation) as sent_to
      from atlas.watch w where w.task_id = a.task_id and w.expires_at > now() having count(*) > 0) w
    cross join lateral (
      select coalesce(w.sent_to, (select min(n."offset") from atlas.reply_part n
        where n.attempt_id = a.id and n.generation = a.generation and not n.inherited and n.created_at = now())) as starts) s
    cross join lateral (
      select string_agg(n.text, '' order by n."offset") as text, max(n.seq) as seq, max(n."offset" + length(n.text)) as ends
      from atlas.reply_part n
      where n.attempt_id = a.id and n.generation = a.generation and not n.inherited and n."offset" >= s.starts) p
    where a.id = any (p_attempts) and p.text is not null and (w.sent_to is null or w.sent_at + pause <= now())
    order by a.task_id
  loop
    if stream.starts = 0 and (stream.number > 1 or stream.generation > 0) then
      perform realtime.send(jsonb_build_object('attempt', stream.number, 'generation', stream.generation, 'offset', 0),
        'reset', 'task:' || stream.task_id, true);
    end if;
    perform realtime.send(jsonb_build_object('attempt', stream.number, 'generation', stream.generation, 'seq', stream.seq,
      'offset', stream.starts, 'text', stream.text), 'delta', 'task:' || stream.task_id, true);
    update atlas.watch w set sent_at = now(), sent_attempt = stream.number, sent_generation = stream.generation, sent_to = stream.ends
    where w.task_id = stream.task_id and w.expires_at > now();
  end loop;
end
$$;

--
-- Name: FUNCTION broadcast_parts(p_attempts uuid[], p_rate double precision); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.broadcast_parts(p_attempts uuid[], p_rate double precision) IS 'Broadcasts new text of watched streams, within so many Realtime events a second of the whole project. Internal.';

--
-- Name: caller_role(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.caller_role() RETURNS name
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select coalesce(nullif(current_setting('role', true), 'none'), session_user)::name
$$;

--
-- Name: FUNCTION caller_role(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.caller_role() IS 'The role the caller acts as, also inside security definer functions.';

--
-- Name: cancel_copy(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.cancel_copy(p_task uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  task atlas.task;
begin
  select t.* into task from atlas.task t where t.id = p_task for no key update;
  if task.finished_at is null then
    perform atlas.end_task(task, 'cancelled', 'cancelled', 'its original went on elsewhere', '{}');
  end if;
  -- receivers know the task from the original, whose word counts
  update atlas.outbox o set state = 'skipped'
  where o.state = 'pending' and o.out_id = (select t.out_id from atlas.task t where t.id = p_task);
end
$$;

--
-- Name: FUNCTION cancel_copy(p_task uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.cancel_copy(p_task uuid) IS 'Cancels a task of a restored copy that its original continued: nothing is sent of it, and nobody is asked to stop.';

--
-- Name: cancel_task(uuid, uuid, jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.cancel_task(p_task_id uuid, p_attempt_id uuid DEFAULT NULL::uuid, p_usages jsonb DEFAULT '{}'::jsonb) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  task atlas.task;
  trusted constant boolean := atlas.is_service() or atlas.caller_role() = 'atlas_worker';
begin
  if p_attempt_id is not null and not trusted then
    raise exception using errcode = 'AT006', message = 'cancel_task: an attempt is confirmed by its worker only',
      hint = 'leave the attempt out: the worker is told to stop';
  end if;
  select t.* into task from atlas.task t where t.id = p_task_id for no key update;
  if not found or not (trusted or coalesce(task.sender = atlas.uid(), false)) then
    raise exception using errcode = 'AT004', message = format('no task %s', p_task_id),
      hint = 'see `atlas tasks` or atlas.task_history for the ids';
  end if;
  if p_attempt_id is not null then
    if task.attempt_id is distinct from p_attempt_id then
      perform atlas.raise_lost(p_attempt_id);
    end if;
    perform atlas.end_task(task, 'cancelled', 'cancelled', 'cancelled on request', p_usages);
    return 'cancelled';
  end if;
  if task.state not in ('queued', 'running', 'needs_input') then
    return task.state;
  end if;
  -- a held call ends by itself; a response that is under way is stopped by a worker
  if task.state in ('queued', 'needs_input') and not exists (select from atlas.spend s where s.task_id = task.id and s.state = 'reserved') then
    perform atlas.end_task(task, 'cancelled', 'cancelled', 'cancelled before it ran', '{}');
    return 'cancelled';
  end if;
  update atlas.task t set cancel_requested_at = coalesce(t.cancel_requested_at, now()), wait_reason = null,
    wait_scope = null
  where t.id = task.id;
  perform atlas.append_audit(task.id, 'request_cancel', '{}');
  -- rare, so its lock does no harm: the worker that runs it must hear of it now
  notify atlas_wake, 'cancel';
  return task.state;
end
$$;

--
-- Name: FUNCTION cancel_task(p_task_id uuid, p_attempt_id uuid, p_usages jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.cancel_task(p_task_id uuid, p_attempt_id uuid, p_usages jsonb) IS 'Cancels a task: at once when queued; a running one is flagged for its worker. Says the state it is in now.';

--
-- Name: check_control(jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.check_control(message jsonb) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
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

--
-- Name: FUNCTION check_control(message jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.check_control(message jsonb) IS 'Refuses a control message that no worker could carry out.';

--
-- Name: check_ledger(date); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.check_ledger(p_since date DEFAULT NULL::date) RETURNS TABLE(problem text, subject text, expected numeric, found numeric)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  with call as (
    select s.* from atlas.spend s where p_since is null or s.day >= p_since
  ),
  corrected as (
    select c.id, c.day, c.scopes, c.reserved_tokens, c.state,
      c.tokens + coalesce((select sum(x.tokens) from atlas.spend x where x.corrects = c.id), 0) as tokens
    from call c where c.corrects is null
  ),
  booked as (
    select d.day, d.scope, d.reserved_tokens, d.settled_tokens, d.overrun_tokens, d.reserved_usd, d.settled_usd,
      coalesce(s.reserved_tokens, 0) as real_reserved, coalesce(s.tokens, 0) as real_settled,
      coalesce(s.reserved_usd, 0) as real_reserved_usd, coalesce(s.usd, 0) as real_settled_usd, coalesce(o.overrun, 0) as real_overrun
    from atlas.budget_day d
    left join (
      select c.day, x.scope, sum(c.reserved_tokens) filter (where c.state <> 'settled') as reserved_tokens,
        sum(c.tokens) as tokens, sum(c.reserved_usd) filter (where c.state <> 'settled') as reserved_usd, sum(c.usd) as usd
      from call c cross join unnest(c.scopes) x (scope) group by c.day, x.scope) s on s.day = d.day and s.scope = d.scope
    left join (
      select c.day, x.scope, sum(greatest(0, c.tokens - c.reserved_tokens)) as overrun
      from corrected c cross join unnest(c.scopes) x (scope) where c.state = 'settled' group by c.day, x.scope) o
      on o.day = d.day and o.scope = d.scope
    where p_since is null or d.day >= p_since
  ),
  touched as (select distinct c.task_id from call c),
  by_task as (
    select t.task_id, sum(s.tokens) as tokens, sum(s.usd) as usd, count(*) filter (where s.corrects is null) as calls
    from touched t join atlas.spend s on s.task_id = t.task_id group by t.task_id
  ),
  told as (
    select t.task_id, sum((c.value ->> 'tokens')::numeric) as tokens, sum((c.value ->> 'usd')::numeric) as usd
    from touched t join atlas.audit a on a.task_id = t.task_id and a.event in ('record_usage', 'complete_task') and a.detail ? 'calls'
    cross join jsonb_array_elements(a.detail -> 'calls') c group by t.task_id
  ),
  reserved as (
    select t.task_id, count(*) as calls from touched t
    join atlas.audit a on a.task_id = t.task_id and a.event = 'reserve_tokens' group by t.task_id
  )
  select 'a budget''s reserved tokens are not those of its calls', b.day || ' ' || b.scope, b.real_reserved, b.reserved_tokens
  from booked b where b.real_reserved <> b.reserved_tokens
  union all
  select 'a budget''s settled tokens are not those of its calls', b.day || ' ' || b.scope, b.real_settled, b.settled_tokens
  from booked b where b.real_settled <> b.settled_tokens
  union all
  select 'a budget''s reserved USD are not those of its calls', b.day || ' ' || b.scope, b.real_reserved_usd, b.reserved_usd
  from booked b where b.real_reserved_usd <> b.reserved_usd
  union all
  select 'a budget''s settled USD are not those of its calls', b.day || ' ' || b.scope, b.real_settled_usd, b.settled_usd
  from booked b where b.real_settled_usd <> b.settled_usd
  union all
  select 'a budget''s overrun is not that of its calls', b.day || ' ' || b.scope, b.real_overrun, b.overrun_tokens
  from booked b where b.real_overrun <> b.overrun_tokens
  union all
  select 'a call is in no day of its budget', c.id::text, 1, 0
  from call c join lateral unnest(c.scopes) x (scope) on true
  join atlas.budget b on b.scope = x.scope
  where c.tokens > 0 and c.reserved_at > b.updated_at and c.day = atlas.today()
    and not exists (select from atlas.budget_day d where d.day = c.day and d.scope = x.scope)
  union all
  select 'a reservation belongs to nobody', c.id::text, 0, c.reserved_tokens
  from call c join atlas.attempt a on a.id = c.attempt_id
  where c.state = 'reserved' and c.left_at is null and a.state <> 'running'
  union all
  select 'the audit of a task has other tokens than its calls', b.task_id::text, b.tokens, coalesce(t.tokens, 0)
  from by_task b left join told t on t.task_id = b.task_id where coalesce(b.tokens, 0) <> coalesce(t.tokens, 0)
  union all
  select 'the audit of a task has other USD than its calls', b.task_id::text, b.usd, coalesce(t.usd, 0)
  from by_task b left join told t on t.task_id = b.task_id where coalesce(b.usd, 0) <> coalesce(t.usd, 0)
  union all
  select 'the audit of a task has another number of reservations than calls', b.task_id::text, b.calls, coalesce(r.calls, 0)
  from by_task b left join reserved r on r.task_id = b.task_id where b.calls <> coalesce(r.calls, 0)
  union all
  select 'a task has another number of attempts than it counts', t.task_id::text, k.attempts,
    (select count(*) from atlas.attempt a where a.task_id = t.task_id)
  from touched t join atlas.task k on k.id = t.task_id
  where k.attempts <> (select count(*) from atlas.attempt a where a.task_id = t.task_id)
  union all
  select 'a task runs without its attempt, or an attempt without its task', coalesce(k.id, a.task_id)::text, 1, 0
  from (select t.id, t.attempt_id from atlas.task t where t.state = 'running') k
  full join (select x.id, x.task_id from atlas.attempt x where x.state = 'running') a on a.id = k.attempt_id
  where k.id is null or a.id is null
  union all
  select 'a task waits for reservations that do not exist', t.id::text, 0, 1
  from atlas.task t
  where t.wait_reason = 'reserved_budget' and t.run_after > now() + interval '90 seconds'
    and not exists (select from atlas.budget_day d where d.scope = t.wait_scope and d.reserved_tokens > 0)
  union all
  select 'a held call is not settled long after its hold', c.id::text, 0, c.reserved_tokens
  from call c where c.state = 'held' and c.held_until < now() - interval '10 minutes'
$$;

--
-- Name: FUNCTION check_ledger(p_since date); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.check_ledger(p_since date) IS 'A row for each disagreement between budget days, calls, attempts and audit, since a UTC day; no row: the books are right.';

--
-- Name: check_limits(text, jsonb, text, text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.check_limits(p_scope text, p_limits jsonb, p_state text DEFAULT 'AT005'::text, p_thing text DEFAULT 'set_budget'::text, p_prefix text DEFAULT ''::text) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  names constant text[] := array['per_run', 'daily', 'monthly', 'usd_per_run', 'usd_daily', 'usd_monthly'];
  modes constant jsonb := jsonb '{"enforcement": ["hard", "soft"], "when_spent": ["defer", "reject"]}';
  name text;
  value jsonb;
begin
  if coalesce(p_scope, '') !~ '^(global|project:[0-9a-f-]{36}|(sender|model):.+)$' then
    perform atlas.refuse(p_prefix || 'scope', format('%L is not a scope', p_scope),
      'use global, project:<uuid>, sender:<key> or model:<name>', p_state, p_thing);
  end if;
  if jsonb_typeof(p_limits) is distinct from 'object' then
    perform atlas.refuse(p_prefix || 'limits', 'are not an object', 'send such as {"daily": 200000}', p_state, p_thing);
  end if;
  for name, value in select * from jsonb_each(p_limits) loop
    if modes ? name then
      if not modes -> name @> value or jsonb_typeof(value) <> 'string' then
        perform atlas.refuse(p_prefix || name, format('%s is not known', value),
          format('use %s or %s', modes -> name ->> 0, modes -> name ->> 1), p_state, p_thing);
      end if;
    elsif name <> all (names) then
      perform atlas.refuse(p_prefix || name, 'is not a limit', 'use one of ' || array_to_string(names || array['enforcement', 'when_spent'], ', '),
        p_state, p_thing);
    elsif jsonb_typeof(value) not in ('number', 'null')
       or (value #>> '{}')::numeric not between 0 and (case name when 'per_run' then 2147483647 else 1e12 end)
       or (name like 'usd%' and (value #>> '{}')::numeric > 1e7)
       or (name not like 'usd%' and (value #>> '{}')::numeric <> trunc((value #>> '{}')::numeric)) then
      perform atlas.refuse(p_prefix || name, format('%s is not a budget', value),
        case when name like 'usd%' then 'send US dollars, from 0 to 10,000,000, or null for none'
             else 'send a whole number of tokens, at least 0, or null for none' end, p_state, p_thing);
    end if;
  end loop;
end
$_$;

--
-- Name: FUNCTION check_limits(p_scope text, p_limits jsonb, p_state text, p_thing text, p_prefix text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.check_limits(p_scope text, p_limits jsonb, p_state text, p_thing text, p_prefix text) IS 'Refuses limits that are not ones, naming the field and the fix. Internal.';

--
-- Name: check_message(jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.check_message(message jsonb) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $_$
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
  if message ->> 'role' = 'architect' and message ->> 'msg_type' = 'chat' and message #>> '{metadata,kind}' not in ('adr', 'answer', 'comparison', 'review', 'plan') then
    perform atlas.refuse('metadata.kind', format('%s is not known', message #> '{metadata,kind}'),
      'send "adr", "answer", "comparison", "review" or "plan", or leave it out');
  end if;
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
$_$;

--
-- Name: FUNCTION check_message(message jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.check_message(message jsonb) IS 'Refuses (AT001) a message that breaks the contract, naming the field and the fix.';

--
-- Name: check_metadata(jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.check_metadata(metadata jsonb) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $_$
declare
  known constant text[] := array['tokens', 'model', 'parent_id', 'status', 'schema_ver', 'chunk', 'sources', 'usage', 'error', 'priority',
    'reply_to', 'sender_key', 'run_after', 'completion_window', 'kind', 'warnings', 'traceparent', 'project', 'truncated',
    'anew', 'replays', 'revises', 'sections', 'answers', 'ask', 'kind_chosen', 'prompts', 'read_first', 'record', 'claims', 'work_items'];
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
  foreach kind in array array['revises', 'replays'] loop
    if jsonb_typeof(metadata -> kind) <> 'null' and atlas.as_uuid(metadata ->> kind) is null then
      perform atlas.refuse('metadata.' || kind, format('%s is not a UUID', metadata -> kind), 'send the id of the task whose reply it is');
    end if;
  end loop;
  if metadata ->> 'revises' is not null and metadata ->> 'replays' is not null then
    perform atlas.refuse('metadata.replays', 'cannot go with revises', 'send one of them');
  end if;
  if jsonb_typeof(metadata -> 'anew') not in ('boolean', 'null') then
    perform atlas.refuse('metadata.anew', 'must be true or false', 'leave it out: what is decided is not asked again');
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
$_$;

--
-- Name: FUNCTION check_metadata(metadata jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.check_metadata(metadata jsonb) IS 'Refuses metadata whose known fields have the wrong shape.';

--
-- Name: claim_outbox(uuid, uuid, integer, interval); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.claim_outbox(p_lease_owner uuid, p_destination uuid, p_limit integer, p_lease interval) RETURNS TABLE(id bigint, event_id uuid, event_kind text, task_id uuid, ordering_key text, payload jsonb, rejections integer, sender_key text, created_at timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  d atlas.destination;
begin
  select x.* into d from atlas.destination x where x.id = p_destination and x.enabled;
  if not found or d.open_until > now() then
    return;
  end if;
  return query
  with due as materialized (
    select o.id from atlas.outbox o
    where o.destination_id = p_destination and o.state = 'pending' and o.run_after <= now()
      and coalesce(o.lease_expires_at, '-infinity') <= now()
      -- in order per task: nothing unsent before it, unless this same claim may take that too
      and (select true from atlas.outbox e
           where e.task_id = o.task_id and e.destination_id = o.destination_id and e.position < o.position
             and e.state in ('pending', 'dead')
             and (e.state = 'dead' or e.run_after > now() or coalesce(e.lease_expires_at, '-infinity') > now())
           limit 1) is null
      -- nor anything that was kept, and is yet to be copied to this destination
      and (select true from atlas.outbox k left join public.architect_out m on m.id = k.out_id
           where k.task_id = o.task_id and k.destination_id is null and k.position < o.position and k.state = 'pending'
             and k.created_at >= d.events_since and atlas.matches(d.filter, k.event_kind, coalesce(k.payload, m.data), coalesce(m.owner::text, 'service'))
             and not exists (select from atlas.outbox c where c.event_id = k.event_id and c.destination_id = p_destination)
           limit 1) is null
    order by o.position limit case when d.failures >= 3 then 200 else p_limit end
  ),
  -- after failures one row is tried, and not all of them: the one that was not tried for longest
  tried as materialized (
    select due.id from due join atlas.outbox o on o.id = due.id
    where d.failures < 3 or (
      select true from atlas.outbox e where e.task_id = o.task_id and e.destination_id = o.destination_id
        and e.position < o.position and e.state in ('pending', 'dead') limit 1) is null
    order by case when d.failures >= 3 then o.run_after end, o.position limit case when d.failures >= 3 then 1 else p_limit end
  ),
  held as materialized (
    select o.id, o.task_id, o.position from atlas.outbox o
    where o.id = any (array(select tried.id from tried)) and o.state = 'pending'
      and coalesce(o.lease_expires_at, '-infinity') <= now()
    order by o.id for no key update skip locked
  ),
  -- a row that another relay holds keeps back the later rows of its task
  ready as materialized (
    select h.id from held h
    where (select true from atlas.outbox e
           where e.task_id = h.task_id and e.destination_id = p_destination and e.position < h.position
             and e.state in ('pending', 'dead') and e.id <> all (array(select held.id from held)) limit 1) is null
  ),
  claimed as (
    update atlas.outbox o set lease_owner = p_lease_owner, lease_expires_at = now() + atlas.bounded(p_lease, '0', '1 hour')
    where o.id = any (array(select ready.id from ready))
    returning o.id, o.event_id, o.event_kind, o.task_id, o.payload, o.rejections, o.out_id, o.position, o.created_at
  )
  select c.id, c.event_id, c.event_kind, c.task_id, coalesce(c.task_id::text, m.task_id::text, c.event_kind),
    atlas.in_context(coalesce(c.payload, m.data), i.data -> 'metadata'),
    c.rejections, coalesce(t.sender_key, m.owner::text, 'service'), c.created_at
  from claimed c
  left join public.architect_out m on m.id = c.out_id
  left join atlas.task t on t.id = coalesce(c.task_id, m.task_id)
  left join public.architect_in i on i.id = t.in_id and c.event_kind in ('message', 'progress')
  order by c.position;
end
$$;

--
-- Name: FUNCTION claim_outbox(p_lease_owner uuid, p_destination uuid, p_limit integer, p_lease interval); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.claim_outbox(p_lease_owner uuid, p_destination uuid, p_limit integer, p_lease interval) IS 'Leases pending rows of a destination to a relay, in order per task; a dead or held row keeps back the later ones of its task.';

--
-- Name: claim_tasks(uuid, integer, integer, interval); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.claim_tasks(p_worker_id uuid, p_chats integer, p_controls integer, p_lease interval) RETURNS TABLE(task_id uuid, attempt_id uuid, attempt integer, kind text, message jsonb, message_task_id uuid, sender_key text, project_id uuid, parent_id uuid, queued_at timestamp with time zone, lease_expires_at timestamp with time zone, cancel_requested boolean, per_run integer, per_run_scope text, label_key uuid, inherited jsonb)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  chosen uuid[] := '{}'::uuid[];
  candidates uuid[];
  chats uuid[];
  width integer;
  again boolean;
begin
  p_chats := least(p_chats, 10000);
  p_controls := least(p_controls, 10000);
  if exists (select from atlas.task t where t.wait_reason is not null and t.run_after <= now()) then
    update atlas.task t set wait_reason = null, wait_scope = null
    where t.id in (select w.id from atlas.task w where w.wait_reason is not null and w.run_after <= now()
      order by w.run_after limit 500 for no key update skip locked);
  end if;
  -- control messages are few, and go first; they are carried out also while the queue is paused
  if p_controls > 0 then
    select coalesce(array_agg(c.id), '{}') into chosen from (
      select t.id from atlas.task t
      where t.ready and t.kind = 'control'
      order by t.in_id limit p_controls for no key update skip locked) c;
  end if;
  if p_chats > 0 and (select c.paused_at is null from atlas.control c) then
    -- other claimers may hold all of the first ones: then a wider look
    foreach width in array array[2, 32] loop
      candidates := atlas.next_tasks(width * p_chats);
      select array_agg(c.id order by c.place) into chats from (
        select t.id, n.place from unnest(candidates) with ordinality as n (id, place)
        -- asked again, row by row, since another claim may have come in between
        cross join lateral (select l.id from atlas.task l
          where l.id = n.id and l.state = 'queued' and l.wait_reason is null for no key update skip locked) t
        limit p_chats) c;
      exit when cardinality(chats) = p_chats or cardinality(candidates) < width * p_chats;
    end loop;
    chosen := chosen || chats;
  end if;
  if cardinality(chosen) = 0 then
    return;
  end if;
  with picked as (
    select o.id, nextval('atlas.claim_seq') as seq from unnest(chosen) with ordinality as o (id, n) order by o.n
  ),
  claimed as (
    update atlas.task t set state = 'running', attempt_id = atlas.new_id(), attempts = t.attempts + 1,
      claim_seq = p.seq, started_at = coalesce(t.started_at, now())
    from picked p where t.id = p.id and t.id = any (chosen)
    returning t.*
  ),
  begun as (
    insert into atlas.attempt (id, task_id, number, lease_owner, lease_expires_at)
    select c.attempt_id, c.id, c.attempts, p_worker_id, now() + atlas.bounded(p_lease, '0', '1 hour') from claimed c
  ),
  announced as (
    insert into public.architect_out (data, task_id, owner, project_id)
    select jsonb_build_object('task_id', c.id, 'role', 'architect', 'msg_type', 'spec', 'content', '',
        'metadata', jsonb_build_object('tokens', 0, 'model', null, 'parent_id', c.parent_id,
          'status', 'in_progress', 'schema_ver', 1)),
      c.id, c.sender, c.project_id
    from claimed c where c.kind = 'chat' and c.attempts = 1
  )
  select bool_or(c.attempts > 1) into again from claimed c;
  if again then
    perform atlas.inherit_responses(chosen);
  end if;
  return query
  select t.id, t.attempt_id, t.attempts, t.kind, m.data, t.message_task_id, t.sender_key, t.project_id, t.parent_id,
    t.queued_at, now() + atlas.bounded(p_lease, '0', '1 hour'), t.cancel_requested_at is not null,
    r.per_run, r.scope,
    case when t.attempts = 1 then t.attempt_id
         else (select f.id from atlas.attempt f where f.task_id = t.id and f.number = 1 limit 1) end,
    case when t.attempts > 1 then atlas.inherited_response(t) end
  from atlas.task t
  -- a look-up by the key, whatever the planner thinks of how many there are
  cross join lateral (select i.data from public.architect_in i where i.id = t.in_id limit 1) m
  left join lateral (
    select l.per_run, case when l.scope <> 'global' or 'per_run' = any (l.controlled) then l.scope end as scope
    from atlas.budget l
    where l.scope = any (array['global', 'project:' || t.project_id, 'sender:' || t.sender_key]) and l.per_run is not null
    order by l.per_run, l.scope limit 1) r on true
  where t.id = any (chosen)
  order by t.claim_seq;
end
$$;

--
-- Name: FUNCTION claim_tasks(p_worker_id uuid, p_chats integer, p_controls integer, p_lease interval); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.claim_tasks(p_worker_id uuid, p_chats integer, p_controls integer, p_lease interval) IS 'Claims up to so many questions and control messages, in fair turns, each with a lease on a new attempt. label_key:
random, the same for each attempt of a task; sources are labelled by it. inherited: the
response that a lost attempt had begun, with its reservation, to be resumed.';

--
-- Name: complete_tasks(jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.complete_tasks(p_items jsonb) RETURNS SETOF uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  ids constant uuid[] := array(select (i ->> 'attempt_id')::uuid from jsonb_array_elements(p_items) i);
  v_tasks uuid[];
  done uuid[];
  details jsonb;
begin
  select array_agg(l.id), array_agg(l.attempt_id) into v_tasks, done from (
    select t.id, t.attempt_id from atlas.task t
    where t.id = any (array(select a.task_id from atlas.attempt a where a.id = any (ids))) and t.attempt_id = any (ids)
    order by t.id for no key update) l;
  -- after the locks: the same call may have been under way, and is answered as it was
  return query select a.id from atlas.attempt a where a.id = any (ids) and a.state = 'completed';
  if done is null then
    return;
  end if;
  perform from atlas.attempt a where a.id = any (done) order by a.id for no key update;
  with item as materialized (
    select distinct on (t.id) t.id, t.message_task_id, t.sender, t.project_id, t.parent_id, t.attempt_id, t.attempts,
      i.content, i.model, i.response_id,
      jsonb_build_object('status', 'completed', 'model', i.model) || coalesce(i.metadata, '{}') as metadata,
      coalesce(i.msg_type, 'spec') as msg_type, nextval('public.architect_out_id_seq') as reply_id
    from jsonb_to_recordset(p_items) as i (attempt_id uuid, content text, metadata jsonb, model text, msg_type text, response_id text)
    join (select k.* from atlas.task k where k.id = any (v_tasks) offset 0) t on t.attempt_id = i.attempt_id
    order by t.id
  ),
  replied as (
    insert into public.architect_out (id, data, task_id, owner, project_id) overriding system value
    select i.reply_id, jsonb_build_object('task_id', i.message_task_id, 'role', 'architect', 'msg_type', i.msg_type,
        'content', i.content, 'metadata', atlas.reply_metadata(i.parent_id, i.metadata)),
      i.message_task_id, i.sender, i.project_id
    from item i order by i.reply_id
    returning architect_out.id, atlas.message_sha256(architect_out.data) as hash
  ),
  ended as (
    update atlas.attempt a set state = 'completed', finished_at = now(), model = coalesce(i.model, a.model),
      response_id = coalesce(i.response_id, a.response_id)
    from item i where a.id = i.attempt_id and a.id = any (done)
  ),
  finished as (
    update atlas.task t set state = 'completed', attempt_id = null, finished_at = now(), out_id = i.reply_id,
      model = i.model, error_code = null, error_message = null, outage_since = null
    from item i where t.id = i.id and t.id = any (v_tasks)
  )
  select jsonb_object_agg(i.id, jsonb_strip_nulls(jsonb_build_object('attempt', i.attempts,
      'worker', (select a.lease_owner from atlas.attempt a where a.id = i.attempt_id), 'model', i.model,
      'reply_sha256', encode(sha256(convert_to(i.content, 'UTF8')), 'hex'), 'message_sha256', r.hash)))
    into details from item i join replied r on r.id = i.reply_id;
  perform atlas.settle_attempts(done,
    (select jsonb_object_agg(i ->> 'attempt_id', coalesce(i -> 'usages', '{}')) from jsonb_array_elements(p_items) i),
    'complete_task', details);
  return query select unnest(done);
end
$$;

--
-- Name: FUNCTION complete_tasks(p_items jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.complete_tasks(p_items jsonb) IS 'Completes attempts: reply, spend, audit and outbox in one transaction. Answers those that were not lost.';

--
-- Name: continue_audit(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.continue_audit() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  v_last bigint;
  v_next bigint;
  v_base bigint;
  v_copied bigint;
begin
  select greatest((select max(a.xact::text::bigint) from (select x.xact from atlas.audit x order by x.xact desc limit 1) a),
    (select c.upto::text::bigint from atlas.audit_checkpoint c order by c.id desc limit 1)) into v_last;
  -- read after what it is compared with: a server's own numbers never pass those of its transactions, this one's included
  v_next := greatest(pg_snapshot_xmax(pg_current_snapshot())::text::bigint, coalesce(pg_current_xact_id_if_assigned()::text::bigint, 0) + 1);
  if v_last is null or v_last < v_next + atlas.xact_base() then
    return false;
  end if;
  lock table atlas.audit in access exclusive mode;
  -- what was written here before anybody noticed is counted again, after all that was copied
  select max(a.id) into v_copied from atlas.audit a where a.xact::text::bigint >= v_next + atlas.xact_base();
  select v_last + 1 - least(pg_snapshot_xmin(pg_current_snapshot())::text::bigint, min(a.xact::text::bigint) - atlas.xact_base())
  into v_base from atlas.audit a where a.id > v_copied;
  alter table atlas.audit disable trigger append_only;
  update atlas.audit a set xact = (a.xact::text::bigint - atlas.xact_base() + v_base)::text::xid8 where a.id > v_copied;
  alter table atlas.audit enable trigger append_only;
  execute format($q$create or replace function atlas.xact_base() returns bigint language sql stable parallel safe set search_path = ''
    as $f$ select %s::bigint $f$ $q$, v_base);
  -- as a constant: plans that write the audit are made anew, and nothing is looked up for a row
  execute format('alter table atlas.audit alter column xact set default ((pg_current_xact_id()::text::bigint + %s)::text::xid8)', v_base);
  perform atlas.append_audit(null, 'continue_audit');
  return true;
end
$_$;

--
-- Name: FUNCTION continue_audit(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.continue_audit() IS 'In a copy that was restored in another server: lets the audit go on after what was copied. Says whether it had to; else it changes nothing.';

--
-- Name: control_command(jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.control_command(message jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
    AS $$
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

--
-- Name: FUNCTION control_command(message jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.control_command(message jsonb) IS 'The command object of a control message, or null.';

--
-- Name: model_price; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.model_price (
    model text NOT NULL,
    valid_from date NOT NULL,
    input_usd numeric(12,6) NOT NULL,
    cached_usd numeric(12,6),
    cache_write_usd numeric(12,6),
    output_usd numeric(12,6) NOT NULL,
    long_input_from integer,
    long_input_factor numeric(6,3) DEFAULT 1 NOT NULL,
    long_output_factor numeric(6,3) DEFAULT 1 NOT NULL,
    CONSTRAINT model_price_cache_write_usd_check CHECK ((cache_write_usd >= (0)::numeric)),
    CONSTRAINT model_price_cached_usd_check CHECK ((cached_usd >= (0)::numeric)),
    CONSTRAINT model_price_input_usd_check CHECK ((input_usd >= (0)::numeric)),
    CONSTRAINT model_price_long_input_factor_check CHECK ((long_input_factor >= (1)::numeric)),
    CONSTRAINT model_price_long_input_from_check CHECK ((long_input_from > 0)),
    CONSTRAINT model_price_long_output_factor_check CHECK ((long_output_factor >= (1)::numeric)),
    CONSTRAINT model_price_output_usd_check CHECK ((output_usd >= (0)::numeric))
);

--
-- Name: TABLE model_price; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.model_price IS 'US dollars per million tokens, from a day on. A change of price is a new row.';

--
-- Name: COLUMN model_price.model; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_price.model IS 'The model that answered, or was called.';

--
-- Name: COLUMN model_price.valid_from; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_price.valid_from IS 'The UTC day from which the price counts.';

--
-- Name: COLUMN model_price.input_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_price.input_usd IS 'US dollars per million input tokens.';

--
-- Name: COLUMN model_price.cached_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_price.cached_usd IS 'Null: cached input costs as much as other input.';

--
-- Name: COLUMN model_price.cache_write_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_price.cache_write_usd IS 'Null: input that the provider writes to its cache costs as much as other input.';

--
-- Name: COLUMN model_price.output_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_price.output_usd IS 'US dollars per million output tokens.';

--
-- Name: COLUMN model_price.long_input_from; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_price.long_input_from IS 'Above this many input tokens the two factors apply.';

--
-- Name: COLUMN model_price.long_input_factor; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_price.long_input_factor IS 'Multiplies the prices of input above long_input_from.';

--
-- Name: COLUMN model_price.long_output_factor; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_price.long_output_factor IS 'Multiplies the price of output above long_input_from.';

--
-- Name: cost(atlas.model_price, bigint, bigint, bigint, bigint, numeric); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.cost(price atlas.model_price, input bigint, cached bigint, output bigint, cache_write bigint DEFAULT 0, factor numeric DEFAULT 1) RETURNS numeric
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select round((
      ((input - cached - cache_write) * price.input_usd + cached * coalesce(price.cached_usd, price.input_usd)
        + cache_write * coalesce(price.cache_write_usd, price.input_usd))
        * case when input > price.long_input_from then price.long_input_factor else 1 end
      + output * price.output_usd * case when input > price.long_input_from then price.long_output_factor else 1 end
    ) * factor / 1000000, 9)
$$;

--
-- Name: FUNCTION cost(price atlas.model_price, input bigint, cached bigint, output bigint, cache_write bigint, factor numeric); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.cost(price atlas.model_price, input bigint, cached bigint, output bigint, cache_write bigint, factor numeric) IS 'US dollars of a call: input (of which cached, and of which written to the cache) and output tokens (reasoning among them) at a
price row, times the factor of its tier and window.';

--
-- Name: create_project(text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.create_project(p_name text) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  found_id uuid;
begin
  if p_name !~ '^[a-z0-9][a-z0-9._-]{0,62}$' then
    perform atlas.refuse('name', format('%L is too long, or has other characters than a-z, 0-9, dots, dashes and underscores', p_name),
      coalesce('use such as ' || nullif(left(trim(both '-._' from regexp_replace(lower(p_name), '[^a-z0-9._]+', '-', 'g')), 63), ''),
        'use such as payments'), 'AT001', 'project');
  end if;
  insert into atlas.project (name) values (p_name) on conflict (name) do nothing returning id into found_id;
  return found_id;
end
$_$;

--
-- Name: FUNCTION create_project(p_name text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.create_project(p_name text) IS 'Makes a project; answers its id, or null where its name is taken. Raises AT001 for what cannot be a name.';

--
-- Name: decide(uuid, text, text, text, bigint[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.decide(p_task uuid, p_status text, p_verb text, p_reason text, p_supersedes bigint[]) RETURNS atlas.decision
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  task atlas.task;
  result atlas.decision;
  v_number integer;
begin
  if length(p_reason) > 2000 then
    perform atlas.refuse('reason', 'is longer than 2,000 characters', 'send its gist', 'AT001', p_verb);
  end if;
  if exists (select from unnest(p_supersedes) as old (number) where old.number not between 1 and 2147483647) then
    perform atlas.refuse('supersedes', 'holds what is not a number of a decision', 'see `atlas decisions`', 'AT001', p_verb);
  end if;
  task := atlas.draft(p_task, p_verb);
  perform 1 from atlas.project p where p.id = task.project_id for no key update;
  perform rag.lock_terms(rag.scope_of(task.project_id));
  select x.* into result from atlas.decision x where x.task_id = p_task;
  if found then
    if result.status = p_status then
      perform atlas.supersede(task.project_id, old.number::integer, result.number, p_reason) from unnest(p_supersedes) as old (number);
      return result;
    end if;
    raise exception using errcode = 'AT005',
      message = format('%s: task %s is ADR-%s already, %s%s', p_verb, p_task, result.number, result.status,
        coalesce(' by ADR-' || result.superseded_by, '')),
      hint = case result.status when 'accepted' then 'another decision can supersede it: `atlas supersede`'
                                else 'ask again: a new record can be accepted' end;
  end if;
  v_number := atlas.next_decision(task.project_id);
  insert into atlas.decision (project_id, number, task_id, title, question, content, constraints, paths, checks, sources, status, asked_by,
    decided_by, reason)
  select task.project_id, v_number, p_task, coalesce(nullif(left((regexp_match(x.content, '(?n)^# +(.*\S)'))[1], 500), ''), task.title),
    i.data ->> 'content', x.content, atlas.texts_of(o.data #> '{metadata,record,constraints}'), atlas.texts_of(o.data #> '{metadata,record,paths}'),
    atlas.texts_of(o.data #> '{metadata,record,checks}'), (
      select coalesce(array_agg(format('sha256:%s %s', s.source ->> 'sha256', s.source ->> 'path') order by s.place), '{}')
      from jsonb_array_elements(case jsonb_typeof(o.data #> '{metadata,sources}') when 'array' then o.data #> '{metadata,sources}' else '[]' end)
        with ordinality as s (source, place)
      where s.source -> 'cited' = 'true'),
    p_status, task.sender_key, atlas.actor(), p_reason
  from public.architect_out o join public.architect_in i on i.id = task.in_id cross join lateral (
    -- the opening line is not part of the record
    select substr(o.data ->> 'content', 1 + coalesce(length(o.data #>> '{metadata,read_first,opening}'), 0)) as content) x
  where o.id = task.out_id
  returning * into result;
  delete from atlas.open_draft d where d.task_id = p_task;
  perform atlas.index_decision(result);
  perform atlas.announce_decision(result, p_verb);
  perform atlas.supersede(task.project_id, old.number::integer, v_number, p_reason) from (
    select unnest(p_supersedes) as number
    union
    -- a revision of what holds takes its place
    select d.number from public.architect_out o join atlas.decision d on d.task_id = atlas.as_uuid(o.data #>> '{metadata,revises}')
    where o.id = task.out_id and d.project_id = task.project_id and d.status = 'accepted' and p_status = 'accepted') as old (number);
  return result;
end
$$;

--
-- Name: FUNCTION decide(p_task uuid, p_status text, p_verb text, p_reason text, p_supersedes bigint[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.decide(p_task uuid, p_status text, p_verb text, p_reason text, p_supersedes bigint[]) IS 'Accepts or rejects the reply of a task. Internal.';

--
-- Name: decision_chunks(atlas.decision); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.decision_chunks(p_decision atlas.decision) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  with part as (
    select p.place, p.text, coalesce((regexp_match(p.text, '^## +([^\n]*\S)'))[1], '') as section,
      (1 + coalesce(sum(length(p.text) - length(replace(p.text, E'\n', '')) + 1) over (order by p.place rows between unbounded preceding and 1 preceding), 0))::integer as line,
      length(p.text) - length(replace(p.text, E'\n', '')) as more
    from regexp_split_to_table(p_decision.content, '\n(?=## )') with ordinality as p (text, place)
  ),
  kept as (
    select row_number() over (order by p.place) - 1 as seq, p.line, p.line + p.more as last,
      format('ADR-%s %s%s', p_decision.number, p_decision.title, case when p.section <> '' then ' > ' || p.section else '' end) as heading,
      left(btrim(case when p.place = 1 then p_decision.question || E'\n\n' else '' end || p.text, E'\n '), 3000) as text
    from part p where p.section not in ('Work items', 'Sources', 'Open questions')
  )
  select coalesce(jsonb_agg(jsonb_build_object('seq', k.seq, 'heading', k.heading, 'text', k.text, 'tokens', length(k.text) / 4 + 1,
    'start_line', k.line, 'end_line', k.last) order by k.seq), '[]')
  from kept k where k.text <> ''
$$;

--
-- Name: FUNCTION decision_chunks(p_decision atlas.decision); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.decision_chunks(p_decision atlas.decision) IS 'The parts of a decision by which searches find it. Internal.';

--
-- Name: decision_of(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.decision_of(p_task uuid) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select format('ADR-%s %s%s', d.number, d.status, coalesce(' by ADR-' || d.superseded_by, '')) from atlas.decision d where d.task_id = p_task
$$;

--
-- Name: FUNCTION decision_of(p_task uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.decision_of(p_task uuid) IS 'How the decision on a task''s reply stands; null where nobody decided. Internal.';

--
-- Name: defer_upstream(text, integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.defer_upstream(p_message text, p_limit integer DEFAULT 500) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  deferred integer;
  task_id uuid;
begin
  update atlas.task t set wait_reason = 'upstream', wait_scope = null, run_after = now() + interval '1 second' * (50 + random() * 20),
    outage_since = coalesce(t.outage_since, now()), error_code = 'upstream', error_message = left(p_message, 2000)
  where t.id in (
    select q.id from atlas.task q where q.kind = 'chat' and q.cancel_requested_at is null
      -- a response that is under way is asked for, whatever becomes of new calls
      and (select true from atlas.spend s where s.task_id = q.id and s.state = 'reserved' and s.response_id is not null limit 1) is null
      and (q.ready or (q.wait_reason is not null and q.run_after <= now()))
    order by q.in_id limit p_limit for no key update skip locked);
  get diagnostics deferred = row_count;
  for task_id in
    update atlas.task t set escalated_at = now()
    where t.id in (select q.id from atlas.task q where q.wait_reason = 'upstream' and q.escalated_at is null
      and q.outage_since < now() - interval '5 minutes' order by q.in_id limit 100 for no key update skip locked)
    returning t.id
  loop
    perform atlas.escalate(task_id, 'upstream', p_message);
  end loop;
  return deferred;
end
$$;

--
-- Name: FUNCTION defer_upstream(p_message text, p_limit integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.defer_upstream(p_message text, p_limit integer) IS 'Sets questions aside that are ready while no model answers; says how many. A model that answers again wakes them.';

--
-- Name: derive_id(text, integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.derive_id(p_name text, p_count integer DEFAULT 0) RETURNS uuid
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  -- HMAC as RFC 2104 writes it: pgcrypto has it too, and is not everywhere
  with padded as (
    select decode(string_agg(lpad(to_hex(b.byte # 54), 2, '0'), '' order by b.i), 'hex') as inner_key,
      decode(string_agg(lpad(to_hex(b.byte # 92), 2, '0'), '' order by b.i), 'hex') as outer_key
    from (select i, case when i < 32 then get_byte(k.key, i) else 0 end as byte from atlas.id_key k, generate_series(0, 63) i) b
  ), hashed as (
    select substr(sha256(p.outer_key || sha256(p.inner_key || convert_to(p_count || ':' || p_name, 'UTF8'))), 1, 16) as mac from padded p
  )
  select encode(set_byte(set_byte(h.mac, 6, (get_byte(h.mac, 6) & 15) | 128), 8, (get_byte(h.mac, 8) & 63) | 128), 'hex')::uuid
  from hashed h
$$;

--
-- Name: FUNCTION derive_id(p_name text, p_count integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.derive_id(p_name text, p_count integer) IS 'The same UUID (version 8) for the same name, by HMAC-SHA256 with the key of this database; p_count where the first is taken.';

--
-- Name: distance(text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.distance(p_one text, p_other text) RETURNS integer
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
    AS $$
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

--
-- Name: FUNCTION distance(p_one text, p_other text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.distance(p_one text, p_other text) IS 'How many letters make the one word of the other (Levenshtein). Internal.';

--
-- Name: task; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.task (
    id uuid NOT NULL,
    kind text NOT NULL,
    state text DEFAULT 'queued'::text NOT NULL,
    title text NOT NULL,
    in_id bigint NOT NULL,
    message_task_id uuid NOT NULL,
    sender uuid,
    sender_key text NOT NULL,
    project_id uuid NOT NULL,
    parent_id uuid,
    priority smallint DEFAULT 0 NOT NULL,
    rank smallint GENERATED ALWAYS AS ((- priority)) STORED NOT NULL,
    ready boolean GENERATED ALWAYS AS (((state = 'queued'::text) AND (wait_reason IS NULL))) STORED NOT NULL,
    dead_letter boolean GENERATED ALWAYS AS ((state = 'dead_lettered'::text)) STORED NOT NULL,
    queued_at timestamp with time zone DEFAULT now() NOT NULL,
    run_after timestamp with time zone DEFAULT now() NOT NULL,
    wait_reason text,
    wait_scope text,
    failures integer DEFAULT 0 NOT NULL,
    losses integer DEFAULT 0 NOT NULL,
    early_losses integer DEFAULT 0 NOT NULL,
    max_attempts integer DEFAULT 3 NOT NULL,
    attempt_id uuid,
    attempts integer DEFAULT 0 NOT NULL,
    claim_seq bigint,
    cancel_requested_at timestamp with time zone,
    adopted_at timestamp with time zone,
    outage_since timestamp with time zone,
    escalated_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    model text,
    out_id bigint,
    error_code text,
    error_message text,
    erased_at timestamp with time zone,
    asked text,
    answered text,
    CONSTRAINT a_question_has_its_messages_id CHECK (((kind = 'control'::text) OR (id = message_task_id))),
    CONSTRAINT task_attempts_check CHECK ((attempts >= 0)),
    CONSTRAINT task_check CHECK (((state = 'running'::text) = (attempt_id IS NOT NULL))),
    CONSTRAINT task_check1 CHECK (((state = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text, 'dead_lettered'::text])) = (finished_at IS NOT NULL))),
    CONSTRAINT task_check2 CHECK (((wait_reason IS NULL) OR (state = 'queued'::text))),
    CONSTRAINT task_check3 CHECK (((state <> ALL (ARRAY['failed'::text, 'dead_lettered'::text])) OR (error_code IS NOT NULL))),
    CONSTRAINT task_early_losses_check CHECK ((early_losses >= 0)),
    CONSTRAINT task_failures_check CHECK ((failures >= 0)),
    CONSTRAINT task_kind_check CHECK ((kind = ANY (ARRAY['chat'::text, 'control'::text]))),
    CONSTRAINT task_losses_check CHECK ((losses >= 0)),
    CONSTRAINT task_max_attempts_check CHECK ((max_attempts > 0)),
    CONSTRAINT task_priority_check CHECK (((priority >= '-100'::integer) AND (priority <= 100))),
    CONSTRAINT task_wait_reason_check CHECK ((wait_reason = ANY (ARRAY['scheduled'::text, 'retry'::text, 'reserved_budget'::text, 'settled_budget'::text, 'upstream'::text, 'held'::text, 'response'::text])))
)
WITH (fillfactor='60');

--
-- Name: TABLE task; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.task IS 'The queue: one row a question or control message. See docs/states.md.';

--
-- Name: COLUMN task.id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.id IS 'The message''s task_id for a question; an id of its own for a control message.';

--
-- Name: COLUMN task.kind; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.kind IS 'chat or control.';

--
-- Name: COLUMN task.state; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.state IS 'queued, running, needs_input, completed, failed, cancelled or dead_lettered.';

--
-- Name: COLUMN task.title; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.title IS 'The first line of the question, for people who look at the table.';

--
-- Name: COLUMN task.in_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.in_id IS 'The row of architect_in.';

--
-- Name: COLUMN task.message_task_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.message_task_id IS 'The task_id that the message inherited; answers name it.';

--
-- Name: COLUMN task.sender; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.sender IS 'The user who asked; null for the service role.';

--
-- Name: COLUMN task.sender_key; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.sender_key IS 'Whose turn and whose budget: the user, an outside identity, or service.';

--
-- Name: COLUMN task.project_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.project_id IS 'The project it belongs to.';

--
-- Name: COLUMN task.parent_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.parent_id IS 'The earlier task that it goes on from.';

--
-- Name: COLUMN task.priority; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.priority IS 'Higher goes first, from -100 to 100.';

--
-- Name: COLUMN task.rank; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.rank IS 'Minus the priority, so that one ascending index serves claims.';

--
-- Name: COLUMN task.ready; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.ready IS 'Whether it can be claimed now.';

--
-- Name: COLUMN task.dead_letter; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.dead_letter IS 'Whether it is a dead letter.';

--
-- Name: COLUMN task.queued_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.queued_at IS 'When it was asked.';

--
-- Name: COLUMN task.run_after; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.run_after IS 'Not before this time.';

--
-- Name: COLUMN task.wait_reason; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.wait_reason IS 'Why a queued task is not ready yet. response: its response is under way. held: nobody knows yet
whether its call was made.';

--
-- Name: COLUMN task.wait_scope; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.wait_scope IS 'The budget that a waiting task waits for.';

--
-- Name: COLUMN task.failures; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.failures IS 'Failures of its own; outages and lost workers do not count.';

--
-- Name: COLUMN task.losses; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.losses IS 'Workers that were lost while they ran it and had reserved; five end it.';

--
-- Name: COLUMN task.early_losses; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.early_losses IS 'Workers that were lost before they had reserved; ten end it.';

--
-- Name: COLUMN task.max_attempts; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.max_attempts IS 'Failures of its own after which it is dead-lettered.';

--
-- Name: COLUMN task.attempt_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.attempt_id IS 'The attempt that runs it now.';

--
-- Name: COLUMN task.attempts; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.attempts IS 'How many attempts were begun.';

--
-- Name: COLUMN task.claim_seq; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.claim_seq IS 'Order of the last claim.';

--
-- Name: COLUMN task.cancel_requested_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.cancel_requested_at IS 'When somebody asked to stop it while it ran.';

--
-- Name: COLUMN task.adopted_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.adopted_at IS 'While it ran, another of its calls turned out to be answered: its worker goes over to that.';

--
-- Name: COLUMN task.outage_since; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.outage_since IS 'Since when upstream has kept it from an answer.';

--
-- Name: COLUMN task.escalated_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.escalated_at IS 'When people were told of an outage that keeps it.';

--
-- Name: COLUMN task.started_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.started_at IS 'When it began.';

--
-- Name: COLUMN task.finished_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.finished_at IS 'When it ended.';

--
-- Name: COLUMN task.model; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.model IS 'The model that answered, or was called.';

--
-- Name: COLUMN task.out_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.out_id IS 'The row of architect_out.';

--
-- Name: COLUMN task.error_code; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.error_code IS 'Why it ended without a reply, in one word.';

--
-- Name: COLUMN task.error_message; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.error_message IS 'Why it ended without a reply.';

--
-- Name: COLUMN task.erased_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.erased_at IS 'When its texts were erased; null: they are there.';

--
-- Name: COLUMN task.asked; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.asked IS 'What the architect asked back; at most once.';

--
-- Name: COLUMN task.answered; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task.answered IS 'What was answered to that.';

--
-- Name: CONSTRAINT a_question_has_its_messages_id ON task; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON CONSTRAINT a_question_has_its_messages_id ON atlas.task IS 'So a question is found by one id.';

--
-- Name: draft(uuid, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.draft(p_task uuid, p_verb text) RETURNS atlas.task
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  found_task atlas.task;
  reply jsonb;
begin
  select t.* into found_task from atlas.task t where t.id = p_task for no key update;
  if not found or not (atlas.is_service() or atlas.owns_task(p_task)) then
    raise exception using errcode = 'AT004', message = format('no task %s', p_task),
      hint = 'see `atlas tasks` or atlas.task_history for the ids';
  end if;
  perform atlas.require_decider(found_task.project_id, p_verb);
  select o.data into reply from public.architect_out o where o.id = found_task.out_id;
  if found_task.kind <> 'chat' or found_task.state <> 'completed' or reply ->> 'msg_type' is distinct from 'spec' then
    raise exception using errcode = 'AT005', message = format('%s: task %s is %s', p_verb, p_task,
      case when found_task.kind <> 'chat' then 'a control message' else found_task.state end),
      hint = 'a question that was answered can be decided';
  end if;
  if found_task.erased_at is not null then
    raise exception using errcode = 'AT005', message = format('%s: the reply of task %s was erased', p_verb, p_task), hint = 'ask again';
  end if;
  if reply #>> '{metadata,truncated}' = 'true' then
    raise exception using errcode = 'AT005', message = format('%s: the reply of task %s was cut by its budget', p_verb, p_task),
      hint = 'raise the budget, and ask again';
  end if;
  if reply #>> '{metadata,replays}' is not null then
    raise exception using errcode = 'AT005', message = format('%s: the reply of task %s is a replay of another', p_verb, p_task),
      hint = 'decide on the reply that it replays';
  end if;
  if coalesce(reply #>> '{metadata,kind}', 'adr') <> 'adr' then
    raise exception using errcode = 'AT005',
      message = format('%s: the reply of task %s is %s, and proposes nothing', p_verb, p_task,
        case reply #>> '{metadata,kind}' when 'passages' then 'a list of passages' when 'answer' then 'an answer'
          when 'decided' then 'a decision already' else 'a ' || (reply #>> '{metadata,kind}') end),
      hint = 'ask for a record: `atlas ask --kind adr`, with a model';
  end if;
  return found_task;
end
$$;

--
-- Name: FUNCTION draft(p_task uuid, p_verb text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.draft(p_task uuid, p_verb text) IS 'The task whose reply somebody decides on; AT004, AT005 and AT006 say why not. Internal.';

--
-- Name: drop_documents(uuid, text[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.drop_documents(p_project uuid, p_sources text[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform atlas.require_member(p_project);
  return rag.drop_documents(p_project, p_sources);
end
$$;

--
-- Name: FUNCTION drop_documents(p_project uuid, p_sources text[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.drop_documents(p_project uuid, p_sources text[]) IS 'Drops documents of a project, for its members; says how many there were.';

--
-- Name: drop_draft(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.drop_draft() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  delete from atlas.open_draft d where d.task_id = new.id;
  return null;
end
$$;

--
-- Name: FUNCTION drop_draft(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.drop_draft() IS 'Drops the draft of a task that was erased or trimmed.';

--
-- Name: drop_post(uuid, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.drop_post(p_task_id uuid, p_part text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  delete from atlas.post p where (p.task_id, p.part) = (p_task_id, p_part)
$$;

--
-- Name: FUNCTION drop_post(p_task_id uuid, p_part text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.drop_post(p_task_id uuid, p_part text) IS 'A post was refused for certain, or is gone: the next call makes it anew.';

--
-- Name: drop_prompts(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.drop_prompts() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  delete from atlas.prompt p where p.task_id = new.id;
  return null;
end
$$;

--
-- Name: FUNCTION drop_prompts(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.drop_prompts() IS 'Drops the prompts of a task that was erased or trimmed.';

--
-- Name: due_again(atlas.task, text, interval); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.due_again(p_task atlas.task, p_kind text, p_retry_after interval) RETURNS timestamp with time zone
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  select now() + case p_kind
    when 'released' then interval '0'
    when 'held' then interval '0'  -- wait_for_holds says how long
    when 'own' then greatest(coalesce(p_retry_after, '0'), random() * least(300, 2 * 2 ^ p_task.failures) * interval '1 second')
    when 'response' then coalesce(p_retry_after, interval '2 seconds')
    else greatest(coalesce(p_retry_after, '0'), (0.5 + random() / 2) * interval '1 second' * least(60, greatest(5,
      coalesce(extract(epoch from now() - p_task.outage_since), 0) / 2))) end
$$;

--
-- Name: FUNCTION due_again(p_task atlas.task, p_kind text, p_retry_after interval); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.due_again(p_task atlas.task, p_kind text, p_retry_after interval) IS 'When a task that is handed back is due again. Internal.';

--
-- Name: new_id(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.new_id() RETURNS uuid
    LANGUAGE plpgsql PARALLEL SAFE
    SET search_path TO ''
    AS $$
begin
  -- 48 bits of milliseconds before the random ones; bits 52 and 53 turn version 4 into 7
  return encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) placing
    substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1), 'hex')::uuid;
end
$$;

--
-- Name: FUNCTION new_id(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.new_id() IS 'A new id: a UUIDv7, which sorts by the time at which it was made.';

--
-- Name: emit(text, jsonb, uuid, uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.emit(p_kind text, p_payload jsonb, p_task_id uuid DEFAULT NULL::uuid, p_event_id uuid DEFAULT atlas.new_id()) RETURNS integer
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  with sent as (
    insert into atlas.outbox (event_id, event_kind, task_id, payload, position, destination_id)
    select p_event_id, p_kind, p_task_id, p_payload, e.position, r
    from (select nextval('public.architect_out_id_seq') as position) e, atlas.routes(p_kind, p_payload, null) r
    where r is not null or p_kind = 'audit_seal'
    on conflict on constraint outbox_once do nothing
    returning 1
  )
  select count(*)::integer from sent
$$;

--
-- Name: FUNCTION emit(p_kind text, p_payload jsonb, p_task_id uuid, p_event_id uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.emit(p_kind text, p_payload jsonb, p_task_id uuid, p_event_id uuid) IS 'Puts an event into the outbox; says for how many destinations. Internal.';

--
-- Name: end_holds(integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.end_holds(p_limit integer DEFAULT 200) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  ids bigint[];
  v_tasks uuid[];
  v_scopes text[];
  items jsonb;
begin
  select array_agg(h.id) into ids from (
    select s.id from atlas.spend s where s.held_until <= now() order by s.held_until limit p_limit) h;
  if ids is null then
    return 0;
  end if;
  -- tasks first, then days, as everywhere; who holds one of them now ends the hold itself, or the next look does
  select array_agg(l.id) into v_tasks from (
    select t.id from atlas.task t where t.id in (select s.task_id from atlas.spend s where s.id = any (ids))
    order by t.id for no key update skip locked) l;
  select jsonb_agg(jsonb_build_object('spend_id', s.id, 'usage',
      case r.hold_unknown when 'release' then '{"known": "presumed_none"}'::jsonb end)) into items
  from atlas.spend s cross join atlas.spend_rules r
  where s.id = any (ids) and s.task_id = any (v_tasks) and s.state = 'held' and s.held_until <= now();
  if items is null then
    return 0;
  end if;
  select array_agg(distinct x) into v_scopes from atlas.spend s cross join unnest(s.scopes) x where s.id = any (ids);
  perform atlas.settle_in(array(select distinct s.day from atlas.spend s where s.id = any (ids)), v_scopes, items);
  return jsonb_array_length(items);
end
$$;

--
-- Name: FUNCTION end_holds(p_limit integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.end_holds(p_limit integer) IS 'Ends the holds whose time is over; says how many.';

--
-- Name: end_task(atlas.task, text, text, text, jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.end_task(p_task atlas.task, p_state text, p_code text, p_message text, p_usages jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  reply_id bigint;
begin
  reply_id := atlas.reply(p_task, case p_task.kind when 'chat' then 'spec' else 'control' end, '',
    jsonb_build_object('status', p_state, 'error', jsonb_build_object('code', p_code, 'message', p_message)));
  update atlas.attempt a set state = case p_state when 'cancelled' then 'cancelled' else 'failed' end,
    finished_at = now(), error_code = p_code, error_message = p_message
  where a.id = p_task.attempt_id;
  update atlas.task t set state = p_state, attempt_id = null, wait_reason = null, wait_scope = null, finished_at = now(),
    out_id = reply_id, error_code = p_code, error_message = p_message,
    failures = t.failures + case p_state when 'cancelled' then 0 else 1 end
  where t.id = p_task.id;
  perform atlas.append_audit(p_task.id, case p_state when 'cancelled' then 'cancel_task' else 'fail_task' end,
    jsonb_strip_nulls(jsonb_build_object('state', p_state, 'code', p_code, 'attempt', p_task.attempts,
      'worker', (select a.lease_owner from atlas.attempt a where a.id = p_task.attempt_id))));
  if p_task.attempt_id is not null then
    perform atlas.settle_attempts(array[p_task.attempt_id], jsonb_build_object(p_task.attempt_id, p_usages));
  end if;
end
$$;

--
-- Name: FUNCTION end_task(p_task atlas.task, p_state text, p_code text, p_message text, p_usages jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.end_task(p_task atlas.task, p_state text, p_code text, p_message text, p_usages jsonb) IS 'Ends a task without a reply. Internal.';

--
-- Name: ended_xacts(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.ended_xacts() RETURNS xid8
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$ select (pg_snapshot_xmin(pg_current_snapshot())::text::bigint + atlas.xact_base())::text::xid8 $$;

--
-- Name: FUNCTION ended_xacts(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.ended_xacts() IS 'All transactions of the audit below this one are over.';

--
-- Name: erase(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.erase(p_task_id uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  task atlas.task;
begin
  select t.* into task from atlas.task t where t.id = p_task_id for no key update;
  if not found then
    -- a decision outlasts its task
    if atlas.erase_decisions(array[p_task_id]) > 0 then
      return;
    end if;
    raise exception using errcode = 'AT004', message = format('no task %s', p_task_id), hint = 'see atlas.task_history';
  end if;
  if task.finished_at is null then
    raise exception using errcode = 'AT005', message = format('task %s is %s', p_task_id, task.state),
      hint = 'cancel it first, or wait for its end';
  end if;
  perform atlas.erase_texts(array[p_task_id]);
  perform atlas.erase_decisions(array[p_task_id]);
end
$$;

--
-- Name: FUNCTION erase(p_task_id uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.erase(p_task_id uuid) IS 'Removes the texts of an ended task for good: question, reply, parts, title, caches, and the decision on it.';

--
-- Name: erase_decisions(uuid[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.erase_decisions(p_tasks uuid[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  n integer;
begin
  perform rag.drop_documents(d.project_id, array_agg('decision:ADR-' || d.number)) from atlas.decision d where d.task_id = any (p_tasks) group by d.project_id;
  update atlas.decision d set title = '[erased]', question = '', content = '[erased]', reason = null, superseded_reason = null, constraints = '{}',
    paths = '{}', checks = '{}', sources = '{}', file = null
  where d.task_id = any (p_tasks);
  get diagnostics n = row_count;
  return n;
end
$$;

--
-- Name: FUNCTION erase_decisions(p_tasks uuid[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.erase_decisions(p_tasks uuid[]) IS 'Removes the texts of decisions on the replies of tasks; says how many. Internal: atlas.erase calls it, a retention does not.';

--
-- Name: erase_others(text, integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.erase_others(p_sender_key text, p_limit integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  n integer;
begin
  update public.architect_in i set data = atlas.without_texts(i.data)
  where i.id in (select o.id from public.architect_in o
    where o.data ->> 'role' <> 'architect' and o.data ->> 'content' is distinct from '[erased]' and atlas.sender_of(o) = p_sender_key
    order by o.id limit p_limit);
  get diagnostics n = row_count;
  -- what was never taken says itself who sent it
  delete from atlas.rejected_message r
  where p_sender_key in (r.payload #>> '{metadata,sender_key}', 'key:' || (r.payload #>> '{metadata,sender_key}'));
  return n;
end
$$;

--
-- Name: FUNCTION erase_others(p_sender_key text, p_limit integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.erase_others(p_sender_key text, p_limit integer) IS 'Removes a sender''s messages of other roles, and those that broke the contract; says how many of the former. Internal.';

--
-- Name: erase_sender(text, timestamp with time zone, integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.erase_sender(p_sender_key text, p_after timestamp with time zone DEFAULT '-infinity'::timestamp with time zone, p_limit integer DEFAULT 200) RETURNS TABLE(erased integer, next timestamp with time zone, unfinished integer)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_limit constant integer := least(greatest(p_limit, 1), 1000);
  v_tasks uuid[];
begin
  select max(x.queued_at), array_agg(x.id) filter (where x.erased_at is null and x.finished_at is not null) into next, v_tasks
  from (
    select t.id, t.queued_at, t.erased_at, t.finished_at from atlas.task t
    where t.sender_key = p_sender_key and t.queued_at > p_after
    -- those that were asked in one statement have one time
    order by t.queued_at fetch first v_limit rows with ties) x;
  if v_tasks is not null then
    -- one that was queued again since keeps its text
    v_tasks := array(select t.id from atlas.task t where t.id = any (v_tasks) and t.finished_at is not null order by t.id for no key update);
    perform atlas.erase_texts(v_tasks);
    perform atlas.erase_decisions(v_tasks);
  end if;
  erased := coalesce(cardinality(v_tasks), 0);
  if next is null then
    erased := atlas.erase_others(p_sender_key, v_limit) + atlas.erase_decisions(array(
      select d.task_id from atlas.decision d where d.asked_by = p_sender_key and d.content <> '[erased]'));
    if erased = 0 and not exists (select from atlas.task t where t.sender_key = p_sender_key) and p_after = '-infinity'
       and not exists (select from atlas.decision d where d.asked_by = p_sender_key)
       and not exists (select from public.architect_in i where i.data ->> 'role' <> 'architect' and atlas.sender_of(i) = p_sender_key) then
      raise exception using errcode = 'AT004', message = format('nothing was sent by %L', p_sender_key),
        hint = 'see `atlas spend --by sender`';
    end if;
    select count(*) into unfinished from atlas.task t where t.sender_key = p_sender_key and t.finished_at is null;
  end if;
  return next;
end
$$;

--
-- Name: FUNCTION erase_sender(p_sender_key text, p_after timestamp with time zone, p_limit integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.erase_sender(p_sender_key text, p_after timestamp with time zone, p_limit integer) IS 'Removes the texts of a sender''s ended tasks, some at a time: how many it erased, and after which time to go on. Where next is null, the
tasks are done: then messages of other roles go, and unfinished says how many tasks have not ended.';

--
-- Name: erase_texts(uuid[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.erase_texts(p_tasks uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  -- a command is answered under the id of the question that it names, whose messages are another task's
  v_chats constant uuid[] := array(select t.id from atlas.task t where t.id = any (p_tasks) and t.kind = 'chat');
  v_out constant bigint[] := array(
    select t.out_id from atlas.task t where t.id = any (p_tasks) and t.out_id is not null
    union select o.id from public.architect_out o where o.task_id = any (v_chats) and o.data ->> 'msg_type' = 'spec');
begin
  delete from atlas.reply_part p where p.task_id = any (p_tasks);
  update public.architect_in i set data = atlas.without_texts(i.data)
  from atlas.task t where t.id = any (p_tasks) and i.id = t.in_id;
  update public.architect_out o set data = atlas.without_texts(o.data) where o.id = any (v_out);
  -- an export of what is gone would fail where it arrives
  update atlas.outbox o set payload = jsonb_strip_nulls(jsonb_build_object('task_id', o.task_id, 'erased', true)), last_error = null,
    state = case when o.state in ('pending', 'dead') then 'skipped' else o.state end, lease_owner = null, lease_expires_at = null
  where o.task_id = any (v_chats) and o.payload is not null;
  update atlas.outbox o set last_error = null where o.out_id = any (v_out) and o.last_error is not null;
  update atlas.attempt a set error_message = case when a.error_message is not null then '[erased]' end, late_text = null
  where a.task_id = any (p_tasks) and (a.error_message is not null or a.late_text is not null);
  update atlas.task t set title = '[erased]', erased_at = now(),
    error_message = case when t.error_message is not null then '[erased]' end
  where t.id = any (p_tasks);
  delete from rag.cache c where c.task_id = any (p_tasks);
  delete from rag.citation c where c.task_id = any (p_tasks);
  delete from atlas.rejected_message r where atlas.as_uuid(r.payload ->> 'task_id') = any (v_chats);
  -- Supabase's own table is partitioned, owned by its Realtime, and emptied within three days
  if (select c.relkind from pg_class c where c.oid = to_regclass('realtime.messages')) = 'r'
     and has_table_privilege('realtime.messages', 'delete') then
    delete from realtime.messages m where m.topic = any (array(select 'task:' || x from unnest(p_tasks) x));
  end if;
  perform atlas.append_audits('erase', p_tasks, array_fill(jsonb '{}', array[cardinality(p_tasks)]));
end
$$;

--
-- Name: FUNCTION erase_texts(p_tasks uuid[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.erase_texts(p_tasks uuid[]) IS 'Removes the texts of ended tasks: messages, parts, errors, cached searches, events. Internal: the caller holds the tasks.';

--
-- Name: escalate(uuid, text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.escalate(p_task_id uuid, p_code text, p_message text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  task atlas.task;
begin
  select t.* into task from atlas.task t where t.id = p_task_id or (t.kind = 'control' and t.message_task_id = p_task_id)
  order by (t.id = p_task_id) desc, t.id limit 1 for no key update;
  if not found then
    return;
  end if;
  perform atlas.reply(task, 'control', jsonb_build_object('command', 'escalate', 'task_id', task.message_task_id,
    'code', p_code)::text, jsonb_build_object('status', task.state, 'error', jsonb_build_object('code', p_code,
    'message', p_message)));
  perform atlas.append_audit(task.id, 'escalate', jsonb_build_object('code', p_code));
end
$$;

--
-- Name: FUNCTION escalate(p_task_id uuid, p_code text, p_message text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.escalate(p_task_id uuid, p_code text, p_message text) IS 'Tells people, by a control message on architect_out.';

--
-- Name: event_of(uuid, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.event_of(p_task uuid, p_status text) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
  -- the first half of the task's id keeps the order of time, which indexes are written in
  select encode(substr(uuid_send(p_task), 1, 8) || set_byte(h.hash, 0, (get_byte(h.hash, 0) & 63) | 128), 'hex')::uuid
  from (select substr(sha256(uuid_send(p_task) || convert_to(p_status, 'UTF8')), 1, 8) as hash) h
$$;

--
-- Name: FUNCTION event_of(p_task uuid, p_status text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.event_of(p_task uuid, p_status text) IS 'The id of the event that a task is in_progress, or completed: the same in every copy. Internal.';

--
-- Name: extend_leases(uuid, uuid[], interval); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.extend_leases(p_worker_id uuid, p_attempts uuid[], p_lease interval) RETURNS TABLE(attempt_id uuid, held boolean, cancel_requested boolean, adopted boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
begin
  update atlas.worker set seen_at = now() where id = p_worker_id;
  return query
  with due as (
    select a.id from atlas.attempt a where a.id = any (p_attempts) and a.lease_owner = p_worker_id
      and a.state = 'running' order by a.id for no key update
  ),
  extended as (
    update atlas.attempt a set lease_expires_at = now() + atlas.bounded(p_lease, '0', '1 hour') where a.id in (select due.id from due)
    returning a.id, a.task_id
  )
  select p.id, e.id is not null, coalesce(t.cancel_requested_at is not null, false), coalesce(t.adopted_at is not null, false)
  from unnest(p_attempts) as p (id)
  left join extended e on e.id = p.id
  left join atlas.task t on t.id = e.task_id;
end
$$;

--
-- Name: FUNCTION extend_leases(p_worker_id uuid, p_attempts uuid[], p_lease interval); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.extend_leases(p_worker_id uuid, p_attempts uuid[], p_lease interval) IS 'Extends the leases that are still held; not held: the task is somebody else''s now, its call must stop. adopted: another call of
the task is answered already, and this one must stop for it.';

--
-- Name: extend_post(uuid, text, interval); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.extend_post(p_task_id uuid, p_part text, p_lease interval) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  update atlas.post p set lease_expires_at = now() + atlas.bounded(p_lease, '0', '1 hour')
  where (p.task_id, p.part) = (p_task_id, p_part) and p.state = 'posting' and p.lease_expires_at > now();
  return found;
end
$$;

--
-- Name: FUNCTION extend_post(p_task_id uuid, p_part text, p_lease interval); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.extend_post(p_task_id uuid, p_part text, p_lease interval) IS 'Extends the lease of a post that is about to be made; false where it ran out, and another call may be making it.';

--
-- Name: fail_task(uuid, text, text, text, interval, jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.fail_task(p_attempt_id uuid, p_code text, p_message text, p_kind text DEFAULT 'own'::text, p_retry_after interval DEFAULT NULL::interval, p_usages jsonb DEFAULT '{}'::jsonb) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  task atlas.task;
  lowered text;
  patience interval;
begin
  if p_kind not in ('own', 'final', 'budget', 'outage', 'held', 'response', 'released') then
    raise exception using errcode = 'AT005', message = format('fail_task: kind %L is not known', p_kind),
      hint = 'use own, final, budget, outage, held, response or released';
  end if;
  select t.* into task from atlas.task t
  where t.id = (select a.task_id from atlas.attempt a where a.id = p_attempt_id) and t.attempt_id = p_attempt_id for no key update;
  if not found then
    perform atlas.raise_lost(p_attempt_id);
  end if;
  -- a response that is gone is generated anew, once
  if p_code = 'response_gone' and exists (select from atlas.attempt a where a.task_id = task.id and a.error_code = p_code) then
    p_kind := 'own';
  end if;
  if p_code = 'response_gone' then
    -- what the provider told of is not there any more
    update atlas.spend s set adopted_at = null
    where s.attempt_id = task.attempt_id and s.corrects is null and s.state = 'settled' and s.adopted_at is not null;
  end if;
  if p_kind = 'budget' then
    select b.scope into lowered from atlas.budget b
    where b.scope in ('global', 'project:' || task.project_id, 'sender:' || task.sender_key) and task.queued_at
      < case p_code when 'run_budget' then b.run_lowered_at when 'day_budget' then b.day_lowered_at when 'month_budget' then b.month_lowered_at end
    order by b.scope limit 1;
    if found then
      perform atlas.settle_attempts(array[task.attempt_id], jsonb_build_object(task.attempt_id, p_usages));
      perform atlas.wait_for_budget(task, jsonb_build_object('outcome', 'defer', 'code', p_code, 'scope', lowered, 'message', p_message,
        'until', (atlas.today() + 1)::timestamp at time zone 'UTC'));
      return 'queued';
    end if;
  end if;
  if p_kind in ('final', 'budget') then
    perform atlas.end_task(task, 'failed', p_code, p_message, p_usages);
    return 'failed';
  end if;
  if p_kind = 'own' and task.failures + 1 >= task.max_attempts then
    perform atlas.end_task(task, 'dead_lettered', p_code, p_message, p_usages);
    perform atlas.escalate(task.id, p_code, p_message);
    return 'dead_lettered';
  end if;
  perform atlas.release_task(task, case p_kind when 'outage' then 'upstream' when 'own' then 'retry' when 'released' then null
      else p_kind end,
    atlas.due_again(task, p_kind, case when p_retry_after is not null then atlas.bounded(p_retry_after, '0', '1 day') end), case p_kind when 'own' then 'failed' else 'released' end, p_code, p_message);
  perform atlas.settle_attempts(array[task.attempt_id], jsonb_build_object(task.attempt_id, p_usages));
  perform atlas.wait_for_holds(array[task.id]);
  -- a response that is written for much longer than was asked for is an outage as well
  select case p_kind when 'response' then interval '1 hour' + case max(s.completion_window) when '8h' then interval '8 hours'
      when '2h' then interval '2 hours' else interval '0' end else interval '5 minutes' end into patience
  from atlas.spend s where s.task_id = task.id and s.state = 'reserved';
  update atlas.task t set failures = t.failures + case p_kind when 'own' then 1 else 0 end,
    outage_since = case when p_kind in ('outage', 'held', 'response') then coalesce(t.outage_since, now()) when p_kind = 'own' then null
                        else t.outage_since end,
    escalated_at = case when p_kind in ('outage', 'held', 'response') and t.outage_since < now() - patience
                        then coalesce(t.escalated_at, now()) else t.escalated_at end
  where t.id = task.id;
  if task.escalated_at is null and p_kind in ('outage', 'held', 'response') and task.outage_since < now() - patience then
    perform atlas.escalate(task.id, p_code, p_message);
  end if;
  if p_kind = 'released' then
    perform atlas.wake_workers();
  end if;
  return 'queued';
end
$$;

--
-- Name: FUNCTION fail_task(p_attempt_id uuid, p_code text, p_message text, p_kind text, p_retry_after interval, p_usages jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.fail_task(p_attempt_id uuid, p_code text, p_message text, p_kind text, p_retry_after interval, p_usages jsonb) IS 'Ends an attempt that has no reply: own (tried again, then dead-lettered), final, budget, outage, held, response, released. Says
the state.';

--
-- Name: fill_outbox(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.fill_outbox() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
begin
  -- answers to commands and escalations wait for nothing, not even for a dead row of their task
  if exists (select from atlas.destination d where d.enabled) then
    insert into atlas.outbox (event_id, task_id, out_id, position, destination_id)
    select n.event_id, case when n.data ->> 'msg_type' <> 'control' then n.task_id end, n.id, n.id, d.id
    from new_rows n join atlas.destination d
      on d.enabled and atlas.matches(d.filter, 'message', n.data, coalesce(n.owner::text, 'service'))
    order by n.id;
  else
    insert into atlas.outbox (event_id, task_id, out_id, position)
    select n.event_id, case when n.data ->> 'msg_type' <> 'control' then n.task_id end, n.id, n.id
    from new_rows n
    -- that a task began is news only while it runs
    where n.data #>> '{metadata,status}' is distinct from 'in_progress' order by n.id;
  end if;
  return null;
end
$$;

--
-- Name: FUNCTION fill_outbox(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.fill_outbox() IS 'Every row of architect_out leaves by the outbox.';

--
-- Name: find_task(text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.find_task(p_text text, p_state text DEFAULT NULL::text) RETURNS SETOF uuid
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $_$
  with digits as (select replace(lower(p_text), '-', '') as d),
  prefix as (
    select case when d ~ '^[0-9a-f]{4,32}$' then rpad(d, 32, '0')::uuid end as low,
      case when d ~ '^[0-9a-f]{4,32}$' then rpad(d, 32, 'f')::uuid end as high
    from digits
  ),
  found as (
    (select t.id, t.queued_at, t.in_id from atlas.task t
     where t.id between (select low from prefix) and (select high from prefix) limit 100)
    union
    (select t.id, t.queued_at, t.in_id from atlas.task t
     where t.kind = 'control' and t.message_task_id between (select low from prefix) and (select high from prefix) limit 100)
    union
    (select t.id, t.queued_at, t.in_id from atlas.task t
     where p_text = 'last' and t.kind = 'chat' and (p_state is null or t.state = p_state)
     order by t.queued_at desc, t.in_id desc limit 1)
  )
  select f.id from found f order by f.queued_at desc, f.in_id desc limit 6
$_$;

--
-- Name: FUNCTION find_task(p_text text, p_state text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.find_task(p_text text, p_state text) IS 'The tasks whose id, or whose message''s task_id, begins with a text; at most 6, newest first. last: the latest question (in a
state, where one is given).';

--
-- Name: finish_post(uuid, text, text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.finish_post(p_task_id uuid, p_part text, p_external_id text, p_url text DEFAULT NULL::text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  update atlas.post p set state = 'posted', external_id = p_external_id, url = coalesce(p_url, p.url)
  where (p.task_id, p.part) = (p_task_id, p_part)
$$;

--
-- Name: FUNCTION finish_post(p_task_id uuid, p_part text, p_external_id text, p_url text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.finish_post(p_task_id uuid, p_part text, p_external_id text, p_url text) IS 'After a post was made or found: where it is.';

--
-- Name: flush_cache(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.flush_cache() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  delete from rag.cache;
  update atlas.control set cache_flushed_at = clock_timestamp();
  perform atlas.append_audit(null, 'flush_cache', '{}');
end
$$;

--
-- Name: FUNCTION flush_cache(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.flush_cache() IS 'Makes every worker drop what it cached of the team''s knowledge.';

--
-- Name: forget_asked(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.forget_asked() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  update atlas.task t set asked = null, answered = null where t.id = new.id and (t.asked is not null or t.answered is not null);
  return null;
end
$$;

--
-- Name: FUNCTION forget_asked(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.forget_asked() IS 'Drops what a task asked back when it is erased or trimmed.';

--
-- Name: get_asked(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.get_asked(p_task_id uuid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
begin
  return (select jsonb_build_object('asked', t.asked, 'answered', t.answered) from atlas.task t where t.id = p_task_id and t.answered is not null);
end
$$;

--
-- Name: FUNCTION get_asked(p_task_id uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.get_asked(p_task_id uuid) IS 'What a task asked back, and was answered; null where it did not.';

--
-- Name: get_budgets(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.get_budgets() RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select coalesce(jsonb_agg(to_jsonb(b) || jsonb_build_object('held_tokens', coalesce(h.tokens, 0), 'held_usd', coalesce(h.usd, 0))
    order by b.scope), '[]')
  from atlas.budget_now b
  left join lateral (
    select sum(s.reserved_tokens) as tokens, sum(s.reserved_usd) as usd
    from atlas.spend s where s.held_until is not null and s.day = b.day and b.scope = any (s.scopes)) h on true
  where b.scope = 'global' or num_nonnulls(b.per_run, b.usd_per_run, b.daily, b.usd_daily, b.monthly, b.usd_monthly) > 0
$$;

--
-- Name: FUNCTION get_budgets(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.get_budgets() IS 'All limits with what today and this month hold.';

--
-- Name: get_delivery(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.get_delivery(p_task_id uuid) RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select jsonb_build_object('task_id', t.id, 'state', t.state, 'title', t.title, 'reply_to', i.data #>> '{metadata,reply_to}',
    'queued_at', t.queued_at, 'spec', case when t.state = 'completed' then o.data end,
    'final', case when t.finished_at is not null then o.data end)
  from atlas.task t join public.architect_in i on i.id = t.in_id left join public.architect_out o on o.id = t.out_id
  where t.id = p_task_id and t.kind = 'chat'
$$;

--
-- Name: FUNCTION get_delivery(p_task_id uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.get_delivery(p_task_id uuid) IS 'State, address and reply of a task, for the function that delivers it.';

--
-- Name: get_prompt(uuid, uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.get_prompt(p_task uuid, p_for uuid) RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select jsonb_build_object('model', p.model, 'version', p.version, 'parameters', p.parameters, 'turns', atlas.prompt_turns(p.body), 'sources', (
    select coalesce(jsonb_agg(s.one || jsonb_build_object('text', t.text) order by s.place), '[]')
    from jsonb_array_elements(p.sources) with ordinality as s (one, place) left join atlas.prompt_text t on t.sha256 = decode(s.one ->> 'text_sha256', 'hex')))
  from atlas.prompt p join atlas.attempt a on a.id = p.attempt_id
  where p.task_id = p_task and atlas.get_reply(p_task, p_for) is not null
    and (p.sources = '[]' or (select t.project_id from atlas.task t where t.id = p_task) = any (rag.projects_of(p_for)))
  -- the first call of the last attempt: a repair or a continuation holds what was written
  order by a.number desc, p.call limit 1
$$;

--
-- Name: FUNCTION get_prompt(p_task uuid, p_for uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.get_prompt(p_task uuid, p_for uuid) IS 'What was asked for a reply, for a task whose sender may read that: it is asked again. Null where nothing is kept.';

--
-- Name: get_reply(uuid, uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.get_reply(p_task_id uuid, p_for uuid) RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select jsonb_build_object('question', i.data -> 'content', 'content', o.data -> 'content', 'metadata', o.data -> 'metadata')
  from atlas.task f
  join atlas.task t on t.id = p_task_id and t.kind = 'chat' and t.state = 'completed' and t.project_id = f.project_id and t.erased_at is null
  join public.architect_in i on i.id = t.in_id
  join public.architect_out o on o.id = t.out_id
  where f.id = p_for and (f.sender is null or t.sender = f.sender
    or exists (select from atlas.member m where m.user_id = f.sender and m.project_id = t.project_id))
$$;

--
-- Name: FUNCTION get_reply(p_task_id uuid, p_for uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.get_reply(p_task_id uuid, p_for uuid) IS 'A reply of the same project with its question and metadata, for a task whose sender may read it; null where there is none.';

--
-- Name: get_task(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.get_task(p_task_id uuid) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select to_jsonb(h) || jsonb_build_object(
    'question', coalesce(i.data ->> 'content', h.title),
    'reply', o.data -> 'content',
    'metadata', coalesce(o.data -> 'metadata', '{}'),
    'attempt_list', (
      select coalesce(jsonb_agg(jsonb_build_object('number', a.number, 'state', a.state, 'model', a.model,
        'started_at', a.started_at, 'finished_at', a.finished_at, 'first_delta_at', a.first_delta_at,
        'error_code', a.error_code, 'error_message', a.error_message) order by a.number), '[]')
      from atlas.attempt a where a.task_id = h.id),
    'calls', (select coalesce(jsonb_agg(to_jsonb(s) order by s.id), '[]') from atlas.spend s where s.task_id = h.id),
    'audit', (
      select coalesce(jsonb_agg(jsonb_build_object('seq', u.seq, 'at', u.at, 'event', u.event, 'actor', u.actor,
        'detail', u.detail) order by u.seq), '[]')
      from atlas.audit u where u.task_id = h.id))
  from atlas.task_history h
  join atlas.task t on t.id = h.id
  left join public.architect_in i on i.id = t.in_id
  left join public.architect_out o on o.id = t.out_id
  where h.id = p_task_id
$$;

--
-- Name: FUNCTION get_task(p_task_id uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.get_task(p_task_id uuid) IS 'A task with its question, reply, attempts, calls and audit; null for a task that the caller may not read.';

--
-- Name: get_thread(uuid, uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.get_thread(p_task_id uuid, p_for uuid) RETURNS TABLE(question text, reply text, parent_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select i.data ->> 'content', coalesce(o.data ->> 'content', ''), t.parent_id
  from atlas.task f
  join atlas.task t on t.id = p_task_id and t.kind = 'chat' and t.project_id = f.project_id
  join public.architect_in i on i.id = t.in_id
  left join public.architect_out o on o.id = t.out_id
  where f.id = p_for and (f.sender is null or t.sender = f.sender
    or exists (select from atlas.member m where m.user_id = f.sender and m.project_id = t.project_id))
$$;

--
-- Name: FUNCTION get_thread(p_task_id uuid, p_for uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.get_thread(p_task_id uuid, p_for uuid) IS 'An earlier question of the same project and its reply, for a task whose sender may read it.';

--
-- Name: go_on_with(atlas.task); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.go_on_with(p_task atlas.task) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if p_task.state = 'queued' and p_task.wait_reason is distinct from 'scheduled' then
    update atlas.task t set wait_reason = null, wait_scope = null, run_after = now() where t.id = p_task.id;
    perform atlas.wake_workers();
  elsif p_task.state = 'running' then
    update atlas.task t set adopted_at = now() where t.id = p_task.id;
    notify atlas_wake, 'cancel';
  end if;
end
$$;

--
-- Name: FUNCTION go_on_with(p_task atlas.task); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.go_on_with(p_task atlas.task) IS 'Lets a task go on with a response that was heard of. Internal: the caller holds its task.';

--
-- Name: grouped(numeric); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.grouped(value numeric) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$ select to_char(value, case when value = trunc(value) then 'FM999,999,999,999,990' else 'FM999,999,990.0000' end) $$;

--
-- Name: FUNCTION grouped(value numeric); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.grouped(value numeric) IS 'A number as people read it, such as 73,768 or 0.0450. Internal.';

--
-- Name: has_work(boolean); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.has_work(p_chats boolean DEFAULT true) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
begin
  return exists (select from atlas.task t where t.ready and t.kind = 'control')
    or (p_chats and (select c.paused_at is null from atlas.control c) and (
      exists (select from atlas.task t where t.ready and t.kind = 'chat')
      or exists (select from atlas.task t where t.wait_reason is not null and t.run_after <= now())));
end
$$;

--
-- Name: FUNCTION has_work(p_chats boolean); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.has_work(p_chats boolean) IS 'Whether a claim would find something now: a plain read. p_chats: questions too.';

--
-- Name: hear_issue(text, text, text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.hear_issue(p_address text, p_number text, p_state text, p_login text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  v_task uuid;
  v_item integer;
begin
  select p.task_id, 1 + substr(p.part, 7)::integer into v_task, v_item from atlas.post p
  where p.part ~ '^issue:\d{1,3}$' and p.address = p_address and p.external_id = p_number and p.state = 'posted';
  if v_task is null or not exists (select from atlas.task t where t.id = v_task) then
    return jsonb_build_object('ignored', 'not an issue of a work item');
  end if;
  insert into atlas.work_item as w (task_id, number, state, taken_by, decision_seen)
  values (v_task, v_item, p_state, left('github:' || p_login, 200), atlas.decision_of(v_task))
  on conflict (task_id, number) do update set state = excluded.state, updated_at = now();
  perform atlas.append_audit(v_task, 'report_work_item', jsonb_build_object('item', v_item, 'state', p_state, 'by', left('github:' || p_login, 200)));
  return jsonb_build_object('task_id', v_task, 'item', v_item, 'state', p_state);
end
$_$;

--
-- Name: FUNCTION hear_issue(p_address text, p_number text, p_state text, p_login text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.hear_issue(p_address text, p_number text, p_state text, p_login text) IS 'An issue that was filed from a work item was closed or reopened: the item is done, dropped, or taken again.';

--
-- Name: hear_pull(text, text, boolean, text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.hear_pull(p_address text, p_number text, p_merged boolean, p_login text, p_url text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_task uuid;
  d atlas.decision;
begin
  select p.task_id into v_task from atlas.post p where p.part = 'pull_request' and p.address = p_address and p.external_id = p_number and p.state = 'posted';
  if v_task is null then
    return jsonb_build_object('ignored', 'not a pull request of a record');
  end if;
  d := atlas.decide(v_task, case when p_merged then 'accepted' else 'rejected' end, case when p_merged then 'accept' else 'reject' end,
    left(format('%s was %s by %s', p_url, case when p_merged then 'merged' else 'closed' end, p_login), 2000), '{}');
  update atlas.decision x set decided_by = left('github:' || p_login, 200) where x.task_id = v_task and x.decided_by = atlas.actor();
  return jsonb_build_object('task_id', v_task, 'number', d.number, 'status', d.status);
exception when sqlstate 'AT005' or sqlstate 'AT004' then
  return jsonb_build_object('ignored', sqlerrm);
end
$$;

--
-- Name: FUNCTION hear_pull(p_address text, p_number text, p_merged boolean, p_login text, p_url text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.hear_pull(p_address text, p_number text, p_merged boolean, p_login text, p_url text) IS 'The pull request of a record was merged, which accepts it, or closed, which rejects it. What is decided already stays so.';

--
-- Name: import_decisions(uuid, jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.import_decisions(p_project uuid, p_records jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  record jsonb;
  old atlas.decision;
  made atlas.decision;
  v_number integer;
  v_added integer := 0;
begin
  perform atlas.require_decider(p_project, 'import');
  if jsonb_typeof(p_records) is distinct from 'array' or jsonb_array_length(p_records) > 2000 then
    perform atlas.refuse('records', 'must be a list of at most 2,000', 'import fewer files at once', 'AT001', 'import');
  end if;
  perform 1 from atlas.project p where p.id = p_project for no key update;
  perform rag.lock_terms(rag.scope_of(p_project));
  for record in select r from jsonb_array_elements(p_records) r loop
    if coalesce(record ->> 'number', '') !~ '^\d{1,9}$' or coalesce(record ->> 'superseded_by', '0') !~ '^\d{1,9}$'
       or record ->> 'decided_at' is not null and atlas.as_timestamp(record ->> 'decided_at') is null then
      perform atlas.refuse('records', format('has an invalid number, superseded_by or decided_at (%s)', coalesce(record ->> 'file', record ->> 'number', '?')),
        'see docs/schemas/decision.json', 'AT001', 'import');
    end if;
    if (record ->> 'status' = 'superseded') <> (record ->> 'superseded_by' is not null) or record ->> 'superseded_by' = record ->> 'number' then
      perform atlas.refuse('records', format('has a status that does not agree with its superseded_by (%s)',
        coalesce(record ->> 'file', record ->> 'number')), 'status superseded needs the number of another record, and no other status has one', 'AT001', 'import');
    end if;
    if record ->> 'file' !~ '^[A-Za-z0-9][^/\\]{0,195}\.md$' or exists (
      select from unnest(atlas.texts_of(record -> 'paths')) g (path) where g.path !~ '^[^`\s<>:\\]{1,200}$' or g.path ~ '(^[/~]|(^|/)\.\.(/|$))') then
      perform atlas.refuse('records', format('has a file that is not a plain .md name, or paths that leave the repository (%s)',
        left(coalesce(record ->> 'file', record ->> 'number'), 100)), 'see docs/schemas/decision.json', 'AT001', 'import');
    end if;
    v_number := (record ->> 'number')::integer;
    if coalesce(record ->> 'title', '') = '' or coalesce(record ->> 'content', '') = '' or v_number is null
       or record ->> 'status' is null or record ->> 'status' not in ('proposed', 'accepted', 'rejected', 'deprecated', 'superseded') then
      perform atlas.refuse('records', format('lacks a title, content or known status (%s)', coalesce(record ->> 'file', record ->> 'number', '?')),
        'see docs/schemas/decision.json', 'AT001', 'import');
    end if;
    select d.* into old from atlas.decision d where d.project_id = p_project and d.number = v_number;
    if found and old.content = record ->> 'content' and old.status = record ->> 'status' and old.superseded_by is not distinct from (record ->> 'superseded_by')::integer then
      continue;
    end if;
    if found and old.content = record ->> 'content' and old.status = 'superseded' and record ->> 'status' = 'accepted' then
      -- the file does not know yet: an export tells it
      continue;
    end if;
    if found and (old.task_id is not null or old.file is distinct from record ->> 'file') then
      raise exception using errcode = 'AT005', message = format('import: ADR-%s is another record already: %s', v_number, old.title),
        hint = 'give the file another number, or supersede the decision that is there';
    end if;
    -- a file that was imported before, and has changed since, is what counts
    delete from atlas.decision d where d.project_id = p_project and d.number = v_number;
    insert into atlas.decision (project_id, number, title, content, constraints, paths, checks, sources, file, status, superseded_by, superseded_at, asked_by,
      decided_by, decided_at)
    values (p_project, v_number, left(record ->> 'title', 500), record ->> 'content', atlas.texts_of(record -> 'constraints'), atlas.texts_of(record -> 'paths'),
      atlas.texts_of(record -> 'checks'), atlas.texts_of(record -> 'sources'), left(record ->> 'file', 200), record ->> 'status', (record ->> 'superseded_by')::integer,
      case when record ->> 'superseded_by' is not null then now() end, atlas.actor(), coalesce(left(record ->> 'owner', 200), atlas.actor()),
      coalesce((record ->> 'decided_at')::timestamptz, now()))
    returning * into made;
    perform atlas.index_decision(made);
    v_added := v_added + 1;
  end loop;
  select d.* into old from atlas.decision d where d.project_id = p_project and d.superseded_by is not null
    and not exists (select from atlas.decision o where o.project_id = p_project and o.number = d.superseded_by) limit 1;
  if found then
    raise exception using errcode = 'AT004', message = format('import: ADR-%s is superseded by ADR-%s, which is not there', old.number, old.superseded_by),
      hint = 'import that one too, or correct the status of the first';
  end if;
  if exists (
    with recursive chain as (
      select d.number as start, d.superseded_by as at, 1 as far from atlas.decision d where d.project_id = p_project and d.superseded_by is not null
      union all
      select c.start, d.superseded_by, c.far + 1 from chain c join atlas.decision d on d.project_id = p_project and d.number = c.at
      where d.superseded_by is not null and c.at <> c.start and c.far < 2000)
    select from chain c where c.at = c.start) then
    raise exception using errcode = 'AT005', message = 'import: these records supersede each other in a circle',
      hint = 'exactly one of them can be the newest: correct their files';
  end if;
  if v_added > 0 then
    perform atlas.append_audit(null, 'import_decisions', jsonb_build_object('project_id', p_project, 'records', v_added));
  end if;
  return jsonb_build_object('added', v_added, 'unchanged', jsonb_array_length(p_records) - v_added);
end
$_$;

--
-- Name: FUNCTION import_decisions(p_project uuid, p_records jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.import_decisions(p_project uuid, p_records jsonb) IS 'Takes records that were decided elsewhere, with their numbers and statuses: [{"number", "title", "content", "status", "superseded_by", "decided_at", "file",
"constraints", "paths", "checks", "sources", "owner"}]. All or none; the same again changes nothing, a changed file replaces what it was. For deciders and admins; sends no event.';

--
-- Name: in_context(jsonb, jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.in_context(p_payload jsonb, p_asked jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
  -- a reply names the span that wrote it already
  select case when c.added = jsonb '{}' then p_payload
    else jsonb_set(p_payload, '{metadata}', coalesce(p_payload -> 'metadata', '{}') || c.added || jsonb '{"schema_ver": 2}') end
  from (
    select jsonb_strip_nulls(jsonb_build_object('reply_to', p_asked -> 'reply_to',
      'traceparent', case when p_payload #> '{metadata,traceparent}' is null then p_asked -> 'traceparent' end)) as added
  ) c
$$;

--
-- Name: FUNCTION in_context(p_payload jsonb, p_asked jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.in_context(p_payload jsonb, p_asked jsonb) IS 'An event with the address to which its router sends it, and the trace that its producer began, by what the question''s metadata says.';

--
-- Name: index_decision(atlas.decision); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.index_decision(p_decision atlas.decision) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_source constant text := 'decision:ADR-' || p_decision.number;
begin
  -- replies draw only on decisions that hold
  if p_decision.status = 'accepted' then
    perform rag.put_document(p_decision.project_id, v_source, left(p_decision.title, 200), 'markdown',
      sha256(convert_to(p_decision.content, 'UTF8')), atlas.decision_chunks(p_decision));
  else
    perform rag.drop_documents(p_decision.project_id, array[v_source]);
  end if;
end
$$;

--
-- Name: FUNCTION index_decision(p_decision atlas.decision); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.index_decision(p_decision atlas.decision) IS 'Lets searches find a decision while it holds. Internal.';

--
-- Name: index_document(uuid, text, text, text, bytea, jsonb, text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.index_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea, p_chunks jsonb, p_commit text DEFAULT NULL::text, p_repository text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform atlas.require_member(p_project);
  if jsonb_typeof(p_chunks) is distinct from 'array' or jsonb_array_length(p_chunks) > 2000 or octet_length(p_chunks::text) > 4194304 then
    perform atlas.refuse('chunks', 'are more than 2,000, or 4 MiB', 'split the document');
  end if;
  if length(p_source) > 2000 or length(p_title) > 2000 or length(p_repository) > 2000 then
    perform atlas.refuse('source', 'is longer than 2,000 characters', 'index it under a shorter name');
  end if;
  if (select count(*) from rag.document d where d.project_id = p_project) >= 50000 then
    perform atlas.refuse('project', 'has 50,000 documents', 'remove some: `atlas index list`');
  end if;
  return rag.put_document(p_project, p_source, p_title, p_kind, p_sha256, p_chunks, p_commit, p_repository);
end
$$;

--
-- Name: FUNCTION index_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea, p_chunks jsonb, p_commit text, p_repository text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.index_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea, p_chunks jsonb, p_commit text, p_repository text) IS 'Indexes a document of a project, for its members; vectors come with the next run of an operator''s.';

--
-- Name: inherit_responses(uuid[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.inherit_responses(p_tasks uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_tasks uuid[];
  details jsonb[];
begin
  with moved as (
    update atlas.spend s set attempt_id = t.attempt_id, call = 0, left_at = null
    from atlas.task t
    where t.id = any (p_tasks) and t.attempts > 1 and s.task_id = any (p_tasks) and s.id = (
      select o.id from atlas.spend o
      where o.task_id = t.id and o.corrects is null and o.response_id is not null and (o.state = 'reserved'
        or (o.state = 'settled' and o.adopted_at is not null and o.known in ('presumed_none', 'unknown')))
      order by (o.adopted_at is not null) desc, o.id desc limit 1)
    returning s.task_id, s.id, s.response_id, t.attempts, t.attempt_id
  )
  select array_agg(m.task_id), array_agg(jsonb_build_object('attempt', m.attempts, 'spend_id', m.id, 'response', m.response_id,
      'worker', (select a.lease_owner from atlas.attempt a where a.id = m.attempt_id)))
    into v_tasks, details from moved m;
  if v_tasks is not null then
    perform atlas.append_audits('inherit_response', v_tasks, details);
  end if;
end
$$;

--
-- Name: FUNCTION inherit_responses(p_tasks uuid[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.inherit_responses(p_tasks uuid[]) IS 'Hands a response that a lost attempt had begun to the attempt that has just been claimed. Internal.';

--
-- Name: inherited_response(atlas.task); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.inherited_response(p_task atlas.task) RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
  select jsonb_build_object('spend_id', k.id, 'model', k.model,
    'response_id', k.response_id, 'reserved_tokens', k.reserved_tokens,
    'age_seconds', extract(epoch from now() - k.reserved_at), 'completion_window', k.completion_window,
    'sequence_number', l.sequence_number, 'response_offset', coalesce(l.response_offset, 0), 'text', coalesce((
      select string_agg(p.text, '' order by p."offset") from atlas.reply_part p
      where p.attempt_id = l.id and p.generation = l.generation), ''))
  from atlas.spend k
  left join lateral (
    select e.id, e.generation, e.sequence_number, e.response_offset from atlas.attempt e
    where e.task_id = p_task.id and e.number < p_task.attempts and e.response_id = k.response_id
    order by e.number desc limit 1) l on true
  where k.attempt_id = p_task.attempt_id and k.corrects is null
$$;

--
-- Name: FUNCTION inherited_response(p_task atlas.task); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.inherited_response(p_task atlas.task) IS 'The response that an attempt that has just been claimed goes on with, and how far its text had come; null: none. Internal.';

--
-- Name: is_filter(jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.is_filter(filter jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select jsonb_typeof(filter) = 'object' and not exists (
    select from jsonb_each(case jsonb_typeof(filter) when 'object' then filter else '{}' end) f
    where f.key not in ('msg_type', 'status', 'sender', 'kind')
      or not (jsonb_typeof(f.value) = 'string' or (jsonb_typeof(f.value) = 'array' and not exists (
        select from jsonb_array_elements(case jsonb_typeof(f.value) when 'array' then f.value else '[]' end) e
        where jsonb_typeof(e) <> 'string'))))
$$;

--
-- Name: FUNCTION is_filter(filter jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.is_filter(filter jsonb) IS 'Whether a destination''s filter has known fields and texts only.';

--
-- Name: is_leaving(uuid, uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.is_leaving(p_task uuid, p_message_task uuid) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
begin
  return exists (select from atlas.outbox o where o.task_id = p_task and o.state in ('pending', 'dead') and o.destination_id is not null)
    or exists (select from public.architect_out m join atlas.outbox o on o.out_id = m.id
      where m.task_id = p_message_task and o.state in ('pending', 'dead') and o.destination_id is not null);
end
$$;

--
-- Name: FUNCTION is_leaving(p_task uuid, p_message_task uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.is_leaving(p_task uuid, p_message_task uuid) IS 'Whether an event of a task, or an answer under its id, did not arrive yet. Internal.';

--
-- Name: is_service(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.is_service() RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select coalesce(auth.role(), '') in ('', 'service_role')
     and atlas.caller_role() not in ('anon', 'authenticated', 'authenticator')
     and pg_has_role(atlas.caller_role(), 'service_role', 'usage')
$$;

--
-- Name: FUNCTION is_service(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.is_service() IS 'True for the service role and for roles that inherit it (postgres); false for people, whatever their token says.';

--
-- Name: keep_late_text(uuid, atlas.task, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.keep_late_text(p_attempt_id uuid, p_task atlas.task, p_text text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  update atlas.attempt a set late_text = p_text
  where a.id = p_attempt_id and coalesce(p_text, '') <> '' and p_task.title <> '[erased]'
    and not exists (select from public.architect_out o where o.id = p_task.out_id and o.data ->> 'content' = p_text)
$$;

--
-- Name: FUNCTION keep_late_text(p_attempt_id uuid, p_task atlas.task, p_text text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.keep_late_text(p_attempt_id uuid, p_task atlas.task, p_text text) IS 'Keeps the text of a response that came after its task was over, unless it is the reply. Internal.';

--
-- Name: keep_message(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.keep_message() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
begin
  if exists (select from atlas.task t where t.id = old.task_id and t.in_id = old.id)
     or exists (select from atlas.task t where t.message_task_id = old.task_id and t.kind = 'control' and t.in_id = old.id) then
    raise exception using errcode = 'AT005', message = format('message %s is that of task %s', old.id, old.task_id),
      hint = 'set a retention (`atlas retention`), or erase its text (`atlas erase`)';
  end if;
  return old;
end
$$;

--
-- Name: FUNCTION keep_message(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.keep_message() IS 'Keeps the message of a task for as long as there is the task.';

--
-- Name: keep_prompts(jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.keep_prompts(p_items jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_tasks uuid[];
  v_details jsonb[];
begin
  insert into atlas.prompt_text as t (sha256, text)
  select distinct on (1) decode(s.key, 'hex'), s.value #>> '{}'
  from jsonb_array_elements(p_items) i cross join lateral jsonb_each(i -> 'texts') s order by 1
  on conflict (sha256) do update set seen_at = now() where t.seen_at < now() - interval '12 hours';
  with kept as (
    insert into atlas.prompt (attempt_id, call, task_id, model, version, parameters, body, sources, texts, sha256)
    select a.id, (i ->> 'call')::integer, a.task_id, i ->> 'model', i ->> 'version', i -> 'parameters', i -> 'body', i -> 'sources',
      array(select decode(k, 'hex') from jsonb_object_keys(i -> 'texts') k), decode(i ->> 'sha256', 'hex')
    from jsonb_array_elements(p_items) i join atlas.attempt a on a.id = (i ->> 'attempt_id')::uuid
    on conflict (attempt_id, call) do nothing
    returning task_id, call, sha256
  )
  select array_agg(k.task_id order by k.task_id, k.call),
    array_agg(jsonb_build_object('call', k.call, 'sha256', encode(k.sha256, 'hex')) order by k.task_id, k.call) into v_tasks, v_details from kept k;
  if v_tasks is not null then
    perform atlas.append_audits('keep_prompt', v_tasks, v_details);
  end if;
end
$$;

--
-- Name: FUNCTION keep_prompts(p_items jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.keep_prompts(p_items jsonb) IS 'Keeps prompts before they are sent: [{"attempt_id", "call", "model", "version", "parameters", "body", "sources", "texts", "sha256"}].';

--
-- Name: known_documents(uuid, text[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.known_documents(p_project uuid, p_sources text[]) RETURNS TABLE(source text, content_sha256 bytea)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform atlas.require_member(p_project);
  return query select * from rag.known_documents(p_project, p_sources);
end
$$;

--
-- Name: FUNCTION known_documents(p_project uuid, p_sources text[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.known_documents(p_project uuid, p_sources text[]) IS 'Hashes of a project''s documents, for its members.';

--
-- Name: last_task_at(text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.last_task_at(p_reply_to text) RETURNS uuid
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select t.id from public.architect_in i join atlas.task t on t.in_id = i.id
  where i.data #>> '{metadata,reply_to}' = p_reply_to and t.kind = 'chat' and t.state = 'completed'
  order by t.queued_at desc, t.in_id desc limit 1
$$;

--
-- Name: FUNCTION last_task_at(p_reply_to text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.last_task_at(p_reply_to text) IS 'The latest answered question of an address, such as github:owner/repo#7.';

--
-- Name: lease_rate(text, bigint, bigint); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.lease_rate(p_model text, p_requests bigint, p_tokens bigint) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  bucket record;
  need numeric;
  pause numeric := 0;
  share numeric;
  granted jsonb := jsonb '{}';
begin
  for bucket in
    select b.unit, b.per_minute, b.blocked_until,
      least(b.per_minute, b.level + extract(epoch from clock_timestamp() - b.as_of) * b.per_minute / 60) as level
    from atlas.rate_bucket b where b.model = p_model order by b.unit for no key update
  loop
    -- what is larger than the whole bucket waits until it is full
    need := least(bucket.per_minute, case bucket.unit when 'requests' then p_requests else p_tokens end);
    pause := greatest(pause, (need - bucket.level) * 60 / bucket.per_minute,
      coalesce(extract(epoch from bucket.blocked_until - clock_timestamp()), 0));
    share := floor(least(bucket.level, greatest(need, bucket.per_minute / 60.0)));
    granted := granted || jsonb_build_object(bucket.unit, share);
  end loop;
  if pause > 0 then
    return jsonb_build_object('wait', pause);
  end if;
  update atlas.rate_bucket b set as_of = clock_timestamp(),
    level = greatest(0, least(b.per_minute, b.level + extract(epoch from clock_timestamp() - b.as_of) * b.per_minute / 60)
      - (granted ->> b.unit)::numeric)
  where b.model = p_model;
  return granted;
end
$$;

--
-- Name: FUNCTION lease_rate(p_model text, p_requests bigint, p_tokens bigint); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.lease_rate(p_model text, p_requests bigint, p_tokens bigint) IS 'Leases requests and tokens of a model''s rate limit: {"requests", "tokens"}, about a second''s worth or what is asked for; a unit
that is missing has no limit; {"wait": seconds} where it has to be waited for.';

--
-- Name: list_destinations(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.list_destinations() RETURNS TABLE(id uuid, name text, kind text, target text, secret_name text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select d.id, d.name, d.kind, d.target, d.secret_name from atlas.destination d where d.enabled order by d.created_at, d.id
$$;

--
-- Name: FUNCTION list_destinations(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.list_destinations() IS 'The enabled destinations, for the mirror.';

--
-- Name: list_members(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.list_members(p_project uuid) RETURNS TABLE(email text, user_id uuid, role text, created_at timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select u.email::text, m.user_id, m.role, m.created_at from atlas.member m left join auth.users u on u.id = m.user_id
  where m.project_id = p_project order by u.email, m.user_id
$$;

--
-- Name: FUNCTION list_members(p_project uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.list_members(p_project uuid) IS 'The members of a project, with the e-mail addresses that they signed up with.';

--
-- Name: list_models(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.list_models() RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select coalesce(jsonb_agg(to_jsonb(m) || jsonb_build_object(
      'priced', p.model is not null, 'breaker', coalesce(s.state, 'closed'), 'breaker_since', s.since,
      'last_error', s.last_error, 'missing_since', s.missing_since, 'usual_output', s.usual_output) order by m.name), '[]')
  from (select x.name, x.shutdown_at, x.successor, x.context_tokens, x.max_output_tokens, x.vocabulary, x.reasoning,
          x.reasoning_effort, x.streams, x.temperature
        from atlas.model x
        union all
        -- a model of somebody's settings that has no row has a breaker all the same
        select y.model, null, null, null, null, null, false, null, true, false from atlas.model_state y
        where not exists (select from atlas.model x where x.name = y.model)) m
  left join atlas.model_state s on s.model = m.name
  left join lateral (select (atlas.price_on(m.name, (now() at time zone 'UTC')::date)).model) p on true
$$;

--
-- Name: FUNCTION list_models(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.list_models() IS 'All models with their life, limits and what the fleet learned of them.';

--
-- Name: list_repositories(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.list_repositories() RETURNS TABLE(project text, repository text, documents bigint, chunks bigint, indexed_at timestamp with time zone, commit text)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select p.name, d.repository, count(*), sum(d.chunks), max(d.indexed_at), (array_agg(d.commit order by d.indexed_at desc))[1]
  from rag.document d left join atlas.project p on p.id = d.project_id
  group by 1, 2 order by 1 nulls first, 2 nulls last
$$;

--
-- Name: FUNCTION list_repositories(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.list_repositories() IS 'What is indexed, by repository and project, as far as the caller may see it. Project null: shared; repository null: sent one by one.';

--
-- Name: lock_days(date[], text[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.lock_days(p_days date[], p_scopes text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
begin
  perform atlas.open_day(b.scope, d.day)
  from atlas.budget b cross join unnest(p_days) as d (day)
  where b.scope = any (p_scopes)
    and (select true from atlas.budget_day x where x.scope = b.scope and x.day = d.day limit 1) is null
  order by b.scope;
  perform from atlas.budget_day b where b.day = any (p_days) and b.scope = any (p_scopes)
  order by b.day, b.scope for update;
end
$$;

--
-- Name: FUNCTION lock_days(p_days date[], p_scopes text[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.lock_days(p_days date[], p_scopes text[]) IS 'Opens and locks days of budgets, in the one order.';

--
-- Name: mark_worker(uuid, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.mark_worker(p_worker_id uuid, p_state text) RETURNS integer
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  update atlas.worker set state = p_state, seen_at = now() where id = p_worker_id;
  select count(*)::integer from atlas.worker w
  where w.state <> 'stopped' and w.seen_at > now() - interval '2 minutes' and w.id <> p_worker_id;
$$;

--
-- Name: FUNCTION mark_worker(p_worker_id uuid, p_state text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.mark_worker(p_worker_id uuid, p_state text) IS 'idle: waits for a wake-up. busy: claims again by itself. stopped. Answers how many others there are.';

--
-- Name: matches(jsonb, text, jsonb, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.matches(filter jsonb, event_kind text, data jsonb, sender text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select atlas.wants(filter -> 'msg_type', data ->> 'msg_type')
    and atlas.wants(filter -> 'status', data #>> '{metadata,status}')
    and atlas.wants(filter -> 'sender', sender)
    and case when filter ? 'kind'
        then atlas.wants(filter -> 'kind', event_kind) or atlas.wants(filter -> 'kind', data #>> '{metadata,kind}')
        -- who names no kind gets what is of interest to everybody
        else event_kind in ('message', 'audit_seal', 'budget.warning', 'budget.spent', 'decision.accepted', 'decision.rejected',
          'decision.superseded') end
$$;

--
-- Name: FUNCTION matches(filter jsonb, event_kind text, data jsonb, sender text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.matches(filter jsonb, event_kind text, data jsonb, sender text) IS 'Whether a destination wants an event. kind: message, audit_seal, notification, progress, export,
budget.warning, budget.spent, decision.accepted, decision.rejected, decision.superseded, or a message''s metadata.kind.';

--
-- Name: measure_models(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.measure_models() RETURNS integer
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
  with model as (
    select s.model from atlas.model_state s
    where s.measured_at is null or s.measured_at < now() - interval '10 minutes' for no key update skip locked
  ),
  measured as (
    select m.model, (
      select percentile_disc(0.99) within group (order by r.output)
      from (
        -- a reply that was cut and continued is one reply; one that used up what was reserved may have wanted as much again
        select sum(c.output_tokens) * case when bool_or(c.cut) then 2 else 1 end as output
        from (select s.attempt_id, s.output_tokens, s.output_tokens >= s.reserved_output as cut from atlas.spend s
              where s.model = m.model and s.known = 'reported' and s.corrects is null and s.state = 'settled'
              order by s.id desc limit 2000) c
        group by c.attempt_id) r) as output
    from model m
  ),
  written as (
    update atlas.model_state s set usual_output = greatest(4000, m.output), measured_at = now()
    from measured m where s.model = m.model returning 1
  )
  select count(*)::integer from written
$$;

--
-- Name: FUNCTION measure_models(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.measure_models() IS 'Measures how long the replies of each model usually are: the 99th percentile of its latest 2,000 calls, 4,000 tokens at least.';

--
-- Name: message_sha256(jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.message_sha256(p_data jsonb) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
begin
  return encode(sha256(convert_to(p_data::text, 'UTF8')), 'hex');
end
$$;

--
-- Name: FUNCTION message_sha256(p_data jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.message_sha256(p_data jsonb) IS 'The SHA-256 of a whole message, as Postgres writes it, in hexadecimal. Internal.';

--
-- Name: my_projects(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.my_projects() RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select m.project_id from atlas.member m where m.user_id = atlas.uid()
$$;

--
-- Name: FUNCTION my_projects(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.my_projects() IS 'The projects of the calling user; policies call it once a statement.';

--
-- Name: my_scopes(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.my_scopes() RETURNS text[]
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select array['sender:' || atlas.uid()::text] || array(select 'project:' || p::text from atlas.my_projects() p)
$$;

--
-- Name: FUNCTION my_scopes(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.my_scopes() IS 'The budget scopes whose calls the calling user may see: their own, and those of their projects.';

--
-- Name: name_event(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.name_event() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  new.event_id := atlas.event_of(new.task_id, new.data #>> '{metadata,status}');
  return new;
end
$$;

--
-- Name: FUNCTION name_event(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.name_event() IS 'Gives the start and the reply of a task the ids of their events.';

--
-- Name: names_of(uuid[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.names_of(p_users uuid[]) RETURNS TABLE(user_id uuid, email text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select u.id, u.email::text from auth.users u
  where u.id = any (p_users) and (atlas.is_service() or u.id = atlas.uid()
    or exists (select from atlas.member m where m.user_id = u.id and m.project_id in (select atlas.my_projects())))
$$;

--
-- Name: FUNCTION names_of(p_users uuid[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.names_of(p_users uuid[]) IS 'E-mail addresses of users: of the caller, and of those who share a project with them.';

--
-- Name: nearest(text, text[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.nearest(p_word text, p_known text[]) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select k.word from (select u.word, atlas.distance(lower(left(p_word, 40)), u.word) as far from unnest(p_known) as u (word)) k
  where k.far <= greatest(1, length(k.word) / 4) order by k.far, k.word limit 1
$$;

--
-- Name: FUNCTION nearest(p_word text, p_known text[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.nearest(p_word text, p_known text[]) IS 'The known word that a misspelt one is taken for; null where none is near. Internal.';

--
-- Name: next_decision(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.next_decision(p_project uuid) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  found_number integer;
begin
  -- one number after the other; tasks of the project, whose key lock this is not in the way of, go on
  perform 1 from atlas.project p where p.id = p_project for no key update;
  select coalesce(max(d.number), 0) + 1 into found_number from atlas.decision d where d.project_id = p_project;
  return found_number;
end
$$;

--
-- Name: FUNCTION next_decision(p_project uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.next_decision(p_project uuid) IS 'The next number of a project, which the caller''s transaction holds. Internal.';

--
-- Name: next_due(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.next_due() RETURNS double precision
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
begin
  -- greatest() passes over nulls
  return (select case when min(t.run_after) is not null then greatest(0, extract(epoch from min(t.run_after) - now())) end
    from atlas.task t
    where t.wait_reason is not null and (select c.paused_at is null from atlas.control c));
end
$$;

--
-- Name: FUNCTION next_due(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.next_due() IS 'Seconds until the first waiting task is due; null where none waits, and while the queue is paused.';

--
-- Name: next_tasks(integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.next_tasks(p_most integer) RETURNS uuid[]
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  found_tasks uuid[] := '{}'::uuid[];
  projects uuid[];
  tasks uuid[];
  each_most integer;
  missing integer;
  v_rank integer := -32768;
begin
  loop
    missing := p_most - cardinality(found_tasks);
    exit when missing = 0;
    select t.rank into v_rank from atlas.task t where t.ready and t.kind = 'chat' and t.rank > v_rank
    order by t.rank, t.project_id, t.sender_key, t.in_id limit 1;
    exit when not found;
    projects := array(select atlas.ready_projects(v_rank, missing));
    each_most := ceil(missing::numeric / greatest(cardinality(projects), 1));
    loop
      tasks := array(
        select t.id from unnest(projects) with ordinality as p (id, place)
        cross join lateral (
          select r.id, r.round from atlas.ready_tasks(v_rank, p.id, each_most) with ordinality as r (id, round)) t
        order by t.round, p.place limit missing);
      exit when cardinality(tasks) = missing or each_most >= missing;
      each_most := least(4 * each_most, missing);
    end loop;
    found_tasks := found_tasks || tasks;
  end loop;
  return found_tasks;
end
$$;

--
-- Name: FUNCTION next_tasks(p_most integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.next_tasks(p_most integer) IS 'So many ready tasks, in the order in which they are due. Internal.';

--
-- Name: note_drafts(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.note_drafts() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  insert into atlas.open_draft (task_id, project_id, title, words)
  select t.id, t.project_id, coalesce(left((regexp_match(n.data ->> 'content', '(?n)^# +(.*\S)'))[1], 500), t.title),
    atlas.words_of(t.title || ' ' || coalesce((regexp_match(n.data ->> 'content', '(?n)^# +(.*\S)'))[1], ''))
  from new_rows n join atlas.task t on t.id = n.task_id and t.kind = 'chat'
  where n.data #>> '{metadata,kind}' = 'adr' and n.data #>> '{metadata,status}' = 'completed' and n.data -> 'metadata' -> 'truncated' is null
    and n.data -> 'metadata' -> 'replays' is null
  on conflict do nothing;
  -- a revision takes the place of what it revises
  delete from atlas.open_draft d using new_rows n
  where d.task_id = atlas.as_uuid(n.data #>> '{metadata,revises}') and exists (select from atlas.open_draft o where o.task_id = n.task_id);
  return null;
end
$$;

--
-- Name: FUNCTION note_drafts(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.note_drafts() IS 'Notes records that somebody has to decide on.';

--
-- Name: number_part(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.number_part() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
begin
  select p.seq + 1 into new.seq from atlas.reply_part p where p.attempt_id = new.attempt_id
  order by p.generation desc, p."offset" desc limit 1;
  new.seq := coalesce(new.seq, 1);
  return new;
end
$$;

--
-- Name: FUNCTION number_part(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.number_part() IS 'Numbers the parts of an attempt.';

--
-- Name: open_day(text, date); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.open_day(p_scope text, p_day date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
begin
  if exists (select from atlas.budget_day b where b.scope = p_scope and b.day = p_day) then
    return;
  end if;
  if p_scope <> 'global' then
    -- every reservation and settlement holds this row: with it, the sums below stand still
    perform atlas.open_day('global', p_day);
    perform from atlas.budget_day b where b.scope = 'global' and b.day = p_day for update;
  else
    insert into atlas.budget (scope) values ('global') on conflict do nothing;
  end if;
  -- who had a budget before the day began has spent nothing of it that is not counted; a sender's own tasks are few
  if (select (b.created_at at time zone 'UTC')::date < p_day and p_day = atlas.today() from atlas.budget b where b.scope = p_scope) then
    insert into atlas.budget_day (day, scope) values (p_day, p_scope) on conflict do nothing;
    return;
  -- of other days a task may have been trimmed since, and its calls are still there
  elsif p_scope like 'sender:%' and p_day = atlas.today() then
    insert into atlas.budget_day (day, scope, reserved_tokens, settled_tokens, reserved_usd, settled_usd)
    select p_day, p_scope,
      coalesce(sum(s.reserved_tokens) filter (where s.state <> 'settled'), 0), coalesce(sum(s.tokens), 0),
      coalesce(sum(s.reserved_usd) filter (where s.state <> 'settled'), 0), coalesce(sum(s.usd), 0)
    from atlas.task t cross join lateral (select c.* from atlas.spend c where c.task_id = t.id offset 0) s
    where t.sender_key = substr(p_scope, 8) and s.day = p_day and p_scope = any (s.scopes)
    on conflict do nothing;
    return;
  end if;
  insert into atlas.budget_day (day, scope, reserved_tokens, settled_tokens, reserved_usd, settled_usd)
  select p_day, p_scope,
    coalesce(sum(s.reserved_tokens) filter (where s.state <> 'settled'), 0), coalesce(sum(s.tokens), 0),
    coalesce(sum(s.reserved_usd) filter (where s.state <> 'settled'), 0), coalesce(sum(s.usd), 0)
  from atlas.spend s where s.day = p_day and p_scope = any (s.scopes)
  on conflict do nothing;
end
$$;

--
-- Name: FUNCTION open_day(p_scope text, p_day date); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.open_day(p_scope text, p_day date) IS 'Opens a budget''s row of a day, with what the day already holds.';

--
-- Name: owns_task(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.owns_task(task uuid) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select exists (
    select from atlas.task t
    where t.id = task and (t.sender_key = atlas.uid()::text or t.project_id in (select atlas.my_projects())))
$$;

--
-- Name: FUNCTION owns_task(task uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.owns_task(task uuid) IS 'Whether the calling user may read the task: their own, or their project''s.';

--
-- Name: pause(text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.pause(p_reason text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  update atlas.control set paused_at = coalesce(paused_at, now()), paused_by = atlas.actor(), reason = p_reason;
  perform atlas.append_audit(null, 'pause', jsonb_build_object('reason', p_reason));
end
$$;

--
-- Name: FUNCTION pause(p_reason text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.pause(p_reason text) IS 'Stops claims of questions; running ones finish, control messages go on.';

--
-- Name: planned_items(uuid, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.planned_items(p_task uuid, p_verb text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  t atlas.task;
  items jsonb;
begin
  select x.* into t from atlas.task x where x.id = p_task;
  if not found or not (atlas.is_service() or atlas.owns_task(p_task)) then
    raise exception using errcode = 'AT004', message = format('no task %s', p_task), hint = 'see `atlas tasks` or atlas.task_history for the ids';
  end if;
  select o.data #> '{metadata,work_items}' into items from public.architect_out o where o.id = t.out_id;
  if jsonb_typeof(items) is distinct from 'array' or jsonb_array_length(items) = 0 then
    raise exception using errcode = 'AT005', message = format('%s: the reply of task %s has no work items', p_verb, p_task),
      hint = 'ask for a plan: `atlas ask --kind plan`';
  end if;
  return items;
end
$$;

--
-- Name: FUNCTION planned_items(p_task uuid, p_verb text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.planned_items(p_task uuid, p_verb text) IS 'The work items of a reply that the caller may read; AT004 and AT005 say why not. Internal.';

--
-- Name: price_factor_of(text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.price_factor_of(p_tier text, p_window text) RETURNS numeric
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select coalesce((select f.factor from atlas.price_factor f where f.kind = 'tier' and f.name = p_tier), 1)
    * coalesce((select f.factor from atlas.price_factor f where f.kind = 'window' and f.name = p_window), 1)
$$;

--
-- Name: FUNCTION price_factor_of(p_tier text, p_window text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.price_factor_of(p_tier text, p_window text) IS 'What a service tier and a completion window multiply the price by together; 1 for names that are not known.';

--
-- Name: price_on(text, date); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.price_on(model_name text, day date) RETURNS atlas.model_price
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select p from atlas.model_price p
  where p.model = model_name and p.valid_from <= day
  order by p.valid_from desc limit 1
$$;

--
-- Name: FUNCTION price_on(model_name text, day date); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.price_on(model_name text, day date) IS 'The price row of a model on a day; null where it has none.';

--
-- Name: project_of(uuid, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.project_of(sender uuid, named text) RETURNS uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  found_id uuid;
begin
  if named is not null then
    select p.id into found_id from atlas.project p
    where (p.id = atlas.as_uuid(named) or p.name = named)
      and (sender is null
           or exists (select from atlas.member m where m.project_id = p.id and m.user_id = sender));
    if found_id is null then
      perform atlas.refuse('metadata.project', format('%L is none of yours', named),
        'name a project you are a member of, or leave it out', 'AT006');
    end if;
    return found_id;
  end if;
  select m.project_id into found_id from atlas.member m where m.user_id = sender
  order by m.created_at, m.project_id limit 1;
  return coalesce(found_id, '00000000-0000-0000-0000-000000000001');
end
$$;

--
-- Name: FUNCTION project_of(sender uuid, named text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.project_of(sender uuid, named text) IS 'The project of a message: named, else the sender''s first, else default.';

--
-- Name: prompt_turns(jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.prompt_turns(p_body jsonb) RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select coalesce(jsonb_agg(jsonb_build_array(turn.one -> 0, (
      select string_agg(case jsonb_typeof(piece.one) when 'string' then piece.one #>> '{}'
        else coalesce((select t.text from atlas.prompt_text t where t.sha256 = decode(piece.one ->> 'sha256', 'hex')), '') end, '' order by piece.place)
      from jsonb_array_elements(turn.one -> 1) with ordinality as piece (one, place))) order by turn.place), '[]')
  from jsonb_array_elements(p_body) with ordinality as turn (one, place)
$$;

--
-- Name: FUNCTION prompt_turns(p_body jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.prompt_turns(p_body jsonb) IS 'The turns of a prompt with all their text: [[role, text]]. Internal.';

--
-- Name: protocols(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.protocols() RETURNS int4range
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$ select int4range(1, 2, '[]') $$;

--
-- Name: FUNCTION protocols(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.protocols() IS 'Versions of the protocol that these functions serve: that of this release, and that of the release before it.';

--
-- Name: provide_topic(text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.provide_topic(p_target text) RETURNS uuid
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  insert into atlas.destination as d (name, kind, target) values ('pubsub', 'pubsub', p_target)
  on conflict (name) do update set target = excluded.target where d.kind = 'pubsub' and d.target <> excluded.target;
  select d.id from atlas.destination d where d.name = 'pubsub'
$$;

--
-- Name: FUNCTION provide_topic(p_target text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.provide_topic(p_target text) IS 'Makes the destination "pubsub" of a mirror''s PUBSUB_PROJECT_ID and PUBSUB_TOPIC_OUT.';

--
-- Name: queue_messages(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.queue_messages() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  ids uuid[];
  details jsonb[];
begin
  with queued as (
    insert into atlas.task (id, kind, title, in_id, message_task_id, sender, sender_key, project_id, parent_id,
      priority, run_after, wait_reason)
    select case when n.data ->> 'msg_type' = 'chat' then n.task_id else atlas.new_id() end,
      n.data ->> 'msg_type',
      case when n.data ->> 'msg_type' = 'control' then atlas.control_command(n.data) ->> 'command'
           else left(split_part(btrim(n.data ->> 'content', E' \t\r\n#'), E'\n', 1), 120) end,
      n.id, n.task_id, n.sender,
      coalesce(n.sender::text, nullif('key:' || (n.data #>> '{metadata,sender_key}'), 'key:'), 'service'),
      case when n.sender is null and n.data #>> '{metadata,project}' is null
           then '00000000-0000-0000-0000-000000000001'
           else atlas.project_of(n.sender, n.data #>> '{metadata,project}') end,
      (n.data #>> '{metadata,parent_id}')::uuid,
      coalesce((n.data #>> '{metadata,priority}')::smallint, 0),
      greatest(now(), (n.data #>> '{metadata,run_after}')::timestamptz),
      case when (n.data #>> '{metadata,run_after}')::timestamptz > now() then 'scheduled' end
    from new_rows n
    where n.data ->> 'role' = 'architect' and n.data ->> 'msg_type' in ('chat', 'control')
    order by n.id
    returning id, in_id, sender_key
  )
  select array_agg(q.id), array_agg(jsonb_build_object('sender_key', q.sender_key, 'message_sha256', atlas.message_sha256(n.data)))
    into ids, details from queued q join new_rows n on n.id = q.in_id;
  if ids is null then
    return null;
  end if;
  -- its chain has ended, and its events have gone: another question under its id could not be told from it
  if exists (select from atlas.audit a where a.task_id = any (ids)) then
    raise exception using errcode = 'AT005', message = format('task %s was trimmed', (select a.task_id from atlas.audit a where a.task_id = any (ids) limit 1)),
      hint = 'ask with an id of its own, such as atlas.new_id()';
  end if;
  perform atlas.append_audits('submit_task', ids, details);
  -- commands are rare, and a worker whose slots are all busy still has some for them
  perform atlas.wake_workers(exists (select from new_rows n where n.data ->> 'msg_type' = 'control'), cardinality(ids));
  return null;
end
$$;

--
-- Name: FUNCTION queue_messages(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.queue_messages() IS 'Queues new messages for the architect and wakes idle workers, once a statement.';

--
-- Name: queue_metrics(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.queue_metrics() RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select jsonb_build_object(
    -- each count by the partial index of its kind
    'queued', (select count(*) from atlas.task t where t.ready and t.kind = 'chat')
      + (select count(*) from atlas.task t where t.ready and t.kind = 'control'),
    'waiting', (select count(*) from atlas.task t where t.wait_reason is not null),
    'running', (select count(*) from atlas.attempt a where a.state = 'running'),
    'dead_lettered', (select count(*) from atlas.task t where t.dead_letter),
    'outbox_dead', (select count(*) from atlas.outbox o where o.state = 'dead'),
    'outbox', (select coalesce(jsonb_agg(jsonb_build_object('destination', s.destination, 'pending', s.pending,
        'open', coalesce(s.open_until > now(), false),
        'oldest_seconds', coalesce(extract(epoch from now() - s.oldest), 0))), '[]')
      -- events kept for future destinations are not a backlog, and their number grows with history
      from atlas.outbox_status s where s.enabled and s.destination is not null),
    'oldest_seconds', coalesce((select extract(epoch from now() - min(greatest(t.queued_at, t.run_after)))
      from atlas.task t where t.ready and t.kind = 'chat'), 0),
    'paused', (select c.paused_at is not null from atlas.control c),
    'cache_flushed_at', (select c.cache_flushed_at from atlas.control c),
    'workers', (select count(*) from atlas.worker w where w.state <> 'stopped'
      and w.seen_at > now() - interval '2 minutes'),
    'models', (select coalesce(jsonb_object_agg(s.model, jsonb_build_object('breaker', s.state, 'since', s.since,
        'last_error', s.last_error)), '{}') from atlas.model_state s),
    'held_calls', (select count(*) from atlas.spend s where s.held_until is not null),
    'jit', current_setting('jit')::boolean,
    'budgets', atlas.get_budgets(),
    -- told of as spent, and no limit was raised since
    'spent_budgets', (
      select coalesce(jsonb_agg(jsonb_build_object('scope', b.scope, 'period', l.period, 'unit', l.unit)), '[]')
      from atlas.budget b
      cross join lateral (values ('day', 'tokens', b.daily::numeric), ('day', 'usd', b.usd_daily), ('month', 'tokens', b.monthly),
        ('month', 'usd', b.usd_monthly)) as l (period, unit, most)
      where b.scope not like 'sender:%' and b.enforcement = 'hard' and l.most is not null
        and exists (select from atlas.budget_event e where e.scope = b.scope and e.period = l.period and e.unit = l.unit
          and e.level = 100 and e.most = l.most
          and e.starts = case l.period when 'month' then date_trunc('month', atlas.today())::date else atlas.today() end)))
$$;

--
-- Name: FUNCTION queue_metrics(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.queue_metrics() IS 'What /metrics, heartbeat and `atlas status` show of the queue.';

--
-- Name: quote_task(uuid, text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.quote_task(p_project uuid DEFAULT NULL::uuid, p_window text DEFAULT 'soonest'::text, p_tier text DEFAULT 'default'::text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  service constant boolean := atlas.is_service();
  task atlas.task;
  run bigint;
  run_usd numeric;
  v_factor numeric;
begin
  if p_window not in ('soonest', '2h', '8h') then
    perform atlas.refuse('window', format('%L is not known', p_window), 'use soonest, 2h or 8h', 'AT005', 'quote_task');
  end if;
  task.sender_key := case when service then 'service' else atlas.uid()::text end;
  if task.sender_key is null then
    raise exception using errcode = 'AT006', message = 'quote_task: nobody is signed in', hint = 'sign in, or use the service key';
  end if;
  task.project_id := coalesce(case when service then p_project else atlas.project_of(atlas.uid(), p_project::text) end,
    '00000000-0000-0000-0000-000000000001');
  v_factor := atlas.price_factor_of(p_tier, p_window);
  select min(b.per_run), min(b.usd_per_run) into run, run_usd from atlas.budget b
  where b.enforcement = 'hard' and b.scope = any (atlas.scopes_of(task.project_id, task.sender_key, ''));
  return jsonb_build_object('run_tokens', run, 'window', p_window, 'factor', v_factor,
    'models', (
      select coalesce(jsonb_agg(jsonb_build_object('model', m.model,
          'worst_usd', least(run_usd, w.usd), 'likely_usd', least(run_usd, l.usd), 'breaker', coalesce(s.state, 'closed')) order by m.n), '[]')
      from (
        select c.model, c.n from (select w.models from atlas.worker w where w.state <> 'stopped' and w.seen_at > now() - interval '2 minutes'
                      and w.models <> '{}' order by w.started_at desc limit 1) k
        cross join unnest(k.models) with ordinality as c (model, n)) m
      left join atlas.model_state s on s.model = m.model
      left join atlas.model x on x.name = m.model
      cross join lateral (select atlas.price_on(m.model, atlas.today()) as price) p
      cross join lateral (select greatest(
        atlas.worst_cost(p.price, 0, least(run, x.max_output_tokens), v_factor),
        atlas.worst_cost(p.price, coalesce(run / 2, x.context_tokens - x.max_output_tokens), least(run - run / 2, x.max_output_tokens), v_factor)) as usd) w
      cross join lateral (
        select percentile_cont(0.5) within group (order by c.usd / c.factor)::numeric(18, 9) * v_factor as usd
        from (select h.usd, h.factor from atlas.spend h where h.model = m.model and h.known = 'reported' and h.corrects is null
              order by h.id desc limit 200) c) l),
    'left', (
      select jsonb_agg(jsonb_build_object('scope', q.scope, 'period', q.period, 'unit', q.unit, 'most', q.most,
        'left', greatest(0, q.most - q.counted)) order by (q.most - q.counted) / nullif(q.most, 0) nulls first)
      from (
        select b.scope, v.*
        from atlas.budget_now b
        left join atlas.share_of(task.project_id, task.sender_key) share on b.scope like 'sender:%'
        cross join lateral (values
          ('day', 'tokens', coalesce(b.daily, share.daily)::numeric, b.settled_tokens + b.reserved_tokens),
          ('day', 'usd', coalesce(b.usd_daily, share.usd_daily), b.settled_usd + b.reserved_usd),
          ('month', 'tokens', b.monthly, b.month_settled_tokens + b.month_reserved_tokens),
          ('month', 'usd', b.usd_monthly, b.month_settled_usd + b.month_reserved_usd)) as v (period, unit, most, counted)
        where b.scope = any (atlas.scopes_of(task.project_id, task.sender_key, '')) and b.enforcement = 'hard' and v.most is not null
        union all
        -- who has not asked yet has their share of the day all the same
        select 'sender:' || task.sender_key, 'day', 'tokens', share.daily, 0 from atlas.share_of(task.project_id, task.sender_key) share
        where share.daily is not null and not exists (select from atlas.budget b where b.scope = 'sender:' || task.sender_key)) q));
end
$$;

--
-- Name: FUNCTION quote_task(p_project uuid, p_window text, p_tier text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.quote_task(p_project uuid, p_window text, p_tier text) IS 'What a question of the caller would cost: {"models": [{"model", "worst_usd", "likely_usd"}], "run_tokens", "left": [{"scope",
"period", "unit", "most", "left"}]}. likely is the median of the model''s latest 200 calls; null: none yet.';

--
-- Name: raise_lost(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.raise_lost(p_attempt_id uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  a record;
begin
  select x.state, x.number, x.task_id into a from atlas.attempt x where x.id = p_attempt_id;
  if not found then
    raise exception using errcode = 'AT004', message = format('no attempt %s', p_attempt_id),
      hint = 'an attempt id comes from claim_tasks';
  end if;
  raise exception using errcode = 'AT002',
    message = format('attempt %s of task %s is %s: its lease is lost', a.number, a.task_id, a.state),
    hint = 'stop the call: another attempt owns the task';
end
$$;

--
-- Name: FUNCTION raise_lost(p_attempt_id uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.raise_lost(p_attempt_id uuid) IS 'Raises the error of an attempt that owns nothing any more.';

--
-- Name: raise_notifications(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.raise_notifications() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  item record;
  n integer := 0;
  hour constant timestamptz := now() - interval '1 hour';
begin
  if not exists (select from atlas.destination d where d.enabled and d.filter -> 'kind' ? 'notification')
     or not pg_try_advisory_xact_lock(hashtextextended('atlas.raise_notifications', 0)) then
    return 0;
  end if;
  for item in
    with last as materialized (
      select distinct on (p.cause) p.cause, p.raised_at from atlas.notification p order by p.cause, p.raised_at desc
    ),
    due as (
      -- the higher mark silences the lower one; each is said once a day
      select format('budget_%s:%s:%s', u.mark, d.scope, u.unit) as cause, d.day::timestamp at time zone 'UTC' as since,
        format('%s %% of the %s budget of today is spent (%s of %s, %s)', u.mark,
          case u.unit when 'usd' then 'USD' else 'token' end, u.used, u.most, d.scope) as text
      from atlas.budget_day d join atlas.budget b on b.scope = d.scope
      cross join lateral (
        select v.unit, v.used, v.most, case when v.used >= v.most then 100 else 80 end as mark
        from (values ('tokens', d.settled_tokens::numeric, b.daily::numeric), ('usd', round(d.settled_usd, 4), b.usd_daily))
          as v (unit, used, most)
        where v.most > 0 and v.used >= 0.8 * v.most) u
      where d.day = atlas.today()
      union all
      select 'dead_letters', t.since, format('%s dead letters since %s UTC: see `atlas dlq list`', t.n,
        to_char(t.since at time zone 'UTC', 'HH24:MI'))
      from (select s.since, (select count(*) from atlas.task t where t.dead_letter and t.finished_at > s.since)
              + (select count(*) from atlas.outbox o where o.state = 'dead' and o.run_after > s.since) as n
            from (select greatest(hour, (select l.raised_at from last l where l.cause = 'dead_letters')) as since) s) t
      where t.n > 0
      union all
      -- no titles: who reads the channel need not be who may read the task
      select 'completed:' || p.name, s.since, format('%s specs completed in project %s since %s UTC: see `atlas tasks`', count(*), p.name,
        to_char(s.since at time zone 'UTC', 'HH24:MI'))
      from atlas.project p
      cross join lateral (select greatest(hour, (select l.raised_at from last l where l.cause = 'completed:' || p.name)) as since) s
      join public.architect_out o on o.project_id = p.id and o.created_at > hour and o.created_at > s.since
        and o.data ->> 'msg_type' = 'spec' and o.data #>> '{metadata,status}' = 'completed'
      group by p.name, s.since
    )
    select d.cause, d.text from due d left join last l on l.cause = d.cause
    where l.raised_at is null or (l.raised_at <= hour and (d.cause not like 'budget%' or l.raised_at < d.since))
  loop
    insert into atlas.notification (cause, text) values (item.cause, item.text);
    n := n + atlas.emit('notification', jsonb_build_object('kind', 'notification', 'cause', item.cause, 'text', item.text,
      'at', now()));
  end loop;
  return n;
end
$$;

--
-- Name: FUNCTION raise_notifications(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.raise_notifications() IS 'Says what people should know, at most once a cause an hour: budgets at 80 and 100 %, dead letters, completions.';

--
-- Name: read_first(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.read_first(p_task uuid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_project uuid;
  v_sender uuid;
  v_key text;
  v_asked text[];
  found jsonb;
begin
  select t.project_id, t.sender, t.sender_key, atlas.words_of(i.data ->> 'content') into v_project, v_sender, v_key, v_asked
  from atlas.task t join public.architect_in i on i.id = t.in_id where t.id = p_task;
  if cardinality(v_asked) is null or cardinality(v_asked) = 0 then
    return jsonb_build_object('words', '[]'::jsonb, 'found', '[]'::jsonb);
  end if;
  -- somebody who may not read the project gets no word of it
  if not (v_project = any (rag.projects_of(p_task))) then
    return jsonb_build_object('words', v_asked, 'found', '[]'::jsonb);
  end if;
  select coalesce(jsonb_agg(x.item order by x.share desc, x.rank, x.at desc), '[]') into found from (
    (select jsonb_build_object('number', d.number, 'title', d.title, 'status', d.status, 'superseded_by', d.superseded_by,
        'decided_at', d.decided_at, 'question', d.question, 'words', d.asked, 'share', d.share, 'content', case when d.asked <@ v_asked and v_asked <@ d.asked then d.content end) as item,
      d.share, case d.status when 'accepted' then 0 when 'rejected' then 1 else 2 end as rank, d.decided_at as at
    from (
      select o.*, (select count(*) from unnest(v_asked) w where w = any (o.words)) / cardinality(v_asked)::real as share
      from atlas.decision o where o.project_id = v_project and o.words && v_asked and o.content <> '[erased]') d
    order by d.share desc, rank, d.decided_at desc limit 5)
    union all
    (select jsonb_build_object('task_id', d.task_id, 'title', d.title, 'words', d.words, 'share', d.share, 'asked_by', t.sender_key), d.share, 3, d.made_at
    from (
      select o.*, (select count(*) from unnest(v_asked) w where w = any (o.words)) / cardinality(v_asked)::real as share
      from (select * from atlas.open_draft o where o.project_id = v_project and o.made_at > now() - interval '30 days' and o.task_id <> p_task
        order by o.made_at desc limit 50) o
      where o.words && v_asked) d
    join atlas.task t on t.id = d.task_id
    where v_sender is not null or t.sender_key = v_key
    order by d.share desc, d.made_at desc limit 3)) x;
  return jsonb_build_object('words', v_asked, 'found', found);
end
$$;

--
-- Name: FUNCTION read_first(p_task uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.read_first(p_task uuid) IS 'What is decided, or proposed just now, that a task''s question speaks of: {"words", "found": [{"number" or "task_id", "title", "words", "share", …}]}, by the
share of its words. Of what its sender may read.';

--
-- Name: read_parts(uuid, integer, integer, integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.read_parts(p_task_id uuid, p_attempt integer DEFAULT 0, p_generation integer DEFAULT 0, p_offset integer DEFAULT '-1'::integer) RETURNS TABLE(attempt integer, generation integer, seq integer, "offset" integer, text text)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select a.number, p.generation, p.seq, p."offset", p.text
  from atlas.reply_part p join atlas.attempt a on a.id = p.attempt_id
  where p.task_id = p_task_id and (a.number, p.generation, p."offset") > (p_attempt, p_generation, p_offset)
  order by 1, 2, 4
$$;

--
-- Name: FUNCTION read_parts(p_task_id uuid, p_attempt integer, p_generation integer, p_offset integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.read_parts(p_task_id uuid, p_attempt integer, p_generation integer, p_offset integer) IS 'The parts of a running reply after a place, in order: a reader that joins late, or lost its socket, goes on from here.';

--
-- Name: read_prompts(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.read_prompts(p_task uuid) RETURNS TABLE(attempt integer, call integer, model text, version text, parameters jsonb, turns jsonb, sources jsonb, sha256 text, made_at timestamp with time zone)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if not (atlas.is_service() or atlas.owns_task(p_task)) then
    raise exception using errcode = 'AT004', message = format('no task %s', p_task), hint = 'see `atlas tasks` or atlas.task_history for the ids';
  end if;
  return query
  select a.number, p.call, p.model, p.version, p.parameters, atlas.prompt_turns(p.body), p.sources, encode(p.sha256, 'hex'), p.made_at
  from atlas.prompt p join atlas.attempt a on a.id = p.attempt_id join atlas.task t on t.id = p.task_id
  where p.task_id = p_task
    -- passages are of the project: who has left it reads none
    and (p.sources = '[]' or atlas.is_service() or t.project_id in (select atlas.my_projects()))
  order by a.number, p.call;
end
$$;

--
-- Name: FUNCTION read_prompts(p_task uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.read_prompts(p_task uuid) IS 'What models were asked for a task, whole: [[role, text]] beginning with the instructions. For who may read the task.';

--
-- Name: read_source(text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.read_source(p_sha256 text) RETURNS TABLE(source text, heading text, start_line integer, end_line integer, text text)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $_$
  select d.source, p.heading, c.start_line, c.end_line, p.text
  from rag.passage p join rag.chunk c on c.passage_id = p.id join rag.document d on d.id = c.document_id
  where p.sha256 = case when p_sha256 ~ '^[0-9a-f]{64}$' then decode(p_sha256, 'hex') end
  order by d.source, c.seq limit 20
$_$;

--
-- Name: FUNCTION read_source(p_sha256 text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.read_source(p_sha256 text) IS 'A passage by its hash, and where it stands: of documents that the caller may read.';

--
-- Name: ready_projects(integer, integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.ready_projects(p_rank integer, p_most integer) RETURNS SETOF uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  last constant uuid := coalesce((select t.project_id from atlas.task t where t.rank = p_rank and t.claim_seq is not null
    and t.kind = 'chat'
    order by t.claim_seq desc limit 1), '00000000-0000-0000-0000-000000000000');
  bound uuid := last;
  lap integer := 1;
begin
  while lap <= 2 and p_most > 0 loop
    select t.project_id into bound from atlas.task t
    where t.ready and t.kind = 'chat' and t.rank = p_rank and t.project_id > bound
    order by t.project_id, t.sender_key, t.in_id limit 1;
    if found and (lap = 1 or bound <= last) then
      return next bound;
      p_most := p_most - 1;
    else
      lap := lap + 1;
      bound := '00000000-0000-0000-0000-000000000000';
    end if;
  end loop;
end
$$;

--
-- Name: FUNCTION ready_projects(p_rank integer, p_most integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.ready_projects(p_rank integer, p_most integer) IS 'Projects with ready tasks of a rank, after the one that was served last, in a circle. Internal.';

--
-- Name: ready_senders(integer, uuid, integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.ready_senders(p_rank integer, p_project uuid, p_most integer) RETURNS SETOF text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  last constant text := coalesce((select t.sender_key from atlas.task t where t.rank = p_rank and t.project_id = p_project
    and t.claim_seq is not null and t.kind = 'chat' order by t.claim_seq desc limit 1), '');
  bound text := last;
  lap integer := 1;
begin
  while lap <= 2 and p_most > 0 loop
    select t.sender_key into bound from atlas.task t
    where t.ready and t.kind = 'chat' and t.rank = p_rank and t.project_id = p_project and t.sender_key > bound
    order by t.sender_key, t.in_id limit 1;
    if found and (lap = 1 or bound <= last) then
      return next bound;
      p_most := p_most - 1;
    else
      lap := lap + 1;
      bound := '';
    end if;
  end loop;
end
$$;

--
-- Name: FUNCTION ready_senders(p_rank integer, p_project uuid, p_most integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.ready_senders(p_rank integer, p_project uuid, p_most integer) IS 'Senders of a project with ready tasks of a rank, after the one who was served last, in a circle. Internal.';

--
-- Name: ready_tasks(integer, uuid, integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.ready_tasks(p_rank integer, p_project uuid, p_most integer) RETURNS SETOF uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  senders constant text[] := array(select atlas.ready_senders(p_rank, p_project, p_most));
  each_most integer := ceil(p_most::numeric / greatest(cardinality(senders), 1));
  tasks uuid[];
begin
  loop
    tasks := array(
      select t.id from unnest(senders) with ordinality as s (key, place)
      cross join lateral (
        select r.id, row_number() over (order by r.in_id) as round
        from (select q.id, q.in_id from atlas.task q
              where q.ready and q.kind = 'chat' and q.rank = p_rank and q.project_id = p_project and q.sender_key = s.key
              order by q.in_id limit each_most) r) t
      order by t.round, s.place limit p_most);
    -- some have fewer than their share: others have more
    exit when cardinality(tasks) = p_most or each_most >= p_most;
    each_most := least(4 * each_most, p_most);
  end loop;
  return query select unnest(tasks);
end
$$;

--
-- Name: FUNCTION ready_tasks(p_rank integer, p_project uuid, p_most integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.ready_tasks(p_rank integer, p_project uuid, p_most integer) IS 'Ready tasks of a project and a rank, in rounds over its senders. Internal.';

--
-- Name: record_destination(uuid, boolean, text, double precision); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.record_destination(p_destination uuid, p_ok boolean, p_error text DEFAULT NULL::text, p_seconds double precision DEFAULT 0) RETURNS timestamp with time zone
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  until timestamptz;
begin
  if p_ok then
    update atlas.destination d set failures = 0, open_until = null, last_error = null, last_sent_at = now()
    where d.id = p_destination and (d.failures > 0 or d.last_sent_at is null or d.last_sent_at < now() - interval '10 seconds');
    return null;
  end if;
  update atlas.destination d set failures = d.failures + 1, last_error = left(p_error, 500),
    open_until = atlas.breaker_open_until(d.failures + 1, 1, 20, p_seconds)
  where d.id = p_destination returning d.open_until into until;
  return until;
end
$$;

--
-- Name: FUNCTION record_destination(p_destination uuid, p_ok boolean, p_error text, p_seconds double precision); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.record_destination(p_destination uuid, p_ok boolean, p_error text, p_seconds double precision) IS 'Notes that a destination answered, or failed; the third failure in a row opens its breaker. Answers until when it is open.';

--
-- Name: record_model(text, text, text, boolean); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.record_model(p_model text, p_outcome text, p_error text DEFAULT NULL::text, p_trial boolean DEFAULT false) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  was atlas.model_state;
  recent timestamptz[];
  opens boolean;
  result text;
begin
  if p_outcome not in ('ok', 'failed', 'missing') then
    raise exception using errcode = 'AT005', message = format('record_model: outcome %L is not known', p_outcome),
      hint = 'use ok, failed or missing';
  end if;
  insert into atlas.model_state (model) values (p_model) on conflict do nothing;
  select s.* into was from atlas.model_state s where s.model = p_model for no key update;
  recent := (was.failed_at || clock_timestamp())[greatest(1, cardinality(was.failed_at) - 1):];
  opens := (cardinality(recent) = 3 and recent[1] > clock_timestamp() - interval '10 seconds')
    or (cardinality(recent) > 1 and recent[cardinality(recent) - 1] > clock_timestamp() - interval '5 seconds'
        and coalesce(was.succeeded_at, was.since) < clock_timestamp() - interval '5 seconds');
  -- only the call that was tried closes it: what began before the outage may end well all the same
  result := case p_outcome
    when 'failed' then case when was.state <> 'closed' or opens then 'open' else 'closed' end
    when 'ok' then case when was.state = 'closed' or p_trial then 'closed' else was.state end
    else 'closed' end;
  update atlas.model_state s set state = result,
    since = case when s.state = result then s.since else now() end,
    failed_at = case when p_outcome = 'failed' then recent when result = 'closed' then '{}' else s.failed_at end,
    succeeded_at = case p_outcome when 'ok' then clock_timestamp() else s.succeeded_at end,
    probe_at = case when result = 'open' and s.state <> 'open' then clock_timestamp() + interval '1 second' else s.probe_at end,
    trials = case when result = 'closed' then 0 when s.state = 'half_open' then s.trials + 1 else s.trials end,
    last_error = case when p_outcome <> 'ok' then left(p_error, 500) when result = 'closed' then null else s.last_error end,
    missing_since = case p_outcome when 'ok' then null when 'missing' then coalesce(s.missing_since, now())
                                   else s.missing_since end,
    updated_at = now()
  where s.model = p_model;
  if result = 'closed' and was.state <> 'closed' then
    perform atlas.wake_upstream();
  end if;
  return result;
end
$$;

--
-- Name: FUNCTION record_model(p_model text, p_outcome text, p_error text, p_trial boolean); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.record_model(p_model text, p_outcome text, p_error text, p_trial boolean) IS 'Shares what a call learned of a model with the fleet: ok, failed or missing; p_trial: it is the call that was tried. Answers with
the state of its breaker now. A model that answers again wakes what waits for it.';

--
-- Name: record_probe(text, boolean, text, date); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.record_probe(p_model text, p_ok boolean, p_error text DEFAULT NULL::text, p_shutdown_at date DEFAULT NULL::date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if p_ok then
    update atlas.model m set shutdown_at = p_shutdown_at
    where m.name = p_model and p_shutdown_at is not null and m.shutdown_at is distinct from p_shutdown_at;
    if found then
      perform atlas.append_audit(null, 'record_probe', jsonb_build_object('model', p_model, 'shutdown_at', p_shutdown_at));
    end if;
    update atlas.model_state s set state = 'half_open', since = now(), updated_at = now(),
      trial_at = clock_timestamp() + interval '1 second' * case s.trials when 0 then 0 else least(5, 2 ^ s.trials) end
    where s.model = p_model and s.state = 'open';
    -- one task tries a call; who was woken before may have had no call to make
    if found or exists (select from atlas.model_state s where s.model = p_model and s.state = 'half_open'
                        and s.trial_at <= clock_timestamp()) then
      perform atlas.wake_upstream(1);
    end if;
  else
    update atlas.model_state s set last_error = left(p_error, 500), updated_at = now()
    where s.model = p_model and s.state <> 'closed';
  end if;
end
$$;

--
-- Name: FUNCTION record_probe(p_model text, p_ok boolean, p_error text, p_shutdown_at date); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.record_probe(p_model text, p_ok boolean, p_error text, p_shutdown_at date) IS 'What a probe of a model found, and the day on which the provider says that it shuts down. One task that waits may try a call.';

--
-- Name: record_progress(jsonb, double precision); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.record_progress(p_items jsonb, p_rate double precision DEFAULT 80) RETURNS TABLE(attempt_id uuid)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  held uuid[];
begin
  select array_agg(r.id) into held from (
    select a.id from atlas.attempt a
    where a.id = any (array(select (i ->> 'attempt_id')::uuid from jsonb_array_elements(p_items) i)) and a.state = 'running'
    order by a.id for no key update) r;
  if held is null then
    return;
  end if;
  with item as materialized (
    select i.* from jsonb_to_recordset(p_items) as i (attempt_id uuid, call integer, generation integer,
      response_id text, resumable boolean, sequence_number bigint, "offset" integer, text text, model text, inherited boolean, response_offset integer)
    where i.attempt_id = any (held)
  ),
  at as (
    update atlas.attempt a set generation = i.generation, response_id = i.response_id, model = i.model,
      response_offset = coalesce(i.response_offset, 0),
      sequence_number = case when i.response_id is distinct from a.response_id then i.sequence_number
                             else greatest(a.sequence_number, i.sequence_number) end,
      first_delta_at = coalesce(a.first_delta_at, case when i.text <> '' then now() end)
    from (select distinct on (item.attempt_id) item.* from item
          order by item.attempt_id, item.generation desc, item."offset" desc) i
    where a.id = i.attempt_id and a.id = any (held)
    returning a.id, a.task_id
  ),
  responses as (
    update atlas.spend s set response_id = case when i.resumable then i.response_id else s.response_id end, unstored = not i.resumable
    from item i
    where s.attempt_id = any (held) and s.attempt_id = i.attempt_id and s.call = i.call and s.corrects is null and s.state = 'reserved'
      and (s.unstored = i.resumable or (i.resumable and s.response_id is distinct from i.response_id))
  )
  insert into atlas.reply_part (attempt_id, generation, "offset", text, inherited, task_id)
  select i.attempt_id, i.generation, i."offset", i.text, coalesce(i.inherited, false), at.task_id
  from item i join at on at.id = i.attempt_id where i.text <> ''
  on conflict do nothing;
  perform atlas.broadcast_parts(held, p_rate);
  return query select unnest(held);
end
$$;

--
-- Name: FUNCTION record_progress(p_items jsonb, p_rate double precision); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.record_progress(p_items jsonb, p_rate double precision) IS 'Stores response ids, sequence numbers and text of running replies; answers with the attempts still held. p_rate: Realtime events a second that the whole project may have.';

--
-- Name: record_rate(text, jsonb, interval); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.record_rate(p_model text, p_limits jsonb, p_retry_after interval DEFAULT NULL::interval) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  insert into atlas.rate_bucket as b (model, unit, per_minute, level, blocked_until)
  select p_model, l.unit, l.per_minute, greatest(0, least(l.per_minute, l.remaining)), clock_timestamp() + case when p_retry_after is not null then atlas.bounded(p_retry_after, '0', '1 day') end
  from jsonb_to_recordset(p_limits) as l (unit text, per_minute bigint, remaining numeric)
  where l.per_minute > 0 and l.unit in ('requests', 'tokens')
  order by l.unit
  on conflict (model, unit) do update set per_minute = excluded.per_minute, as_of = clock_timestamp(),
    blocked_until = coalesce(excluded.blocked_until, b.blocked_until),
    -- what other workers have leased and not used yet is missing in the header: the smaller one is true
    level = greatest(0, least(excluded.level, excluded.per_minute,
      b.level + extract(epoch from clock_timestamp() - b.as_of) * b.per_minute / 60))
$$;

--
-- Name: FUNCTION record_rate(p_model text, p_limits jsonb, p_retry_after interval); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.record_rate(p_model text, p_limits jsonb, p_retry_after interval) IS 'What a response''s x-ratelimit-* headers say: [{"unit", "per_minute", "remaining"}]; p_retry_after where it was a 429.';

--
-- Name: record_usage(jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.record_usage(p_items jsonb) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  ids constant bigint[] := array(select (i ->> 'spend_id')::bigint from jsonb_array_elements(p_items) i);
  service constant boolean := atlas.is_service();
  allowed jsonb;
  v_days date[];
  v_scopes text[];
  n integer;
begin
  perform from atlas.task t where t.id in (select s.task_id from atlas.spend s where s.id = any (ids))
  order by t.id for no key update;
  select jsonb_agg(i) into allowed from jsonb_array_elements(p_items) i
  join atlas.spend s on s.id = (i ->> 'spend_id')::bigint left join atlas.task t on t.id = s.task_id
  -- a call that its task has left behind is settled by whichever worker asked what became of it
  where service or (s.attempt_id = (i ->> 'attempt_id')::uuid and (t.attempt_id = s.attempt_id
    or (s.response_id is not null and (t.finished_at is not null or t.attempt_id <> s.attempt_id))));
  if allowed is null then
    return 0;
  end if;
  select count(distinct s.id), array_agg(distinct s.day), array_agg(distinct x) into n, v_days, v_scopes
  from atlas.spend s cross join unnest(s.scopes) x where s.id = any (ids);
  perform atlas.settle_in(v_days, v_scopes, allowed);
  return n;
end
$$;

--
-- Name: FUNCTION record_usage(p_items jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.record_usage(p_items jsonb) IS 'Settles calls, or corrects what was unknown: [{"spend_id", "usage": {"input_tokens","output_tokens","known",…}}].';

--
-- Name: refuse(text, text, text, text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.refuse(field text, problem text, fix text, state text DEFAULT 'AT001'::text, thing text DEFAULT 'architect_in'::text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  raise exception using errcode = state, message = format('%s: %s %s', thing, field, problem), hint = fix, column = field;
end
$$;

--
-- Name: FUNCTION refuse(field text, problem text, fix text, state text, thing text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.refuse(field text, problem text, fix text, state text, thing text) IS 'Raises the error of a message that breaks the contract.';

--
-- Name: refuse_change(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  raise exception using errcode = 'AT006', message = format('%I.%I is append-only', tg_table_schema, tg_table_name),
    hint = 'write what happened as a new row';
end
$$;

--
-- Name: FUNCTION refuse_change(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.refuse_change() IS 'Keeps a table append-only, for its owner too.';

--
-- Name: register_worker(uuid, text, text, integer, text[], integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.register_worker(p_worker_id uuid, p_name text, p_version text, p_concurrency integer, p_models text[] DEFAULT '{}'::text[], p_protocol integer DEFAULT 1) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  delete from atlas.worker w where w.seen_at < now() - interval '1 day';
  insert into atlas.worker (id, name, version, concurrency, models, protocol)
  values (p_worker_id, p_name, p_version, p_concurrency, p_models, p_protocol)
  on conflict (id) do update set state = 'busy', seen_at = now();
$$;

--
-- Name: FUNCTION register_worker(p_worker_id uuid, p_name text, p_version text, p_concurrency integer, p_models text[], p_protocol integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.register_worker(p_worker_id uuid, p_name text, p_version text, p_concurrency integer, p_models text[], p_protocol integer) IS 'Says that a worker is there, which models it calls, and which protocol it speaks.';

--
-- Name: reject(uuid, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.reject(p_task uuid, p_reason text DEFAULT NULL::text) RETURNS atlas.decision
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$ select * from atlas.decide(p_task, 'rejected', 'reject', p_reason, '{}') $$;

--
-- Name: FUNCTION reject(p_task uuid, p_reason text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.reject(p_task uuid, p_reason text) IS 'Rejects the reply of a task, so that nobody has to wonder. For deciders and admins; again, it changes nothing.';

--
-- Name: reject_message(text, text, jsonb, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.reject_message(p_source text, p_event_id text, p_payload jsonb, p_reason text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  insert into atlas.inbound (source, event_id) values (p_source, p_event_id) on conflict do nothing;
  if found then
    insert into atlas.rejected_message (source, payload, reason) values (p_source, p_payload, left(p_reason, 2000));
  end if;
  return found;
end
$$;

--
-- Name: FUNCTION reject_message(p_source text, p_event_id text, p_payload jsonb, p_reason text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.reject_message(p_source text, p_event_id text, p_payload jsonb, p_reason text) IS 'Keeps a message that broke the contract, once a delivery, so that its sender need not send it again.';

--
-- Name: release_expired(integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.release_expired(p_limit integer DEFAULT 100) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  task atlas.task;
  lost uuid[] := '{}'::uuid[];
  tasks uuid[] := '{}'::uuid[];
begin
  for task in
    select t.* from atlas.task t
    where t.state = 'running' and t.id in (
      select a.task_id from atlas.attempt a where a.state = 'running' and a.lease_expires_at < now()
      order by a.lease_expires_at limit p_limit)
    order by t.id for no key update skip locked
  loop
    -- the lease may have been extended while this waited for nothing: look again under the lock
    if not exists (select from atlas.attempt a where a.id = task.attempt_id and a.lease_expires_at < now()
                   for no key update skip locked) then
      continue;
    end if;
    lost := lost || task.attempt_id;
    tasks := tasks || task.id;
    perform atlas.release_task(task, null, now(), 'lost', 'lease_lost', 'the worker stopped extending its lease');
  end loop;
  if cardinality(lost) = 0 then
    return 0;
  end if;
  update atlas.task t set losses = t.losses + case when x.reserved then 1 else 0 end,
    early_losses = t.early_losses + case when x.reserved then 0 else 1 end
  from (select a.task_id, coalesce((select true from atlas.spend s where s.attempt_id = a.id and s.corrects is null limit 1), false) as reserved
        from atlas.attempt a where a.id = any (lost)) x
  where t.id = x.task_id;
  perform atlas.settle_attempts(lost, '{}');
  perform atlas.wait_for_holds(tasks);
  -- a task that keeps losing its workers is not tried for ever
  for task in
    select t.* from atlas.task t
    where t.id = any (tasks) and t.state = 'queued' and (t.losses >= 10 or t.early_losses >= 10 or (t.losses >= 5
      and (select true from atlas.spend s where s.task_id = t.id and s.state = 'reserved' and s.response_id is not null limit 1) is null))
    order by t.id for no key update skip locked
  loop
    perform atlas.end_task(task, 'dead_lettered', 'lease_lost', format('%s workers were lost while they ran it%s',
      greatest(task.losses, task.early_losses), case when task.losses < 5 then ', before they had reserved anything' else '' end), '{}');
    perform atlas.escalate(task.id, 'lease_lost', format('%s workers were lost while they ran it',
      greatest(task.losses, task.early_losses)));
  end loop;
  perform atlas.wake_workers();
  return cardinality(lost);
end
$$;

--
-- Name: FUNCTION release_expired(p_limit integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.release_expired(p_limit integer) IS 'Puts tasks of lost workers back in the queue; says how many.';

--
-- Name: release_task(atlas.task, text, timestamp with time zone, text, text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.release_task(p_task atlas.task, p_reason text, p_until timestamp with time zone, p_state text, p_code text DEFAULT NULL::text, p_message text DEFAULT NULL::text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  update atlas.attempt set state = p_state, finished_at = now(), error_code = p_code, error_message = p_message
  where id = p_task.attempt_id;
  -- somebody asked to cancel it: that waits for nothing
  update atlas.task t set state = 'queued', attempt_id = null, wait_scope = null, adopted_at = null,
    wait_reason = case when t.cancel_requested_at is null then p_reason end,
    run_after = case when t.cancel_requested_at is null then p_until else now() end,
    error_code = p_code, error_message = p_message
  where id = p_task.id;
  select atlas.append_audit(p_task.id, 'release_task', jsonb_strip_nulls(jsonb_build_object('reason', p_reason, 'state',
    p_state, 'attempt', p_task.attempts, 'worker', (select a.lease_owner from atlas.attempt a where a.id = p_task.attempt_id),
    'code', p_code)));
$$;

--
-- Name: FUNCTION release_task(p_task atlas.task, p_reason text, p_until timestamp with time zone, p_state text, p_code text, p_message text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.release_task(p_task atlas.task, p_reason text, p_until timestamp with time zone, p_state text, p_code text, p_message text) IS 'Hands a running task back to the queue. Internal.';

--
-- Name: remove_member(uuid, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.remove_member(p_project uuid, p_who text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  delete from atlas.member m where m.project_id = p_project and m.user_id = atlas.user_of(p_who);
  return found;
end
$$;

--
-- Name: FUNCTION remove_member(p_project uuid, p_who text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.remove_member(p_project uuid, p_who text) IS 'Removes a user from a project; false where they were not a member.';

--
-- Name: renew_audit_key(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.renew_audit_key() RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$ select atlas.append_audit(null, 'renew_audit_key') $$;

--
-- Name: FUNCTION renew_audit_key(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.renew_audit_key() IS 'The next seal may be made with another key: for operators, when the key is renewed or lost.';

--
-- Name: replay_outbox(uuid, timestamp with time zone, timestamp with time zone, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.replay_outbox(p_task_id uuid DEFAULT NULL::uuid, p_since timestamp with time zone DEFAULT NULL::timestamp with time zone, p_until timestamp with time zone DEFAULT NULL::timestamp with time zone, p_destination text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  n integer;
begin
  if p_task_id is null and p_since is null then
    raise exception using errcode = 'AT005', message = 'replay_outbox: nothing is named',
      hint = 'name a task, or since when messages are sent again';
  end if;
  if p_destination is not null and not exists (select from atlas.destination d where d.name = p_destination and d.enabled) then
    raise exception using errcode = 'AT004', message = format('no enabled destination %L', p_destination),
      hint = 'see select name, enabled from atlas.destination';
  end if;
  with message as (
    select m.* from public.architect_out m
    where (p_task_id is null or m.task_id = p_task_id) and (p_since is null or m.created_at >= p_since)
      and (p_until is null or m.created_at < p_until)
  ),
  again as (
    insert into atlas.outbox as o (event_id, task_id, out_id, position, destination_id)
    select m.event_id, case when m.data ->> 'msg_type' <> 'control' then m.task_id end, m.id, m.id, d.id
    from message m join atlas.destination d on d.enabled and (p_destination is null or d.name = p_destination)
      and atlas.matches(d.filter, 'message', m.data, coalesce(m.owner::text, 'service'))
    order by m.id
    -- what is pending is on its way, and what is dead needs an operator's word
    on conflict on constraint outbox_once do update set state = 'pending', sent_at = null, rejections = 0, run_after = now()
      where o.state in ('sent', 'skipped')
    returning 1
  )
  select count(*)::integer into n from again;
  perform atlas.append_audit(null, 'replay_outbox', jsonb_strip_nulls(jsonb_build_object('task_id', p_task_id, 'since', p_since,
    'until', p_until, 'destination', p_destination, 'rows', n)));
  return n;
end
$$;

--
-- Name: FUNCTION replay_outbox(p_task_id uuid, p_since timestamp with time zone, p_until timestamp with time zone, p_destination text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.replay_outbox(p_task_id uuid, p_since timestamp with time zone, p_until timestamp with time zone, p_destination text) IS 'Sends messages again, with the same event ids: of a task, or of a span of time; says how many rows.';

--
-- Name: reply(atlas.task, text, text, jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.reply(p_task atlas.task, p_type text, p_content text, p_metadata jsonb) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  insert into public.architect_out (data, task_id, owner, project_id)
  values (jsonb_build_object('task_id', p_task.message_task_id, 'role', 'architect', 'msg_type', p_type,
      'content', p_content, 'metadata', atlas.reply_metadata(p_task.parent_id, p_metadata)),
    p_task.message_task_id, p_task.sender, p_task.project_id)
  returning id
$$;

--
-- Name: FUNCTION reply(p_task atlas.task, p_type text, p_content text, p_metadata jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.reply(p_task atlas.task, p_type text, p_content text, p_metadata jsonb) IS 'Writes a row of architect_out. Internal.';

--
-- Name: reply_metadata(uuid, jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.reply_metadata(p_parent uuid, p_metadata jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select jsonb_build_object('tokens', 0, 'model', null, 'parent_id', p_parent,
    'schema_ver', case when p_metadata ?| array['sources', 'usage', 'error', 'warnings', 'truncated', 'kind',
      'traceparent', 'chunk', 'reply_to', 'project'] then 2 else 1 end) || p_metadata
$$;

--
-- Name: FUNCTION reply_metadata(p_parent uuid, p_metadata jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.reply_metadata(p_parent uuid, p_metadata jsonb) IS 'Metadata with all that the contract asks for; version 2 only where needed.';

--
-- Name: report_progress(interval); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.report_progress(p_every interval) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  item record;
  n integer := 0;
begin
  if not exists (select from atlas.destination d where d.enabled and d.filter -> 'kind' ? 'progress') then
    return 0;
  end if;
  for item in
    update atlas.attempt a set progress_sent_at = now()
    where a.id in (
      select r.id from atlas.attempt r join atlas.task t on t.id = r.task_id and t.kind = 'chat'
      join public.architect_in i on i.id = t.in_id
      where r.state = 'running' and i.data #>> '{metadata,reply_to}' is not null
        and coalesce(r.progress_sent_at, r.started_at) < now() - atlas.bounded(p_every, '1 second', '1 day')
      order by r.id for no key update of r skip locked)
    returning a.*
  loop
    n := n + atlas.emit('progress', jsonb_build_object('task_id', item.task_id, 'role', 'architect', 'msg_type', 'spec', 'content', '',
      'metadata', jsonb_build_object('tokens', 0, 'model', item.model, 'parent_id', null, 'status', 'in_progress', 'schema_ver', 2,
        'kind', 'progress', 'progress', jsonb_build_object('attempt', item.number,
          'seconds', extract(epoch from now() - item.started_at)::integer,
          'characters', (select coalesce(max(p."offset" + length(p.text)), 0) from atlas.reply_part p
                         where p.attempt_id = item.id and p.generation = item.generation)))), item.task_id);
  end loop;
  return n;
end
$$;

--
-- Name: FUNCTION report_progress(p_every interval); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.report_progress(p_every interval) IS 'Emits how far running tasks with a reply_to have come, each at most once in so long; says how many.';

--
-- Name: report_work_item(uuid, integer, text, text, text, jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.report_work_item(p_task uuid, p_number integer, p_state text, p_commit text DEFAULT NULL::text, p_note text DEFAULT NULL::text, p_deviations jsonb DEFAULT '[]'::jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  item atlas.work_item;
  d atlas.decision;
  one jsonb;
begin
  perform atlas.planned_items(p_task, 'report_work_item');
  select w.* into item from atlas.work_item w where w.task_id = p_task and w.number = p_number for no key update;
  if not found then
    raise exception using errcode = 'AT005', message = format('report_work_item: nobody has taken item %s of task %s', p_number, p_task),
      hint = 'take it first: atlas.take_work_item';
  end if;
  if item.taken_by <> atlas.actor() and not atlas.is_service() then
    raise exception using errcode = 'AT006', message = format('report_work_item: item %s is %s''s', p_number, item.taken_by), hint = 'whoever took it reports on it';
  end if;
  if p_state is null or p_state not in ('taken', 'done', 'blocked', 'dropped') then
    perform atlas.refuse('state', format('%s is not known', coalesce(p_state, 'null')), 'send taken, done, blocked or dropped', 'AT001', 'report_work_item');
  end if;
  if p_commit !~ '^[0-9a-f]{7,64}$' then
    perform atlas.refuse('commit', 'is not the hash of a commit', 'send 7 to 64 hexadecimal digits', 'AT001', 'report_work_item');
  end if;
  if length(p_note) > 4000 then
    perform atlas.refuse('note', 'is longer than 4,000 characters', 'send its gist', 'AT001', 'report_work_item');
  end if;
  if jsonb_typeof(p_deviations) is distinct from 'array' or jsonb_array_length(p_deviations) > 50 then
    perform atlas.refuse('deviations', 'must be a list of at most 50', 'send [{"constraint", "reason"}]', 'AT001', 'report_work_item');
  end if;
  select x.* into d from atlas.decision x where x.task_id = p_task;
  for one in select e from jsonb_array_elements(p_deviations) e loop
    if d.number is null then
      perform atlas.refuse('deviations', 'are from constraints of a decision, and this is a plan', 'say it in the note', 'AT001', 'report_work_item');
    end if;
    if not coalesce(one ->> 'constraint' = any (d.constraints), false) then
      perform atlas.refuse('deviations', format('names no constraint of ADR-%s: %s', d.number, left(coalesce(one ->> 'constraint', 'null'), 100)),
        'send a constraint as the decision has it', 'AT001', 'report_work_item');
    end if;
    if coalesce(one ->> 'reason', '') = '' or length(one ->> 'reason') > 2000 then
      perform atlas.refuse('deviations', 'needs a reason of at most 2,000 characters', 'say why it does not hold there', 'AT001', 'report_work_item');
    end if;
    insert into atlas.deviation (project_id, number, task_id, item, constraint_text, reason, commit, reported_by)
    values (d.project_id, d.number, p_task, p_number, one ->> 'constraint', one ->> 'reason', p_commit, atlas.actor());
  end loop;
  update atlas.work_item w set state = p_state, commit = coalesce(p_commit, w.commit), note = coalesce(p_note, w.note), updated_at = now()
  where w.task_id = p_task and w.number = p_number;
  perform atlas.append_audit(p_task, 'report_work_item', jsonb_strip_nulls(jsonb_build_object('item', p_number, 'state', p_state, 'commit', p_commit,
    'deviations', nullif(jsonb_array_length(p_deviations), 0))));
  return jsonb_strip_nulls(jsonb_build_object('number', p_number, 'state', p_state, 'decision', atlas.decision_of(p_task), 'changed',
    case when atlas.decision_of(p_task) is distinct from item.decision_seen then
      format('%s when you took the item, %s now: read it again before you go on', coalesce(item.decision_seen, 'not decided'), atlas.decision_of(p_task)) end));
end
$_$;

--
-- Name: FUNCTION report_work_item(p_task uuid, p_number integer, p_state text, p_commit text, p_note text, p_deviations jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.report_work_item(p_task uuid, p_number integer, p_state text, p_commit text, p_note text, p_deviations jsonb) IS 'How far an item is: state, commit, note, and deviations [{"constraint", "reason"}], which are recorded on the decision. By who took it. "changed" says that
the decision is not what it was when the item was taken.';

--
-- Name: request_export(uuid, text, text, text, uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.request_export(p_task_id uuid, p_what text, p_repository text DEFAULT NULL::text, p_reply_to text DEFAULT NULL::text, p_event_id uuid DEFAULT atlas.new_id()) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  d jsonb := atlas.get_delivery(p_task_id);
  repository text;
begin
  -- the same wish again, by another delivery of it
  if exists (select from atlas.outbox o where o.event_id = p_event_id) then
    return p_event_id;
  end if;
  if d is null then
    raise exception using errcode = 'AT004', message = format('no task %s', p_task_id), hint = 'see `atlas tasks`';
  end if;
  if p_what not in ('pull_request', 'issues') then
    raise exception using errcode = 'AT005', message = format('request_export: %L is not known', p_what),
      hint = 'use pull_request or issues';
  end if;
  if d ->> 'state' <> 'completed' then
    raise exception using errcode = 'AT005', message = format('task %s is %s: there is no spec to export', p_task_id, d ->> 'state'),
      hint = 'wait for its reply, or ask again';
  end if;
  if p_what = 'issues' and coalesce((d #>> '{spec,metadata,truncated}')::boolean, false) then
    raise exception using errcode = 'AT005', message = format('the reply to task %s was cut by its budget', p_task_id),
      hint = 'ask again with a larger TOKEN_BUDGET_PER_RUN: work items of half a plan are not filed';
  end if;
  repository := coalesce(p_repository, substring(d ->> 'reply_to' from '^github:([^#]+)#'));
  if repository is null or repository !~ '^[A-Za-z0-9_-]+/[A-Za-z0-9._-]+$' or repository ~ '/\.\.?$' then
    raise exception using errcode = 'AT005',
      message = case when repository is null then format('task %s came from no repository', p_task_id)
                     else format('%L is not a repository', repository) end,
      hint = 'name it as owner/name';
  end if;
  if atlas.emit('export', jsonb_build_object('task_id', p_task_id, 'export', p_what, 'repository', repository,
      'reply_to', coalesce(p_reply_to, d ->> 'reply_to')), p_task_id, p_event_id) = 0 then
    raise exception using errcode = 'AT005', message = 'no destination takes exports',
      hint = 'add the function deliver as a webhook to atlas.destination, with "export" among the kinds of its filter';
  end if;
  perform atlas.append_audit(p_task_id, 'request_export', jsonb_build_object('what', p_what, 'repository', repository));
  return p_event_id;
end
$_$;

--
-- Name: FUNCTION request_export(p_task_id uuid, p_what text, p_repository text, p_reply_to text, p_event_id uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.request_export(p_task_id uuid, p_what text, p_repository text, p_reply_to text, p_event_id uuid) IS 'Asks for a spec as a pull request, or for its work items as issues; answers the event that carries it out. The same p_event_id
again asks for nothing more.';

--
-- Name: require_decider(uuid, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.require_decider(p_project uuid, p_verb text) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if not atlas.is_service() and not exists (
    select from atlas.member m where m.project_id = p_project and m.user_id = atlas.uid() and m.role in ('decider', 'admin')) then
    raise exception using errcode = 'AT006', message = format('%s: you are neither a decider nor an admin of this project', p_verb),
      hint = 'ask one of them, or an operator for `atlas project add … --role decider`';
  end if;
end
$$;

--
-- Name: FUNCTION require_decider(p_project uuid, p_verb text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.require_decider(p_project uuid, p_verb text) IS 'Raises AT006 unless the caller may decide in a project. Internal.';

--
-- Name: require_member(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.require_member(p_project uuid) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if atlas.is_service() then
    return;
  end if;
  if p_project is null then
    perform atlas.refuse('project', 'is missing', 'name one of yours; what everybody shares is an operator''s to index', 'AT006');
  end if;
  if not exists (select from atlas.my_projects() m where m = p_project) then
    perform atlas.refuse('project', 'is not one of yours', '`atlas whoami` lists them', 'AT006');
  end if;
end
$$;

--
-- Name: FUNCTION require_member(p_project uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.require_member(p_project uuid) IS 'Refuses (AT006) a caller who is not a member of the project. Internal.';

--
-- Name: require_protocol(integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.require_protocol(p_oldest integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_worker record;
begin
  select w.name, w.version, count(*) over () as others into v_worker from atlas.worker w
  where w.protocol < p_oldest and w.state <> 'stopped' and w.seen_at > now() - interval '2 minutes'
  order by w.seen_at desc limit 1;
  if found then
    raise exception using errcode = 'AT005',
      message = format('worker %s (version %s) still runs, and the new schema no longer serves it (%s such workers)',
        v_worker.name, v_worker.version, v_worker.others),
      hint = 'Upgrade those workers first, to a version that speaks both; then run `atlas migrate` again.';
  end if;
end
$$;

--
-- Name: FUNCTION require_protocol(p_oldest integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.require_protocol(p_oldest integer) IS 'Fails while a worker is alive that speaks an older protocol. For migrations.';

--
-- Name: reserve_one(atlas.task, integer, text, bigint, bigint, text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.reserve_one(p_task atlas.task, p_call integer, p_model text, p_input bigint, p_output bigint, p_tier text, p_window text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_day constant date := atlas.today();
  scopes constant text[] := atlas.scopes_of(p_task.project_id, p_task.sender_key, p_model);
  price constant atlas.model_price := atlas.price_on(p_model, v_day);
  v_factor constant numeric := atlas.price_factor_of(p_tier, p_window);
  need constant bigint := p_input + p_output;
  usd constant numeric := atlas.worst_cost(price, p_input, p_output, v_factor);
  earlier record;
  hit record;
  used record;
  spend_id bigint;
  holds timestamptz;
begin
  select s.id, s.state, s.reserved_tokens, s.reserved_usd into earlier from atlas.spend s
  where s.attempt_id = p_task.attempt_id and s.call = p_call and s.corrects is null;
  if found and (earlier.state <> 'reserved' or earlier.reserved_tokens < need) then
    return jsonb_build_object('outcome', 'refuse', 'code', 'call_number', 'scope', 'global', 'message',
      format('call %s of this attempt is taken: number the next call %s', p_call, p_call + 1));
  elsif found then
    return jsonb_build_object('outcome', 'reserved', 'spend_id', earlier.id, 'tokens', earlier.reserved_tokens,
      'usd', earlier.reserved_usd, 'again', true);
  end if;
  select min(s.held_until) into holds from atlas.spend s
  where s.task_id = p_task.id and s.state = 'held' and s.held_until > now() having count(*) > 1;
  if found then
    return jsonb_build_object('outcome', 'wait', 'code', 'held', 'until', holds, 'message',
      format('two calls were sent and not answered: the next one is made when their hold ends, at %s',
        to_char(holds at time zone 'UTC', 'HH24:MI:SS "UTC"')));
  end if;
  -- what a lost attempt left on hold counts in the day and the month, not in this run
  select coalesce(sum(coalesce(s.tokens, s.reserved_tokens)), 0) as tokens, coalesce(sum(coalesce(s.usd, s.reserved_usd)), 0) as usd
    into used from atlas.spend s where s.task_id = p_task.id and s.attempt_id = p_task.attempt_id and s.state <> 'held';
  select b.scope into hit from atlas.budget_now b
  where b.scope = any (scopes) and b.enforcement = 'hard' and usd is null
    and num_nonnulls(b.usd_per_run, b.usd_daily, b.usd_monthly) > 0 order by b.scope limit 1;
  if found then
    return jsonb_build_object('outcome', 'refuse', 'code', 'model_unpriced', 'scope', hit.scope,
      'message', format('model %s has no price, and %s has a budget in USD', p_model, hit.scope));
  end if;
  select b.scope, b.when_spent, case l.period when 'run' then b.run_lowered_at when 'day' then b.day_lowered_at else b.month_lowered_at end
      > p_task.queued_at as lowered, l.*,
    l.settled + l.need > l.most and (not l.shared or l.settled > 0) as spent into hit
  from atlas.budget_now b
  left join atlas.share_of(p_task.project_id, p_task.sender_key) share on b.scope like 'sender:%'
  cross join lateral (values
    ('run', 'in this run', 'tokens', b.per_run::numeric, used.tokens, 0::numeric, need::numeric, null::date, false),
    ('run', 'in this run', 'USD', b.usd_per_run, used.usd, 0, usd, null, false),
    ('day', 'today', 'tokens', coalesce(b.daily, share.daily), b.settled_tokens, b.reserved_tokens, need, v_day + 1, b.daily is null),
    ('day', 'today', 'USD', coalesce(b.usd_daily, share.usd_daily), b.settled_usd, b.reserved_usd, usd, v_day + 1,
      b.usd_daily is null),
    ('month', 'this month', 'tokens', b.monthly, b.month_settled_tokens, b.month_reserved_tokens, need,
      (date_trunc('month', v_day) + interval '1 month')::date, false),
    ('month', 'this month', 'USD', b.usd_monthly, b.month_settled_usd, b.month_reserved_usd, usd,
      (date_trunc('month', v_day) + interval '1 month')::date, false)
  ) as l (period, said, unit, most, settled, reserved, need, following, shared)
  where b.scope = any (scopes) and b.enforcement = 'hard' and l.need > 0 and l.settled + l.reserved + l.need > l.most
    -- a share never stands in the way of a person's first call of a day
    and not (l.shared and l.settled + l.reserved = 0)
  -- what can never fit first, then what is spent the longest, then what others have reserved
  order by ((l.need > l.most and not l.shared) or l.period = 'run') desc, l.settled + l.need > l.most desc, l.following desc nulls first, b.scope limit 1;
  if found then
    -- what is left is too little for a call: for those who ask it is spent
    if hit.spent and hit.period <> 'run' and hit.need <= hit.most and not hit.shared then
      perform atlas.announce_budget(hit.scope, hit.period, lower(hit.unit), 100, hit.most, hit.settled);
    end if;
    return jsonb_strip_nulls(jsonb_build_object(
      'outcome', case
        when hit.spent and not hit.lowered is true and ((hit.need > hit.most and not hit.shared) or hit.period = 'run') then 'refuse'
        when hit.spent and hit.when_spent = 'reject' and not hit.lowered is true then 'refuse'
        when hit.spent then 'defer' else 'wait' end,
      'code', case when hit.period = 'run' then 'run_budget' when hit.spent then hit.period || '_budget' else 'reserved_budget' end,
      'scope', hit.scope, 'settled', hit.settled, 'reserved', hit.reserved, 'most', hit.most,
      'until', case when hit.spent then coalesce(hit.following, v_day + 1)::timestamp at time zone 'UTC' end,
      'message', format('%s: %s needs %s%s at worst, %s left of %s%s %s (%s spent%s)', hit.scope, p_model, atlas.grouped(hit.need),
        case hit.unit when 'USD' then ' USD' else '' end,
        atlas.grouped(greatest(0, hit.most - hit.settled - case when hit.spent then 0 else hit.reserved end)),
        atlas.grouped(hit.most), case hit.unit when 'USD' then ' USD' else '' end, hit.said, atlas.grouped(hit.settled),
        case when not hit.spent then ', ' || atlas.grouped(hit.reserved) || ' reserved by calls under way' else '' end)));
  end if;
  update atlas.budget_day d set reserved_tokens = d.reserved_tokens + need,
    reserved_usd = d.reserved_usd + coalesce(usd, 0)
  where d.day = v_day and d.scope = any (scopes);
  insert into atlas.spend (task_id, attempt_id, call, model, price_from, tier, completion_window, factor, day, scopes,
    reserved_tokens, reserved_usd, reserved_output)
  values (p_task.id, p_task.attempt_id, p_call, p_model, price.valid_from, p_tier, p_window, v_factor, v_day, scopes, need, usd, p_output)
  returning id into spend_id;
  return jsonb_build_object('outcome', 'reserved', 'spend_id', spend_id, 'tokens', need, 'usd', usd);
end
$$;

--
-- Name: FUNCTION reserve_one(p_task atlas.task, p_call integer, p_model text, p_input bigint, p_output bigint, p_tier text, p_window text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.reserve_one(p_task atlas.task, p_call integer, p_model text, p_input bigint, p_output bigint, p_tier text, p_window text) IS 'Reserves the worst case of one call, or says why not. Internal: the caller holds the locks.';

--
-- Name: reserve_tokens(jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.reserve_tokens(p_requests jsonb) RETURNS SETOF jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  attempt_ids constant uuid[] := array(select (r ->> 'attempt_id')::uuid from jsonb_array_elements(p_requests) r);
  v_day constant date := atlas.today();
  v_tasks constant uuid[] := array(select a.task_id from atlas.attempt a where a.id = any (attempt_ids));
  v_scopes text[];
  request record;
  task atlas.task;
  answer jsonb;
begin
  if exists (select from jsonb_to_recordset(p_requests) as r (input_tokens bigint, output_tokens bigint)
             where least(r.input_tokens, r.output_tokens) < 0) then
    perform atlas.refuse('input_tokens or output_tokens', 'is negative', 'send what the call may use at most, at least 0', 'AT005',
      'reserve_tokens');
  end if;
  if exists (select from jsonb_to_recordset(p_requests) as r (model text) where r.model is null) then
    perform atlas.refuse('model', 'is missing', 'name the model that is to be called', 'AT005', 'reserve_tokens');
  end if;
  perform from atlas.task t where t.id = any (v_tasks) and t.attempt_id = any (attempt_ids) order by t.id for no key update;
  select array_agg(distinct x) into v_scopes
  from jsonb_to_recordset(p_requests) as r (attempt_id uuid, model text)
  join (select k.* from atlas.task k where k.id = any (v_tasks) offset 0) t on t.attempt_id = r.attempt_id
  cross join unnest(array['global', 'project:' || t.project_id, 'sender:' || t.sender_key, 'model:' || r.model]) x;
  -- a person's share of the day is counted in a budget of their own
  insert into atlas.budget (scope)
  select x from unnest(v_scopes) x
  where x like 'sender:%' and x <> 'sender:service' and not exists (select from atlas.budget b where b.scope = x)
    and (select r.sender_daily_share is not null from atlas.spend_rules r)
  order by x on conflict do nothing;
  perform atlas.lock_days(array[v_day], v_scopes);
  return query
  with asked as materialized (
    select r.n, r.attempt_id, r.call, r.model, r.input_tokens, r.output_tokens, coalesce(r.tier, 'default') as tier,
      coalesce(r.completion_window, 'soonest') as completion_window, t.id as task_id, t.project_id, t.sender_key
    from rows from (jsonb_to_recordset(p_requests) as (attempt_id uuid, call integer, model text, input_tokens bigint,
      output_tokens bigint, tier text, completion_window text)) with ordinality
      as r (attempt_id, call, model, input_tokens, output_tokens, tier, completion_window, n)
    left join (select k.* from atlas.task k where k.id = any (v_tasks) offset 0) t on t.attempt_id = r.attempt_id
  ),
  -- once for all calls of a kind, and of a sender
  priced as materialized (
    select k.*, atlas.price_on(k.model, v_day) as price, atlas.price_factor_of(k.tier, k.completion_window) as factor
    from (select distinct a.model, a.tier, a.completion_window from asked a) k
  ),
  shared as materialized (
    select k.*, s.daily, s.usd_daily from (select distinct a.project_id, a.sender_key from asked a) k
    cross join lateral atlas.share_of(k.project_id, k.sender_key) s
  ),
  request as materialized (
    select r.n, r.attempt_id, r.call, r.model, r.input_tokens + r.output_tokens as need, r.output_tokens, r.task_id,
      array['global', 'project:' || r.project_id, 'sender:' || r.sender_key, 'model:' || r.model] as scopes, (p.price).valid_from,
      r.tier, r.completion_window, p.factor,
      atlas.worst_cost(p.price, r.input_tokens, r.output_tokens, p.factor) as usd,
      u.tokens as used, u.usd as used_usd, h.daily as share_daily, h.usd_daily as share_usd, u.taken, u.holds
    from asked r
    join priced p on p.model = r.model and p.tier = r.tier and p.completion_window = r.completion_window
    left join shared h on h.project_id = r.project_id and h.sender_key = r.sender_key
    -- what its task has called so far: one look by the index
    cross join lateral (
      select coalesce(sum(coalesce(s.tokens, s.reserved_tokens)) filter (where s.attempt_id = r.attempt_id and s.state <> 'held'), 0) as tokens,
        coalesce(sum(coalesce(s.usd, s.reserved_usd)) filter (where s.attempt_id = r.attempt_id and s.state <> 'held'), 0) as usd,
        bool_or(s.attempt_id = r.attempt_id and s.call = r.call and s.corrects is null) as taken, bool_or(s.state = 'held') as holds
      from atlas.spend s where s.task_id = r.task_id) u
  ),
  total as (
    select x.scope, sum(q.need) as need, sum(q.usd) as usd, max(q.used + q.need) as longest, max(q.used_usd + q.usd) as longest_usd,
      bool_and(q.usd is not null) as priced,
      case when x.scope like 'sender:%' then min(q.share_daily) end as share_daily,
      case when x.scope like 'sender:%' then min(q.share_usd) end as share_usd
    from request q cross join unnest(q.scopes) x (scope) group by x.scope
  ),
  verdict as (
    select not exists (select from request q where q.task_id is null)
      and (select count(distinct q.attempt_id) = count(*) from request q)
      and not exists (select from request q where q.taken or q.holds)
      and not exists (
        select from total o join atlas.budget_now b on b.scope = o.scope
        -- a call that costs nothing waits for no budget
        where b.enforcement = 'hard' and (o.need > 0 or o.usd > 0 or not o.priced) and (
          o.longest > b.per_run or o.longest_usd > b.usd_per_run
          or b.settled_tokens + b.reserved_tokens + o.need > coalesce(b.daily, o.share_daily)
          or b.settled_usd + b.reserved_usd + o.usd > coalesce(b.usd_daily, o.share_usd)
          or b.month_settled_tokens + b.month_reserved_tokens + o.need > b.monthly
          or b.month_settled_usd + b.month_reserved_usd + o.usd > b.usd_monthly
          or (not o.priced and num_nonnulls(b.usd_per_run, b.usd_daily, b.usd_monthly) > 0))) as fits
  ),
  reserved as (
    insert into atlas.spend (task_id, attempt_id, call, model, price_from, tier, completion_window, factor, day, scopes,
      reserved_tokens, reserved_usd, reserved_output)
    select q.task_id, q.attempt_id, q.call, q.model, q.valid_from, q.tier, q.completion_window, q.factor, v_day, q.scopes,
      q.need, q.usd, q.output_tokens
    from request q cross join verdict v where v.fits order by q.n
    returning id, spend.attempt_id
  ),
  booked as (
    update atlas.budget_day d set reserved_tokens = d.reserved_tokens + o.need,
      reserved_usd = d.reserved_usd + coalesce(o.usd, 0)
    from total o cross join verdict v where v.fits and d.day = v_day and d.scope = any (v_scopes) and d.scope = o.scope
  )
  select jsonb_build_object('outcome', 'reserved', 'spend_id', s.id, 'tokens', q.need, 'usd', q.usd)
  from request q join reserved s on s.attempt_id = q.attempt_id order by q.n;
  if found then
    perform atlas.append_audits('reserve_tokens', array_agg(s.task_id), array_agg(jsonb_build_object('attempt', a.number,
      'worker', a.lease_owner, 'call', s.call, 'model', s.model, 'tokens', s.reserved_tokens, 'usd', s.reserved_usd)))
    from jsonb_to_recordset(p_requests) as r (attempt_id uuid, call integer)
    cross join lateral (select x.* from atlas.attempt x where x.id = r.attempt_id limit 1) a
    cross join lateral (select x.* from atlas.spend x
      where x.attempt_id = r.attempt_id and x.call = r.call and x.corrects is null limit 1) s;
    return;
  end if;
  for request in
    select r.* from jsonb_to_recordset(p_requests) as r (attempt_id uuid, call integer, model text,
      input_tokens bigint, output_tokens bigint, tier text, completion_window text, may_wait boolean)
  loop
    select t.* into task from atlas.task t where t.id = any (v_tasks) and t.attempt_id = request.attempt_id;
    if not found then
      return next jsonb_build_object('outcome', 'lost');
      continue;
    end if;
    answer := atlas.reserve_one(task, request.call, request.model, request.input_tokens, request.output_tokens,
      coalesce(request.tier, 'default'), coalesce(request.completion_window, 'soonest'));
    if answer ->> 'outcome' = 'reserved' and not answer ? 'again' then
      perform atlas.append_audit(task.id, 'reserve_tokens', jsonb_build_object('attempt', task.attempts,
        'worker', (select a.lease_owner from atlas.attempt a where a.id = task.attempt_id), 'call', request.call,
        'model', request.model, 'tokens', answer -> 'tokens', 'usd', answer -> 'usd'));
    elsif answer ->> 'outcome' in ('wait', 'defer') and coalesce(request.may_wait, true) then
      perform atlas.wait_for_budget(task, answer);
    end if;
    return next answer;
  end loop;
end
$$;

--
-- Name: FUNCTION reserve_tokens(p_requests jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.reserve_tokens(p_requests jsonb) IS 'Reserves the worst case of calls about to be made: [{"attempt_id","call","model","input_tokens","output_tokens"}].';

--
-- Name: resume(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.resume() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  update atlas.control set paused_at = null, paused_by = null, reason = null;
  perform atlas.append_audit(null, 'resume', '{}');
  perform atlas.wake_workers();
end
$$;

--
-- Name: FUNCTION resume(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.resume() IS 'Lets workers claim questions again.';

--
-- Name: retry_outbox(bigint[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.retry_outbox(p_ids bigint[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  n integer;
begin
  update atlas.outbox set state = 'pending', rejections = 0, run_after = now() where id = any (p_ids) and state = 'dead';
  get diagnostics n = row_count;
  perform atlas.append_audit(null, 'retry_outbox', jsonb_build_object('ids', p_ids, 'rows', n));
  return n;
end
$$;

--
-- Name: FUNCTION retry_outbox(p_ids bigint[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.retry_outbox(p_ids bigint[]) IS 'Retries dead rows of the outbox; says how many.';

--
-- Name: retry_task(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.retry_task(p_task_id uuid) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  task atlas.task;
  trusted constant boolean := atlas.is_service();
begin
  select t.* into task from atlas.task t where t.id = p_task_id for no key update;
  if not found or not (trusted or coalesce(task.sender = atlas.uid(), false)) then
    raise exception using errcode = 'AT004', message = format('no task %s', p_task_id),
      hint = 'see `atlas tasks` or atlas.task_history for the ids';
  end if;
  -- it would be paid for by a project that its asker has left
  if not trusted and task.project_id <> '00000000-0000-0000-0000-000000000001'
     and not exists (select from atlas.my_projects() m where m = task.project_id) then
    perform atlas.refuse('project', 'is not one of yours any more', 'ask again in a project of yours', 'AT006');
  end if;
  if task.state = 'queued' and not trusted then
    raise exception using errcode = 'AT005', message = format('task %s is queued', p_task_id), hint = 'it goes on by itself';
  end if;
  if task.title = '[erased]' then
    raise exception using errcode = 'AT005', message = format('task %s was erased', p_task_id),
      hint = 'ask the question again';
  end if;
  if task.state in ('running', 'completed') then
    raise exception using errcode = 'AT005', message = format('task %s is %s', p_task_id, task.state),
      hint = case task.state when 'running' then 'cancel it first' else 'ask again with `atlas ask --parent`' end;
  end if;
  update atlas.task t set state = 'queued', wait_reason = null, wait_scope = null, run_after = now(), failures = 0,
    losses = 0, early_losses = 0, finished_at = null,
    out_id = null, cancel_requested_at = null, outage_since = null, escalated_at = null,
    error_code = null, error_message = null
  where t.id = p_task_id;
  perform atlas.append_audit(p_task_id, 'retry_task', jsonb_build_object('was', task.state));
  perform atlas.wake_workers();
  return 'queued';
end
$$;

--
-- Name: FUNCTION retry_task(p_task_id uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.retry_task(p_task_id uuid) IS 'Retries a failed, cancelled or dead-lettered task; for operators a waiting one too. People retry their own.';

--
-- Name: routes(text, jsonb, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.routes(event_kind text, data jsonb, sender text) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select d.id from atlas.destination d where d.enabled and atlas.matches(d.filter, routes.event_kind, routes.data, routes.sender)
  union all
  select null where not exists (select from atlas.destination d where d.enabled)
$$;

--
-- Name: FUNCTION routes(event_kind text, data jsonb, sender text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.routes(event_kind text, data jsonb, sender text) IS 'The destinations of an event. Internal.';

--
-- Name: scopes_of(uuid, text, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.scopes_of(project uuid, sender text, model text) RETURNS text[]
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$ select array['global', 'project:' || project, 'sender:' || sender, 'model:' || model] $$;

--
-- Name: FUNCTION scopes_of(project uuid, sender text, model text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.scopes_of(project uuid, sender text, model text) IS 'The budgets that a call of a task counts in.';

--
-- Name: seal_audit(xid8, bigint, bytea, bytea, bytea, bytea, bytea); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.seal_audit(p_upto xid8, p_rows bigint, p_digest bytea, p_prev_mac bytea, p_mac bytea, p_proof bytea, p_next_check bytea) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  -- what is sealed must be what is there: a caller's word is not enough
  if not exists (select from atlas.audit_digest() d where (d.upto, d.rows, d.digest) = (p_upto, p_rows, p_digest)
                 and d.prev_mac is not distinct from p_prev_mac) then
    raise exception using errcode = 'AT005', message = 'seal_audit: this is not what audit_digest() says now',
      hint = 'take the digest and seal it in one transaction, repeatable read';
  end if;
  if exists (select from (select c.* from atlas.audit_checkpoint c order by c.id desc limit 1) last
             where last.next_check is distinct from sha256(p_proof)
               and not exists (select from atlas.audit a where a.xact >= last.upto and a.event = 'renew_audit_key')) then
    raise exception using errcode = 'AT006', message = 'seal_audit: the seal before was made with another key',
      hint = 'set the ATLAS_AUDIT_KEY that made it, or as an operator `select atlas.renew_audit_key()`';
  end if;
  insert into atlas.audit_checkpoint (upto, rows, digest, prev_mac, mac, next_check)
  values (p_upto, p_rows, p_digest, p_prev_mac, p_mac, p_next_check);
  perform atlas.emit('audit_seal', jsonb_build_object('upto', p_upto::text, 'rows', p_rows,
    'digest', encode(p_digest, 'hex'), 'mac', encode(p_mac, 'hex'), 'prev_mac', encode(p_prev_mac, 'hex')));
end
$$;

--
-- Name: FUNCTION seal_audit(p_upto xid8, p_rows bigint, p_digest bytea, p_prev_mac bytea, p_mac bytea, p_proof bytea, p_next_check bytea); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.seal_audit(p_upto xid8, p_rows bigint, p_digest bytea, p_prev_mac bytea, p_mac bytea, p_proof bytea, p_next_check bytea) IS 'Stores a seal, and sends it out by the outbox. p_proof: what the seal before left the hash of; p_next_check: the next one''s.';

--
-- Name: search_knowledge(text, integer, uuid, boolean); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.search_knowledge(p_query text, p_top_k integer DEFAULT 10, p_project uuid DEFAULT NULL::uuid, p_collapse boolean DEFAULT true) RETURNS TABLE(chunk_id bigint, source text, title text, kind text, commit text, heading text, start_line integer, end_line integer, text text, tokens integer, sha256 bytea, similarity real, similarity_kind text, score real)
    LANGUAGE sql STABLE ROWS 20
    SET search_path TO ''
    AS $$
  select * from rag.search(left(p_query, 8000), least(greatest(p_top_k, 1), 200), p_project, p_collapse)
$$;

--
-- Name: FUNCTION search_knowledge(p_query text, p_top_k integer, p_project uuid, p_collapse boolean); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.search_knowledge(p_query text, p_top_k integer, p_project uuid, p_collapse boolean) IS 'Chunks that the caller may read, best first, by their words: rag.search, where REST finds it.';

--
-- Name: architect_in; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.architect_in (
    id bigint NOT NULL,
    data jsonb NOT NULL,
    task_id uuid NOT NULL,
    sender uuid DEFAULT auth.uid(),
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT addresses_are_short CHECK (((COALESCE(length((data #>> '{metadata,reply_to}'::text[])), 0) <= 300) AND (COALESCE(length((data #>> '{metadata,sender_key}'::text[])), 0) <= 300))),
    CONSTRAINT data_is_an_object CHECK ((jsonb_typeof(data) = 'object'::text)),
    CONSTRAINT data_is_bounded CHECK ((octet_length((data)::text) <= 1048576))
);

--
-- Name: TABLE architect_in; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.architect_in IS 'Questions and control messages to Atlas: insert one JSON object into data. See docs/event_examples.';

--
-- Name: COLUMN architect_in.id; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.architect_in.id IS 'Order of arrival; not the order of commits.';

--
-- Name: COLUMN architect_in.data; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.architect_in.data IS 'The message: task_id, role, msg_type, content, metadata. At most 1 MiB.';

--
-- Name: COLUMN architect_in.task_id; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.architect_in.task_id IS 'Filled from data.task_id by the trigger.';

--
-- Name: COLUMN architect_in.sender; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.architect_in.sender IS 'The user who sent it (auth.uid()); null for the service role itself.';

--
-- Name: COLUMN architect_in.created_at; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.architect_in.created_at IS 'When the message was inserted.';

--
-- Name: CONSTRAINT addresses_are_short ON architect_in; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON CONSTRAINT addresses_are_short ON public.architect_in IS 'reply_to and sender_key are looked up by an index, whose entries are short.';

--
-- Name: CONSTRAINT data_is_an_object ON architect_in; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON CONSTRAINT data_is_an_object ON public.architect_in IS 'A message is one JSON object.';

--
-- Name: CONSTRAINT data_is_bounded ON architect_in; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON CONSTRAINT data_is_bounded ON public.architect_in IS 'At most 1 MiB.';

--
-- Name: sender_of(public.architect_in); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.sender_of(p_message public.architect_in) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$ select coalesce(p_message.sender::text, 'key:' || (p_message.data #>> '{metadata,sender_key}'), 'service') $$;

--
-- Name: FUNCTION sender_of(p_message public.architect_in); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.sender_of(p_message public.architect_in) IS 'The sender''s key of a message. Internal.';

--
-- Name: budget; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.budget (
    scope text NOT NULL,
    per_run integer,
    daily bigint,
    monthly bigint,
    usd_per_run numeric(14,6),
    usd_daily numeric(14,6),
    usd_monthly numeric(14,6),
    enforcement text DEFAULT 'hard'::text NOT NULL,
    when_spent text DEFAULT 'defer'::text NOT NULL,
    controlled text[] DEFAULT '{}'::text[] NOT NULL,
    set_by text GENERATED ALWAYS AS (
CASE
    WHEN (controlled = '{}'::text[]) THEN 'settings'::text
    ELSE 'control'::text
END) STORED NOT NULL,
    run_lowered_at timestamp with time zone,
    day_lowered_at timestamp with time zone,
    month_lowered_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT budget_controlled_check CHECK ((controlled <@ ARRAY['per_run'::text, 'daily'::text, 'monthly'::text, 'usd_per_run'::text, 'usd_daily'::text, 'usd_monthly'::text, 'enforcement'::text, 'when_spent'::text])),
    CONSTRAINT budget_daily_check CHECK ((daily >= 0)),
    CONSTRAINT budget_enforcement_check CHECK ((enforcement = ANY (ARRAY['hard'::text, 'soft'::text]))),
    CONSTRAINT budget_monthly_check CHECK ((monthly >= 0)),
    CONSTRAINT budget_per_run_check CHECK ((per_run >= 0)),
    CONSTRAINT budget_scope_check CHECK ((scope ~ '^(global|(project|sender|model):.+)$'::text)),
    CONSTRAINT budget_usd_daily_check CHECK ((usd_daily >= (0)::numeric)),
    CONSTRAINT budget_usd_monthly_check CHECK ((usd_monthly >= (0)::numeric)),
    CONSTRAINT budget_usd_per_run_check CHECK ((usd_per_run >= (0)::numeric)),
    CONSTRAINT budget_when_spent_check CHECK ((when_spent = ANY (ARRAY['defer'::text, 'reject'::text])))
);

--
-- Name: TABLE budget; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.budget IS 'Limits: the whole fleet''s (global), a project''s, a sender''s, a model''s. Null means none.';

--
-- Name: COLUMN budget.scope; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget.scope IS 'global, project:<id>, sender:<key> or model:<name>.';

--
-- Name: COLUMN budget.per_run; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget.per_run IS 'Tokens of one attempt, input and output together.';

--
-- Name: COLUMN budget.daily; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget.daily IS 'Tokens of one UTC day.';

--
-- Name: COLUMN budget.monthly; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget.monthly IS 'Tokens of one calendar month (UTC).';

--
-- Name: COLUMN budget.usd_per_run; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget.usd_per_run IS 'US dollars of one attempt.';

--
-- Name: COLUMN budget.usd_daily; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget.usd_daily IS 'US dollars of one UTC day.';

--
-- Name: COLUMN budget.usd_monthly; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget.usd_monthly IS 'US dollars of one calendar month (UTC).';

--
-- Name: COLUMN budget.enforcement; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget.enforcement IS 'hard: nothing is called beyond it. soft: it is only told of.';

--
-- Name: COLUMN budget.when_spent; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget.when_spent IS 'What a task does when it is spent. defer: waits for the next day or month. reject: fails.';

--
-- Name: COLUMN budget.controlled; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget.controlled IS 'Limits that set_budget set: those of a worker''s environment do not replace them.';

--
-- Name: COLUMN budget.set_by; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget.set_by IS 'settings: all from a worker''s environment; control: set_budget set some.';

--
-- Name: COLUMN budget.run_lowered_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget.run_lowered_at IS 'When a limit of a run last fell: what had been asked before waits, and never fails by it.';

--
-- Name: COLUMN budget.day_lowered_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget.day_lowered_at IS 'When a limit of a day last fell: what had been asked before waits, and never fails by it.';

--
-- Name: COLUMN budget.month_lowered_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget.month_lowered_at IS 'When a limit of a month last fell: what had been asked before waits, and never fails by it.';

--
-- Name: COLUMN budget.created_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget.created_at IS 'When the budget was first set, or first counted in.';

--
-- Name: COLUMN budget.updated_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget.updated_at IS 'When the row last changed.';

--
-- Name: set_budget(text, jsonb, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.set_budget(p_scope text, p_limits jsonb, p_set_by text DEFAULT 'control'::text) RETURNS atlas.budget
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  names constant text[] := array['per_run', 'daily', 'monthly', 'usd_per_run', 'usd_daily', 'usd_monthly'];
  old atlas.budget;
  result atlas.budget;
  wanted text[];
  fallen text[];
  v_day date;
begin
  if not (atlas.is_service() or atlas.caller_role() = 'atlas_worker') and not exists (
    select from atlas.member m where m.user_id = atlas.uid() and m.role = 'admin' and 'project:' || m.project_id = p_scope) then
    raise exception using errcode = 'AT006', message = format('set_budget: %s is not a project that you are an admin of', p_scope),
      hint = 'ask an admin of the project, or an operator';
  end if;
  if p_set_by not in ('control', 'settings') or (p_set_by = 'settings' and not (atlas.is_service() or atlas.caller_role() = 'atlas_worker')) then
    raise exception using errcode = 'AT006', message = format('set_budget: %L is for workers alone', p_set_by), hint = 'leave it out';
  end if;
  perform atlas.check_limits(p_scope, p_limits);
  if p_scope like 'project:%' and not exists (select from atlas.project p where p.id = atlas.as_uuid(substr(p_scope, 9))) then
    raise exception using errcode = 'AT004', message = format('set_budget: no project %s', substr(p_scope, 9)),
      hint = 'name a project by its id: select id, name from atlas.project';
  end if;
  insert into atlas.budget (scope) values (p_scope) on conflict do nothing;
  select b.* into old from atlas.budget b where b.scope = p_scope for no key update;
  wanted := array(select k from jsonb_object_keys(p_limits) k where p_set_by = 'control' or k <> all (old.controlled));
  update atlas.budget b set
    per_run = case when 'per_run' = any (wanted) then (p_limits ->> 'per_run')::numeric::integer else b.per_run end,
    daily = case when 'daily' = any (wanted) then (p_limits ->> 'daily')::numeric::bigint else b.daily end,
    monthly = case when 'monthly' = any (wanted) then (p_limits ->> 'monthly')::numeric::bigint else b.monthly end,
    usd_per_run = case when 'usd_per_run' = any (wanted) then (p_limits ->> 'usd_per_run')::numeric else b.usd_per_run end,
    usd_daily = case when 'usd_daily' = any (wanted) then (p_limits ->> 'usd_daily')::numeric else b.usd_daily end,
    usd_monthly = case when 'usd_monthly' = any (wanted) then (p_limits ->> 'usd_monthly')::numeric else b.usd_monthly end,
    enforcement = case when 'enforcement' = any (wanted) then p_limits ->> 'enforcement' else b.enforcement end,
    when_spent = case when 'when_spent' = any (wanted) then p_limits ->> 'when_spent' else b.when_spent end,
    controlled = case p_set_by when 'control' then array(select distinct x from unnest(b.controlled || wanted) x order by x)
                               else b.controlled end,
    updated_at = now()
  where b.scope = p_scope
  returning b.* into result;
  -- where there was no limit, the first one of a worker's settings lowers nothing
  fallen := array(select n from unnest(names) n where (to_jsonb(result) ->> n)::numeric
    < coalesce((to_jsonb(old) ->> n)::numeric, case p_set_by when 'control' then 'infinity'::numeric end));
  update atlas.budget b set
    run_lowered_at = case when fallen && array['per_run', 'usd_per_run'] then now() else b.run_lowered_at end,
    day_lowered_at = case when fallen && array['daily', 'usd_daily'] then now() else b.day_lowered_at end,
    month_lowered_at = case when fallen && array['monthly', 'usd_monthly'] then now() else b.month_lowered_at end
  where b.scope = p_scope and fallen <> '{}' returning b.* into result;
  if not found then
    select b.* into result from atlas.budget b where b.scope = p_scope;
  end if;
  if p_set_by = 'control' then
    perform atlas.append_audit(null, 'set_budget', jsonb_build_object('scope', p_scope) || p_limits);
  end if;
  -- a limit of a month counts what the month held before there was a budget
  if result.monthly is not null or result.usd_monthly is not null then
    for v_day in
      select distinct s.day from atlas.spend s
      where s.day between date_trunc('month', atlas.today())::date and atlas.today() order by s.day
    loop
      perform atlas.open_day(p_scope, v_day);
    end loop;
  end if;
  perform atlas.lock_days(array[atlas.today()], array[p_scope]);
  -- a higher limit may let in who waited for the next day, or for others
  perform atlas.wake_waiting(array(select distinct t.wait_scope from atlas.task t
    where t.wait_scope = p_scope or (t.wait_scope like 'sender:%' and p_scope ~ '^(global|project:)')), 100000, true);
  return result;
end
$$;

--
-- Name: FUNCTION set_budget(p_scope text, p_limits jsonb, p_set_by text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.set_budget(p_scope text, p_limits jsonb, p_set_by text) IS 'Sets limits of a scope: {"per_run": tokens, "daily", "monthly", "usd_per_run": dollars, "usd_daily", "usd_monthly",
"enforcement": hard|soft, "when_spent": defer|reject}; null removes one. What waits for it goes on at once.';

--
-- Name: set_retention(interval, interval); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.set_retention(p_tasks interval, p_texts interval DEFAULT NULL::interval) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if least(p_tasks, p_texts) < interval '1 day' then
    raise exception using errcode = 'AT005', message = format('set_retention: %s is too short', least(p_tasks, p_texts)),
      hint = 'keep tasks and texts for a day at least';
  end if;
  update atlas.control set keep_tasks = p_tasks, keep_texts = p_texts;
  perform atlas.append_audit(null, 'set_retention', jsonb_build_object('tasks', p_tasks, 'texts', p_texts));
end
$$;

--
-- Name: FUNCTION set_retention(p_tasks interval, p_texts interval); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.set_retention(p_tasks interval, p_texts interval) IS 'How long ended tasks stay, and how long their texts do; null: forever. Workers trim what is older, in batches, every minute.';

--
-- Name: set_spend_rules(jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.set_spend_rules(p_rules jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  share numeric;
begin
  select r.sender_daily_share into share from atlas.spend_rules r for no key update;
  update atlas.spend_rules r set
    hold_seconds = coalesce((p_rules ->> 'hold_seconds')::integer, r.hold_seconds),
    held_retry_seconds = coalesce((p_rules ->> 'held_retry_seconds')::integer, r.held_retry_seconds),
    hold_unknown = coalesce(p_rules ->> 'hold_unknown', r.hold_unknown),
    sender_daily_share = case when p_rules ? 'sender_daily_share' then (p_rules ->> 'sender_daily_share')::numeric
                              else r.sender_daily_share end;
  -- a larger share may let in who waited for the next day
  if exists (select from atlas.spend_rules r where coalesce(r.sender_daily_share, 1) > share) then
    perform atlas.wake_waiting(array(select distinct t.wait_scope from atlas.task t where t.wait_scope like 'sender:%'), 100000, true);
  end if;
end
$$;

--
-- Name: FUNCTION set_spend_rules(p_rules jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.set_spend_rules(p_rules jsonb) IS 'Sets {"hold_seconds", "held_retry_seconds", "hold_unknown", "sender_daily_share"} for the whole fleet.';

--
-- Name: settle_attempts(uuid[], jsonb, text, jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.settle_attempts(p_attempts uuid[], p_usages jsonb, p_event text DEFAULT 'record_usage'::text, p_details jsonb DEFAULT '{}'::jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  items jsonb;
  v_days date[];
  v_scopes text[];
begin
  update atlas.spend s set left_at = now(),
    response_id = coalesce(s.response_id, p_usages #>> array[s.attempt_id::text, s.call::text, 'response_id'])
  where s.attempt_id = any (p_attempts) and s.corrects is null and s.state = 'reserved'
    and coalesce(s.response_id, p_usages #>> array[s.attempt_id::text, s.call::text, 'response_id']) is not null
    and coalesce(p_usages -> s.attempt_id::text -> s.call::text, '{"known": "held"}') ->> 'known' = 'held';
  select jsonb_agg(jsonb_build_object('spend_id', s.id, 'usage',
      coalesce(u.usage, case when not s.unstored then '{"known": "held"}'::jsonb end))), array_agg(distinct s.day)
    into items, v_days
  from atlas.spend s cross join lateral (select p_usages -> s.attempt_id::text -> s.call::text as usage) u
  where s.attempt_id = any (p_attempts) and s.corrects is null
    and ((s.state = 'reserved' and s.left_at is null) or (u.usage is not null and (s.state = 'held' or s.known <> 'reported')));
  if items is null then
    if p_details <> '{}' then
      perform atlas.append_audits(p_event, array_agg(d.key::uuid), array_agg(d.value)) from jsonb_each(p_details) d;
    end if;
    return;
  end if;
  select array_agg(distinct x) into v_scopes from atlas.spend s cross join unnest(s.scopes) x
  where s.attempt_id = any (p_attempts) and s.corrects is null;
  perform atlas.settle_in(v_days, v_scopes, items, p_event, p_details);
end
$$;

--
-- Name: FUNCTION settle_attempts(p_attempts uuid[], p_usages jsonb, p_event text, p_details jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.settle_attempts(p_attempts uuid[], p_usages jsonb, p_event text, p_details jsonb) IS 'Settles what attempts still have reserved, in the audit row of what ends them. Internal.';

--
-- Name: settle_call(bigint, jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.settle_call(p_spend_id bigint, p_usage jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  call atlas.spend;
begin
  select s.* into call from atlas.spend s where s.id = p_spend_id;
  perform atlas.settle_in(array[call.day], call.scopes,
    jsonb_build_array(jsonb_build_object('spend_id', p_spend_id, 'usage', p_usage)));
end
$$;

--
-- Name: FUNCTION settle_call(p_spend_id bigint, p_usage jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.settle_call(p_spend_id bigint, p_usage jsonb) IS 'Settles or corrects one call. Internal: the caller holds its task.';

--
-- Name: settle_in(date[], text[], jsonb, text, jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.settle_in(p_days date[], p_scopes text[], p_items jsonb, p_event text DEFAULT 'record_usage'::text, p_details jsonb DEFAULT '{}'::jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  -- only a correction can make settled money fall, and let in who was deferred
  corrects constant boolean := exists (select from atlas.spend s where s.state = 'settled'
    and s.id = any (array(select (i ->> 'spend_id')::bigint from jsonb_array_elements(p_items) i)));
  tasks uuid[];
  details jsonb[];
begin
  perform atlas.lock_days(p_days, p_scopes);
  select array_agg(coalesce(c.task_id, d.key::uuid)), array_agg(coalesce(d.value, '{}')
      || case when c.task_id is not null then jsonb_build_object('calls', c.calls) else '{}' end)
    into tasks, details
  from atlas.settle_spends(p_items, p_days, p_scopes) c full join jsonb_each(p_details) d on d.key = c.task_id::text;
  if tasks is not null then
    perform atlas.append_audits(p_event, tasks, details);
  end if;
  perform atlas.announce_budgets(p_scopes);
  perform atlas.wake_waiting(p_scopes, 2 + 2 * jsonb_array_length(p_items), corrects);
end
$$;

--
-- Name: FUNCTION settle_in(p_days date[], p_scopes text[], p_items jsonb, p_event text, p_details jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.settle_in(p_days date[], p_scopes text[], p_items jsonb, p_event text, p_details jsonb) IS 'Settles calls of some days and budgets, and what follows from it. Internal: the caller holds their tasks.';

--
-- Name: settle_outbox(uuid, bigint[], jsonb, jsonb, bigint[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.settle_outbox(p_lease_owner uuid, p_sent bigint[], p_rejected jsonb DEFAULT '[]'::jsonb, p_failed jsonb DEFAULT '[]'::jsonb, p_released bigint[] DEFAULT '{}'::bigint[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  settled integer;
  item record;
  was record;
begin
  update atlas.outbox o set state = 'sent', sent_at = now(), lease_owner = null, lease_expires_at = null, last_error = null
  where o.id = any (p_sent) and o.lease_owner = p_lease_owner and o.state = 'pending';
  get diagnostics settled = row_count;
  update atlas.outbox o set lease_owner = null, lease_expires_at = null
  where o.id = any (p_released) and o.lease_owner = p_lease_owner and o.state = 'pending';
  -- the destination's trouble, not the row's: it waits, so that another row is tried meanwhile
  update atlas.outbox o set lease_owner = null, lease_expires_at = null, last_error = left(f.error, 500),
    run_after = now() + make_interval(secs => least(86400, greatest(0, coalesce(f.seconds, 0))))
  from jsonb_to_recordset(p_failed) as f (id bigint, error text, seconds double precision)
  where o.id = f.id and o.lease_owner = p_lease_owner and o.state = 'pending';
  for item in
    select r.id, left(r.error, 500) as error from jsonb_to_recordset(p_rejected) as r (id bigint, error text) order by r.id
  loop
    -- a sign of progress is worth no second try
    update atlas.outbox o set rejections = o.rejections + 1, last_error = item.error, lease_owner = null, lease_expires_at = null,
      state = case when o.event_kind = 'progress' then 'skipped' when o.rejections >= 2 then 'dead' else 'pending' end,
      run_after = now() + random() * 2 ^ o.rejections * interval '1 second'
    where o.id = item.id and o.lease_owner = p_lease_owner and o.state = 'pending'
    returning o.state, o.event_kind, coalesce(o.task_id, (select m.task_id from public.architect_out m where m.id = o.out_id)) as task,
      (select atlas.control_command(m.data) ->> 'command' from public.architect_out m where m.id = o.out_id) as command,
      o.id, o.event_id, o.destination_id into was;
    continue when not found;
    settled := settled + 1;
    -- the third rejection makes it dead and says so once; an escalation never escalates
    if was.state = 'dead' then
      perform atlas.append_audit(null, 'settle_outbox', jsonb_build_object('id', was.id, 'event_id', was.event_id,
        'destination', was.destination_id, 'state', 'dead'));
      if was.task is not null and was.command is distinct from 'escalate' then
        perform atlas.escalate(was.task, 'outbox_dead', item.error);
      elsif was.task is null then
        insert into public.architect_out (data, task_id)
        values (jsonb_build_object('task_id', was.event_id, 'role', 'architect', 'msg_type', 'control',
            'content', jsonb_build_object('command', 'escalate', 'event_id', was.event_id, 'code', 'outbox_dead')::text,
            'metadata', jsonb_build_object('status', 'failed', 'schema_ver', 2, 'error',
              jsonb_build_object('code', 'outbox_dead', 'message', was.event_kind || ': ' || item.error))), was.event_id);
      end if;
    end if;
  end loop;
  return settled;
end
$$;

--
-- Name: FUNCTION settle_outbox(p_lease_owner uuid, p_sent bigint[], p_rejected jsonb, p_failed jsonb, p_released bigint[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.settle_outbox(p_lease_owner uuid, p_sent bigint[], p_rejected jsonb, p_failed jsonb, p_released bigint[]) IS 'Settles leased rows: sent; rejected ([{"id","error"}]; the third makes a row dead); failed ([{"id","error","seconds"}], which
counts against no row); or released untouched.';

--
-- Name: settle_spends(jsonb, date[], text[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.settle_spends(p_items jsonb, p_days date[], p_scopes text[]) RETURNS TABLE(task_id uuid, calls jsonb)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  ids constant bigint[] := array(select (i ->> 'spend_id')::bigint from jsonb_array_elements(p_items) i);
begin
  return query
  with item as (
    select distinct on (s.id) s.id, s.task_id, s.attempt_id, s.call, s.model, s.price_from, s.tier, s.completion_window, s.day,
      s.scopes, s.reserved_tokens, s.reserved_usd, s.response_id, s.state <> 'settled' as was_open, s.tokens as was_tokens,
      s.usd as was_usd, s.input_tokens as was_input, s.cached_tokens as was_cached, s.cache_write_tokens as was_write,
      s.output_tokens as was_output, s.reasoning_tokens as was_reasoning,
      case when i.usage ->> 'known' in ('none', 'presumed_none', 'held') then i.usage ->> 'known'
           when i.usage ->> 'input_tokens' is null or i.usage ->> 'output_tokens' is null then 'unknown'
           else coalesce(i.usage ->> 'known', 'unknown') end as known,
      coalesce((i.usage ->> 'input_tokens')::bigint, 0) as input, coalesce((i.usage ->> 'cached_tokens')::bigint, 0) as cached,
      coalesce((i.usage ->> 'cache_write_tokens')::bigint, 0) as cache_write,
      coalesce((i.usage ->> 'output_tokens')::bigint, 0) as output,
      coalesce((i.usage ->> 'reasoning_tokens')::bigint, 0) as reasoning, i.usage ->> 'tier' as tier_given,
      i.usage ->> 'response_id' as response_given
    from jsonb_to_recordset(p_items) as i (spend_id bigint, usage jsonb)
    -- by the key: a plan made on an empty table would read the whole of a partial index instead
    join (select c.* from atlas.spend c where c.id = any (ids) offset 0) s on s.id = i.spend_id and s.corrects is null
    -- a call whose response is known meanwhile, by the webhook say, is not held: it stays with its task
    where (s.state <> 'settled' and not (coalesce(i.usage ->> 'known', '') = 'held' and s.response_id is not null))
      or (s.known <> 'reported' and i.usage ->> 'known' in ('reported', 'estimated') and i.usage ->> 'input_tokens' is not null
          and (select true from atlas.spend c where c.corrects = s.id and c.known = 'reported' limit 1) is null)
    order by s.id
  ),
  priced as (
    select i.*, f.factor,
      case i.known when 'unknown' then i.reserved_tokens else i.input + i.output end as new_tokens,
      case when i.known = 'unknown' then i.reserved_usd
           when i.known in ('none', 'presumed_none') then 0
           -- its price row was taken away meanwhile: the worst case counts
           when p.model is null then i.reserved_usd
           else atlas.cost(p, i.input, i.cached, i.output, i.cache_write, f.factor) end as new_usd
    from item i
    cross join lateral (select atlas.price_factor_of(coalesce(i.tier_given, i.tier), i.completion_window) as factor offset 0) f
    left join atlas.model_price p on p.model = i.model and p.valid_from = i.price_from
  ),
  moved as (
    -- what it counts already, with the corrections that were made of it
    select p.*, case when p.was_open then 0 else p.was_tokens + coalesce(c.tokens, 0) end as counted_tokens,
      case when p.was_open then 0 else coalesce(p.was_usd, 0) + coalesce(c.usd, 0) end as counted_usd,
      coalesce(p.was_input, 0) + coalesce(c.input_tokens, 0) as counted_input,
      coalesce(p.was_cached, 0) + coalesce(c.cached_tokens, 0) as counted_cached,
      coalesce(p.was_write, 0) + coalesce(c.cache_write_tokens, 0) as counted_write,
      coalesce(p.was_output, 0) + coalesce(c.output_tokens, 0) as counted_output,
      coalesce(p.was_reasoning, 0) + coalesce(c.reasoning_tokens, 0) as counted_reasoning
    from priced p
    left join lateral (
      select sum(x.tokens) as tokens, sum(x.usd) as usd, sum(x.input_tokens) as input_tokens, sum(x.cached_tokens) as cached_tokens,
        sum(x.cache_write_tokens) as cache_write_tokens, sum(x.output_tokens) as output_tokens, sum(x.reasoning_tokens) as reasoning_tokens
      from atlas.spend x where x.corrects = p.id and not p.was_open) c on true
  ),
  settled as (
    update atlas.spend s set state = 'settled', held_until = null, left_at = null, known = p.known,
      input_tokens = case when p.known <> 'unknown' then p.input end, cached_tokens = case when p.known <> 'unknown' then p.cached end,
      cache_write_tokens = case when p.known <> 'unknown' then p.cache_write end,
      output_tokens = case when p.known <> 'unknown' then p.output end,
      reasoning_tokens = case when p.known <> 'unknown' then p.reasoning end,
      tokens = p.new_tokens, usd = p.new_usd, tier_given = p.tier_given, factor = p.factor,
      response_id = coalesce(s.response_id, p.response_given),
      over_reservation = p.new_tokens > p.reserved_tokens, settled_at = now()
    from moved p where s.id = p.id and s.id = any (ids) and p.was_open and p.known <> 'held'
  ),
  held as (
    update atlas.spend s set state = 'held', held_until = now() + interval '1 second' * (r.hold_seconds
      + case s.completion_window when '2h' then 7200 when '8h' then 28800 else 0 end)
    from moved p, atlas.spend_rules r where s.id = p.id and s.id = any (ids) and s.state = 'reserved' and s.response_id is null and p.known = 'held'
  ),
  corrected as (
    insert into atlas.spend (task_id, attempt_id, call, corrects, state, model, price_from, tier, completion_window, tier_given,
      factor, day, scopes, reserved_tokens, response_id, input_tokens, cached_tokens, cache_write_tokens, output_tokens,
      reasoning_tokens, tokens, usd, known, settled_at)
    select p.task_id, p.attempt_id, p.call, p.id, 'settled', p.model, p.price_from, p.tier, p.completion_window, p.tier_given,
      p.factor, p.day, p.scopes, 0, p.response_id, p.input - p.counted_input, p.cached - p.counted_cached,
      p.cache_write - p.counted_write, p.output - p.counted_output, p.reasoning - p.counted_reasoning,
      p.new_tokens - p.counted_tokens, p.new_usd - p.counted_usd, p.known, now()
    from moved p where not p.was_open
  ),
  booked as (
    update atlas.budget_day d set
      reserved_tokens = d.reserved_tokens - x.released_tokens, reserved_usd = d.reserved_usd - x.released_usd,
      settled_tokens = d.settled_tokens + x.tokens, settled_usd = d.settled_usd + x.usd,
      overrun_tokens = greatest(0, d.overrun_tokens + x.overrun)
    from (
      select p.day, c.scope,
        coalesce(sum(p.reserved_tokens) filter (where p.was_open), 0) as released_tokens,
        coalesce(sum(p.reserved_usd) filter (where p.was_open), 0) as released_usd,
        sum(p.new_tokens - p.counted_tokens) as tokens, sum(coalesce(p.new_usd, 0) - p.counted_usd) as usd,
        sum(greatest(0, p.new_tokens - p.reserved_tokens) - greatest(0, p.counted_tokens - p.reserved_tokens)) as overrun
      from moved p cross join unnest(p.scopes) c (scope) where p.known <> 'held' group by p.day, c.scope) x
    where d.day = any (p_days) and d.scope = any (p_scopes) and d.day = x.day and d.scope = x.scope
  )
  select p.task_id, jsonb_agg(jsonb_strip_nulls(jsonb_build_object('call', p.call,
    'model', p.model, 'tokens', case when p.known <> 'held' then p.new_tokens - p.counted_tokens end,
    'usd', case when p.known <> 'held' then p.new_usd - p.counted_usd end, 'known', p.known,
    'corrects', case when not p.was_open then p.id end,
    'over_reservation', case when p.was_open and p.new_tokens > p.reserved_tokens then true end)) order by p.id)
  from moved p group by p.task_id;
end
$$;

--
-- Name: FUNCTION settle_spends(p_items jsonb, p_days date[], p_scopes text[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.settle_spends(p_items jsonb, p_days date[], p_scopes text[]) IS 'Settles, holds or corrects calls; says of each task what became of its calls, for the audit. Internal: the caller holds the locks.';

--
-- Name: share_of(uuid, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.share_of(p_project uuid, p_sender text) RETURNS TABLE(daily bigint, usd_daily numeric)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select floor(r.sender_daily_share * coalesce(p.daily, g.daily))::bigint, r.sender_daily_share * coalesce(p.usd_daily, g.usd_daily)
  from atlas.spend_rules r
  left join atlas.budget g on g.scope = 'global' and g.enforcement = 'hard'
  left join atlas.budget p on p.scope = 'project:' || p_project and p.enforcement = 'hard'
  where p_sender <> 'service'
$$;

--
-- Name: FUNCTION share_of(p_project uuid, p_sender text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.share_of(p_project uuid, p_sender text) IS 'What a sender without a budget of their own may spend a day; no row for the service role. Internal.';

--
-- Name: skip_outbox(bigint[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.skip_outbox(p_ids bigint[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  n integer;
begin
  update atlas.outbox set state = 'skipped', lease_owner = null, lease_expires_at = null
  where id = any (p_ids) and destination_id is not null
    and (state = 'dead' or (state = 'pending' and coalesce(lease_expires_at, '-infinity') <= now()));
  get diagnostics n = row_count;
  perform atlas.append_audit(null, 'skip_outbox', jsonb_build_object('ids', p_ids, 'rows', n));
  return n;
end
$$;

--
-- Name: FUNCTION skip_outbox(p_ids bigint[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.skip_outbox(p_ids bigint[]) IS 'Gives rows of the outbox up, dead ones or such as nobody takes, so that later rows of their tasks leave; says how many.';

--
-- Name: stale_documents(uuid, text[], text[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.stale_documents(p_project uuid, p_under text[], p_keep text[]) RETURNS text[]
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform atlas.require_member(p_project);
  return array(select s.source from rag.stale_documents(p_project, p_under, p_keep) s);
end
$$;

--
-- Name: FUNCTION stale_documents(p_project uuid, p_under text[], p_keep text[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.stale_documents(p_project uuid, p_under text[], p_keep text[]) IS 'Documents of a project under these folders that are none of those that are there, for its members.';

--
-- Name: uid(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.uid() RETURNS uuid
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  -- anybody who connects to Postgres may set request.jwt.claims: a token's user counts where PostgREST has checked it
  select case when atlas.caller_role() = 'authenticated' then auth.uid() end
$$;

--
-- Name: FUNCTION uid(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.uid() IS 'The user of a login; null for every role but authenticated, whatever request.jwt.claims says.';

--
-- Name: submit_task(jsonb, uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.submit_task(data jsonb, sender uuid DEFAULT atlas.uid()) RETURNS TABLE(task_id uuid, state text, created boolean)
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_id constant uuid := atlas.as_uuid(data ->> 'task_id');
begin
  if data ->> 'msg_type' = 'chat' and data ->> 'role' = 'architect' then
    return query select t.id, t.state, false from atlas.task t where t.id = v_id and t.kind = 'chat';
    if found then
      return;
    end if;
  end if;
  begin
    insert into public.architect_in (data, sender) values (submit_task.data, submit_task.sender);
    return query select v_id, 'queued', true;
  exception when unique_violation then
    return query select t.id, t.state, false from atlas.task t where t.id = v_id;
    if not found then
      raise;
    end if;
  end;
end
$$;

--
-- Name: FUNCTION submit_task(data jsonb, sender uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.submit_task(data jsonb, sender uuid) IS 'Sends a message. The same question again makes no second task: it answers with the first one''s state.';

--
-- Name: supersede(uuid, integer, integer, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.supersede(p_project uuid, p_number integer, p_by integer, p_reason text DEFAULT NULL::text) RETURNS atlas.decision
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  old atlas.decision;
  by_status text;
begin
  perform atlas.require_decider(p_project, 'supersede');
  perform 1 from atlas.project p where p.id = p_project for no key update;
  -- before any decision, as who erases does
  perform rag.lock_terms(rag.scope_of(p_project));
  select d.* into old from atlas.decision d where d.project_id = p_project and d.number = p_number;
  select d.status into by_status from atlas.decision d where d.project_id = p_project and d.number = p_by;
  if length(p_reason) > 2000 then
    perform atlas.refuse('reason', 'is longer than 2,000 characters', 'send its gist', 'AT001', 'supersede');
  end if;
  if old is null or by_status is null then
    raise exception using errcode = 'AT004', message = format('no decision ADR-%s in this project', case when old is null then p_number else p_by end),
      hint = 'see `atlas decisions` for their numbers';
  end if;
  if old.status = 'superseded' and old.superseded_by = p_by then
    return old;
  end if;
  if old.status <> 'accepted' or by_status <> 'accepted' or p_number = p_by then
    raise exception using errcode = 'AT005', message = case
        when p_number = p_by then format('ADR-%s cannot supersede itself', p_number)
        when old.status <> 'accepted' then format('ADR-%s is %s%s', p_number, old.status, coalesce(' by ADR-' || old.superseded_by, ''))
        else format('ADR-%s is %s', p_by, by_status) end,
      hint = 'one accepted decision supersedes another';
  end if;
  update atlas.decision d set status = 'superseded', superseded_by = p_by, superseded_at = now(), superseded_reason = p_reason
  where d.project_id = p_project and d.number = p_number returning d.* into old;
  perform atlas.index_decision(old);
  perform atlas.announce_decision(old, 'supersede');
  return old;
end
$$;

--
-- Name: FUNCTION supersede(p_project uuid, p_number integer, p_by integer, p_reason text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.supersede(p_project uuid, p_number integer, p_by integer, p_reason text) IS 'One accepted decision of a project takes the place of another. For deciders and admins; AT004, AT005 and AT006 say why not.';

--
-- Name: take_orphans(integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.take_orphans(p_limit integer DEFAULT 20) RETURNS TABLE(spend_id bigint, attempt_id uuid, response_id text)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  update atlas.spend s set asked_at = now()
  where s.id in (
    select o.id from atlas.spend o join atlas.task t on t.id = o.task_id
    where o.left_at is not null and (o.asked_at is null or o.asked_at < now() - interval '1 minute')
      -- one that the provider told of is still to be gone on with
      and (t.finished_at is not null or (t.attempt_id <> o.attempt_id and o.adopted_at is null))
    order by o.id limit p_limit for no key update of o skip locked)
  returning s.id, s.attempt_id, s.response_id
$$;

--
-- Name: FUNCTION take_orphans(p_limit integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.take_orphans(p_limit integer) IS 'Responses that no attempt reads any more and that are not settled: the caller cancels them and records their usage.';

--
-- Name: take_probes(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.take_probes() RETURNS SETOF text
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  update atlas.model_state s set probe_at = clock_timestamp() + interval '1 second'
  where s.model in (
    select d.model from atlas.model_state d
    where d.probe_at <= clock_timestamp() and (d.state = 'open' or (d.state = 'half_open' and d.trial_at <= clock_timestamp()))
    for no key update skip locked)
  returning s.model
$$;

--
-- Name: FUNCTION take_probes(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.take_probes() IS 'The models whose breaker is open, or half open and not tried, and whose probe is due; the caller probes them now.';

--
-- Name: take_trial(text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.take_trial(p_model text) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  with taken as (
    -- whoever tries and dies is followed by another
    update atlas.model_state s set trial_at = clock_timestamp() + interval '20 seconds'
    where s.model = p_model and s.state = 'half_open' and s.trial_at <= clock_timestamp()
    returning 1
  )
  select exists (select from taken)
    or not exists (select from atlas.model_state s where s.model = p_model and s.state <> 'closed')
$$;

--
-- Name: FUNCTION take_trial(p_model text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.take_trial(p_model text) IS 'Whether the caller may call a model now: its breaker is closed, or half open and this is the one call that is tried.';

--
-- Name: work_item; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.work_item (
    task_id uuid NOT NULL,
    number integer NOT NULL,
    state text NOT NULL,
    taken_by text NOT NULL,
    taken_at timestamp with time zone DEFAULT now() NOT NULL,
    decision_seen text,
    commit text,
    note text,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT work_item_commit_check CHECK ((commit ~ '^[0-9a-f]{7,64}$'::text)),
    CONSTRAINT work_item_note_check CHECK ((length(note) <= 4000)),
    CONSTRAINT work_item_number_check CHECK (((number >= 1) AND (number <= 200))),
    CONSTRAINT work_item_state_check CHECK ((state = ANY (ARRAY['taken'::text, 'done'::text, 'blocked'::text, 'dropped'::text])))
);

--
-- Name: TABLE work_item; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.work_item IS 'The state of work items that somebody has taken; the others are open.';

--
-- Name: COLUMN work_item.task_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.work_item.task_id IS 'The task whose reply asks for it.';

--
-- Name: COLUMN work_item.number; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.work_item.number IS 'Its place in the reply, from 1.';

--
-- Name: COLUMN work_item.state; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.work_item.state IS 'taken, done, blocked or dropped.';

--
-- Name: COLUMN work_item.taken_by; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.work_item.taken_by IS 'Who works on it: user:<id> of a login, else role:<database role>.';

--
-- Name: COLUMN work_item.taken_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.work_item.taken_at IS 'Since when.';

--
-- Name: COLUMN work_item.decision_seen; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.work_item.decision_seen IS 'How the decision stood when it was taken, such as accepted.';

--
-- Name: COLUMN work_item.commit; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.work_item.commit IS 'The commit that does it.';

--
-- Name: COLUMN work_item.note; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.work_item.note IS 'What whoever works on it says of it.';

--
-- Name: COLUMN work_item.updated_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.work_item.updated_at IS 'When it was last reported on.';

--
-- Name: take_work_item(uuid, integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.take_work_item(p_task uuid, p_number integer) RETURNS atlas.work_item
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  items jsonb := atlas.planned_items(p_task, 'take_work_item');
  v_decision text := atlas.decision_of(p_task);
  v_waits integer;
  found_item atlas.work_item;
begin
  perform 1 from atlas.task t where t.id = p_task for no key update;
  if p_number not between 1 and jsonb_array_length(items) then
    raise exception using errcode = 'AT004', message = format('task %s has no work item %s', p_task, p_number),
      hint = format('it has %s', jsonb_array_length(items));
  end if;
  if v_decision is not null and v_decision !~ ' accepted$' then
    raise exception using errcode = 'AT005', message = format('take_work_item: %s', v_decision), hint = 'work on what holds: see `atlas decisions`';
  end if;
  if v_decision is null and exists (select from atlas.open_draft d where d.task_id = p_task) then
    raise exception using errcode = 'AT005', message = format('take_work_item: the record of task %s is not accepted yet', p_task),
      hint = 'a decider accepts it: `atlas accept`';
  end if;
  select min(n.number) into v_waits from atlas.work_items(p_task) w cross join unnest(w.depends_on) as n (number)
  left join atlas.work_item o on o.task_id = p_task and o.number = n.number
  where w.number = p_number and n.number < p_number and o.state is distinct from 'done' and o.state is distinct from 'dropped';
  if v_waits is not null then
    raise exception using errcode = 'AT005', message = format('take_work_item: item %s depends on item %s, which is not done', p_number, v_waits),
      hint = 'take that one first';
  end if;
  insert into atlas.work_item as w (task_id, number, state, taken_by, decision_seen) values (p_task, p_number, 'taken', atlas.actor(), v_decision)
  on conflict (task_id, number) do update set state = 'taken', taken_by = excluded.taken_by, taken_at = now(), updated_at = now(),
    decision_seen = excluded.decision_seen
  where w.state = 'dropped' or w.taken_by = excluded.taken_by and w.state <> 'done' or w.taken_by like 'github:%' and w.state = 'taken'
  returning w.* into found_item;
  if found_item is null then
    select w.* into found_item from atlas.work_item w where w.task_id = p_task and w.number = p_number;
    raise exception using errcode = 'AT005', message = format('take_work_item: item %s is %s, by %s', p_number, found_item.state, found_item.taken_by),
      hint = 'take another one: atlas.work_items shows which are open';
  end if;
  perform atlas.append_audit(p_task, 'take_work_item', jsonb_build_object('item', p_number));
  return found_item;
end
$_$;

--
-- Name: FUNCTION take_work_item(p_task uuid, p_number integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.take_work_item(p_task uuid, p_number integer) IS 'The caller works on an item from now on. Of an accepted record or a plan, where what it depends on is done; AT005 says who else has it.';

--
-- Name: task_progress(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.task_progress(p_task_id uuid) RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
  select jsonb_build_object(
    'place', case when t.ready and t.kind = 'chat' then array_position(atlas.next_tasks(1000), t.id) end,
    'paused_at', (select c.paused_at from atlas.control c),
    'pause_reason', (select c.reason from atlas.control c),
    'workers', (select count(*) from atlas.worker w where w.state <> 'stopped' and w.seen_at > now() - interval '2 minutes'),
    'characters', (select coalesce(max(p."offset" + length(p.text)), 0) from atlas.reply_part p join atlas.attempt a on a.id = p.attempt_id
      where p.attempt_id = t.attempt_id and p.generation = a.generation),
    'usd', (select coalesce(sum(s.usd), 0) from atlas.spend s where s.task_id = t.id),
    'reserved_usd', (select coalesce(sum(s.reserved_usd), 0) from atlas.spend s where s.task_id = t.id and s.state in ('reserved', 'held')))
  from atlas.task t
  where t.id = p_task_id and (atlas.is_service() or atlas.owns_task(p_task_id))
$$;

--
-- Name: FUNCTION task_progress(p_task_id uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.task_progress(p_task_id uuid) IS 'What a task waits behind, and what it has cost and written so far. place: its turn among ready questions, null past a thousand; null for a task that the caller may not read.';

--
-- Name: task_state(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.task_state(p_task_id uuid) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select jsonb_build_object('task_id', t.id, 'state', t.state, 'wait_reason', t.wait_reason, 'run_after', t.run_after,
    'model', coalesce(t.model, a.model), 'queued_at', t.queued_at, 'finished_at', t.finished_at,
    'error_code', t.error_code, 'error_message', t.error_message,
    'expected_at', case when t.wait_reason = 'response' then (
      select max(s.reserved_at) + case max(s.completion_window) when '2h' then interval '2 hours' when '8h' then interval '8 hours' end
      from atlas.spend s where s.task_id = t.id and s.state = 'reserved') end,
    'reply', o.data -> 'content', 'metadata', o.data -> 'metadata', 'event_id', o.event_id)
  from atlas.task t
  left join atlas.attempt a on a.id = t.attempt_id
  left join public.architect_out o on o.id = t.out_id
  where t.id = p_task_id
$$;

--
-- Name: FUNCTION task_state(p_task_id uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.task_state(p_task_id uuid) IS 'Where a task stands, why it waits, and its reply once it has ended; null for a task that the caller may not read.';

--
-- Name: texts_of(jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.texts_of(p_list jsonb) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
  select coalesce(array_agg(left(e.item #>> '{}', 2000) order by e.place), '{}')
  from jsonb_array_elements(case jsonb_typeof(p_list) when 'array' then p_list else '[]' end) with ordinality as e (item, place)
  where jsonb_typeof(e.item) = 'string' and e.place <= 200
$$;

--
-- Name: FUNCTION texts_of(p_list jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.texts_of(p_list jsonb) IS 'The strings of a JSON list. Internal.';

--
-- Name: today(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.today() RETURNS date
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$ select (now() at time zone 'UTC')::date $$;

--
-- Name: FUNCTION today(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.today() IS 'The budget''s day: UTC.';

--
-- Name: trim_history(integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.trim_history(p_limit integer DEFAULT 200) RETURNS TABLE(tasks integer, texts integer, parts integer)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET jit TO 'off'
    AS $$
declare
  v_keep record;
  v_limit constant integer := least(greatest(p_limit, 1), 1000);
begin
  tasks := 0; texts := 0; parts := 0;
  -- one of the fleet at a time
  if pg_try_advisory_xact_lock(hashtextextended('atlas.trim_history', 0)) then
    select c.keep_tasks, c.keep_texts into v_keep from atlas.control c;
    if v_keep.keep_tasks is not null then
      tasks := atlas.trim_tasks(now() - v_keep.keep_tasks, v_limit);
    end if;
    if v_keep.keep_texts is not null then
      texts := atlas.trim_texts(now() - v_keep.keep_texts, v_limit);
    end if;
    parts := atlas.trim_parts(now() - interval '1 day', v_limit);
  end if;
  return next;
end
$$;

--
-- Name: FUNCTION trim_history(p_limit integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.trim_history(p_limit integer) IS 'Trims what the retention no longer keeps, at most so many of each: tasks; texts of tasks; parts of replies that were complete a day ago.';

--
-- Name: trim_inbound(interval); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.trim_inbound(p_keep interval DEFAULT '30 days'::interval) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  n integer;
begin
  delete from atlas.inbound i where i.received_at < now() - atlas.bounded(p_keep, '7 days', '10 years');
  get diagnostics n = row_count;
  delete from atlas.notification p where p.raised_at < now() - atlas.bounded(p_keep, '7 days', '10 years');
  return n;
end
$$;

--
-- Name: FUNCTION trim_inbound(p_keep interval); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.trim_inbound(p_keep interval) IS 'Forgets deliveries and notifications that are older than that; says how many deliveries.';

--
-- Name: trim_messages(interval); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.trim_messages(p_keep interval DEFAULT '1 day'::interval) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  n integer := 0;
begin
  if (select c.relkind from pg_class c where c.oid = to_regclass('realtime.messages')) = 'r'
     and has_table_privilege('realtime.messages', 'delete') then
    delete from realtime.messages m where m.inserted_at < now() at time zone 'UTC' - atlas.bounded(p_keep, '1 hour', '10 years');
    get diagnostics n = row_count;
  end if;
  return n;
end
$$;

--
-- Name: FUNCTION trim_messages(p_keep interval); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.trim_messages(p_keep interval) IS 'Forgets Realtime messages that are older than that, where the table is a plain one; says how many.';

--
-- Name: trim_outbox(interval, integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.trim_outbox(p_keep interval, p_limit integer DEFAULT 5000) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  n integer;
  more integer;
begin
  delete from atlas.outbox o where o.id in (
    select t.id from atlas.outbox t where t.state in ('sent', 'skipped') and t.created_at < now() - atlas.bounded(p_keep, '1 day', '10 years')
    order by t.created_at limit p_limit for update skip locked);
  get diagnostics n = row_count;
  delete from atlas.outbox o where o.id in (
    select t.id from atlas.outbox t where t.destination_id is null and t.state = 'pending' and t.created_at < now() - atlas.bounded(p_keep, '1 day', '10 years')
    order by t.position limit p_limit for update skip locked);
  get diagnostics more = row_count;
  return n + more;
end
$$;

--
-- Name: FUNCTION trim_outbox(p_keep interval, p_limit integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.trim_outbox(p_keep interval, p_limit integer) IS 'Deletes rows that were sent or skipped, or kept for no destination, longer ago than that; says how many.';

--
-- Name: trim_parts(timestamp with time zone, integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.trim_parts(p_before timestamp with time zone, p_limit integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_tasks uuid[];
  v_done uuid[];
  v_to timestamptz;
begin
  select array_agg(t.id), max(t.queued_at) into v_tasks, v_to
  from (
    select t.id, t.queued_at from atlas.task t
    where t.queued_at > (select c.parts_trimmed_to from atlas.control c) and t.queued_at < p_before
    -- those that were asked in one statement have one time
    order by t.queued_at fetch first p_limit rows with ties) t;
  if v_to is not null then
    update atlas.control set parts_trimmed_to = v_to;
  end if;
  with due as (
    delete from atlas.later_trim l where l.task_id = any (array(
      select x.task_id from atlas.later_trim x where x.due < now() order by x.due limit p_limit for update skip locked))
    returning l.task_id)
  select coalesce(v_tasks, '{}') || array(select due.task_id from due) into v_tasks;
  if cardinality(v_tasks) = 0 then
    return 0;
  end if;
  v_done := array(select t.id from atlas.task t where t.id = any (v_tasks) and t.state = 'completed' and t.finished_at < p_before);
  delete from atlas.reply_part p where p.task_id = any (v_done);
  insert into atlas.later_trim (task_id, due)
  select t.id, case when t.state = 'completed' then t.finished_at + (now() - p_before)
    -- it may be tried again by hand
    when t.finished_at is not null then now() + interval '7 days' else now() + interval '1 day' end
  from atlas.task t where t.id = any (v_tasks) and t.id <> all (v_done) and t.erased_at is null
  on conflict (task_id) do update set due = excluded.due;
  return cardinality(v_done);
end
$$;

--
-- Name: FUNCTION trim_parts(p_before timestamp with time zone, p_limit integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.trim_parts(p_before timestamp with time zone, p_limit integer) IS 'Deletes the parts of the next replies that were complete before a time. Internal.';

--
-- Name: trim_prompt_texts(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.trim_prompt_texts() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  n integer;
begin
  if not pg_try_advisory_xact_lock(hashtext('atlas.prompt_text'), 0) then
    return 0;
  end if;
  delete from atlas.prompt_text t where t.seen_at < now() - interval '1 day' and t.sha256 in (
    select o.sha256 from atlas.prompt_text o
    where o.seen_at < now() - interval '1 day' and not exists (select from (select unnest(p.texts) as sha256 from atlas.prompt p) used where used.sha256 = o.sha256)
    limit 10000);
  get diagnostics n = row_count;
  return n;
end
$$;

--
-- Name: FUNCTION trim_prompt_texts(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.trim_prompt_texts() IS 'Removes shared texts that no prompt has any more, a day after one last did. Says how many.';

--
-- Name: trim_tasks(timestamp with time zone, integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.trim_tasks(p_before timestamp with time zone, p_limit integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_tasks uuid[];
  v_in bigint[];
  v_messages uuid[];
  v_out bigint[];
begin
  select coalesce(array_agg(t.id), '{}'), array_agg(t.in_id), array_agg(t.message_task_id) into v_tasks, v_in, v_messages
  from (
    select t.id, t.in_id, t.message_task_id from atlas.task t
    where t.queued_at < p_before and t.finished_at < p_before
      -- of a call that nobody knows of, the provider may still tell
      and not exists (select from atlas.spend s where s.task_id = t.id and (s.state <> 'settled'
        or (s.known in ('unknown', 'presumed_none') and s.settled_at > now() - interval '7 days')))
      and not atlas.is_leaving(t.id, t.message_task_id)
    order by t.queued_at limit p_limit for update skip locked) t;
  if v_tasks = '{}' then
    return 0;
  end if;
  delete from atlas.reply_part p where p.task_id = any (v_tasks);
  delete from atlas.watch w where w.task_id = any (v_tasks);
  delete from atlas.post p where p.task_id = any (v_tasks);
  delete from rag.cache c where c.task_id = any (v_tasks);
  delete from atlas.attempt a where a.task_id = any (v_tasks);
  delete from atlas.task t where t.id = any (v_tasks);
  -- a command that names a task is answered under its id: that task's reply stays
  v_out := array(select o.id from public.architect_out o
    where o.task_id = any (v_messages)
      and not exists (select from atlas.task t where t.id = o.task_id or (t.message_task_id = o.task_id and t.out_id = o.id)));
  delete from atlas.outbox o where o.out_id = any (v_out);
  delete from public.architect_out o where o.id = any (v_out);
  delete from public.architect_in i where i.id = any (v_in);
  perform atlas.append_audits('trim_task', v_tasks, array_fill(jsonb '{}', array[cardinality(v_tasks)]));
  return cardinality(v_tasks);
end
$$;

--
-- Name: FUNCTION trim_tasks(p_before timestamp with time zone, p_limit integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.trim_tasks(p_before timestamp with time zone, p_limit integer) IS 'Deletes tasks that ended before a time, with their attempts, parts and messages, unless a call of theirs is open or unknown, or an event has not arrived. Internal.';

--
-- Name: trim_texts(timestamp with time zone, integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.trim_texts(p_before timestamp with time zone, p_limit integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  v_tasks constant uuid[] := array(
    select t.id from atlas.task t
    where t.erased_at is null and t.queued_at < p_before and t.finished_at < p_before
      and not atlas.is_leaving(t.id, t.message_task_id)
    order by t.queued_at limit p_limit for no key update skip locked);
begin
  if cardinality(v_tasks) > 0 then
    perform atlas.erase_texts(v_tasks);
  end if;
  return cardinality(v_tasks);
end
$$;

--
-- Name: FUNCTION trim_texts(p_before timestamp with time zone, p_limit integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.trim_texts(p_before timestamp with time zone, p_limit integer) IS 'Erases the texts of tasks that ended before a time, unless an event of theirs has not arrived yet. Internal.';

--
-- Name: user_of(text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.user_of(p_who text) RETURNS uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  found_id uuid := atlas.as_uuid(p_who);
begin
  if found_id is null then
    select u.id into found_id from auth.users u where lower(u.email) = lower(p_who);
  end if;
  if found_id is null then
    raise exception using errcode = 'AT004', message = format('no user %s has signed up', p_who),
      hint = 'they sign up first, or name them by their id';
  end if;
  return found_id;
end
$$;

--
-- Name: FUNCTION user_of(p_who text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.user_of(p_who text) IS 'The user of an id or an e-mail address; AT004 where there is none. Internal.';

--
-- Name: validate_message(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.validate_message() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
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

--
-- Name: FUNCTION validate_message(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.validate_message() IS 'Validates a message of architect_in, names its sender, refuses a second chat.';

--
-- Name: verify_audit(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.verify_audit() RETURNS TABLE(problem text, task_id uuid, audit_id bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select 'hash does not fit the row', a.task_id, a.id from atlas.audit a
  where a.hash <> atlas.audit_hash(a.prev_hash, a.task_id, a.seq, a.event, a.actor, a.at, a.detail)
  union all
  select 'chain is broken before this row', c.task_id, c.id
  from (select a.*, lag(a.hash) over w as earlier, lag(a.seq) over w as earlier_seq from atlas.audit a
        where a.task_id is not null window w as (partition by a.task_id order by a.seq)) c
  where c.prev_hash is distinct from c.earlier or c.seq <> coalesce(c.earlier_seq, 0) + 1
  union all
  select 'seal ' || s.id || ' does not fit its rows', null, null
  from (select c.id, c.digest, c.rows, c.upto, lag(c.upto) over (order by c.id) as since from atlas.audit_checkpoint c) s
  cross join lateral (
    select count(*) as rows, sha256(coalesce(string_agg(a.hash, ''::bytea order by a.id), ''::bytea)) as digest
    from atlas.audit a where a.xact < s.upto and (s.since is null or a.xact >= s.since)) n
  where n.rows <> s.rows or n.digest <> s.digest
  union all
  -- what people read against what was completed: who owns the database can change the one without the other
  select 'the reply is not the one that was completed', t.id, a.id
  from atlas.task t
  join lateral (select x.id, x.detail from atlas.audit x where x.task_id = t.id and x.event = 'complete_task'
                order by x.seq desc limit 1) a on a.detail ? 'message_sha256'
  left join public.architect_out o on o.id = t.out_id
  where t.state = 'completed' and (o.task_id is distinct from t.message_task_id
    or a.detail ->> 'message_sha256' is distinct from atlas.message_sha256(o.data))
    and not exists (select from atlas.audit x where x.task_id = t.id and x.event = 'erase')
  union all
  select 'the message is not the one that was submitted', t.id, a.id
  from atlas.task t
  join atlas.audit a on a.task_id = t.id and a.seq = 1 and a.event = 'submit_task' and a.detail ? 'message_sha256'
  left join public.architect_in i on i.id = t.in_id
  where a.detail ->> 'message_sha256' is distinct from atlas.message_sha256(i.data)
    and not exists (select from atlas.audit x where x.task_id = t.id and x.event = 'erase')
  union all
  select 'the task is gone, and no trim_task says so', a.task_id, a.id
  from atlas.audit a
  where a.seq = 1 and a.task_id is not null and a.event = 'submit_task' and not exists (select from atlas.task t where t.id = a.task_id)
    and not exists (select from atlas.audit x where x.task_id = a.task_id and x.event = 'trim_task')
$$;

--
-- Name: FUNCTION verify_audit(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.verify_audit() IS 'Every broken hash, chain or seal, and every message that is not the one that was submitted, or completed. The HMACs are checked where the key is.';

--
-- Name: wait_for_budget(atlas.task, jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.wait_for_budget(p_task atlas.task, p_answer jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  -- a settlement wakes it; the minute is a net for a wake-up that found the row locked
  perform atlas.release_task(p_task,
    case when p_answer ->> 'code' = 'held' then 'held' when p_answer ->> 'outcome' = 'wait' then 'reserved_budget' else 'settled_budget' end,
    coalesce((p_answer ->> 'until')::timestamptz, now() + interval '1 minute'), 'released', p_answer ->> 'code',
    p_answer ->> 'message');
  update atlas.task t set wait_scope = p_answer ->> 'scope' where t.id = p_task.id and t.wait_reason is not null;
  -- earlier calls of the attempt that nobody has settled
  perform atlas.settle_attempts(array[p_task.attempt_id], '{}');
end
$$;

--
-- Name: FUNCTION wait_for_budget(p_task atlas.task, p_answer jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.wait_for_budget(p_task atlas.task, p_answer jsonb) IS 'Hands a task back to the queue that no budget has room for now. Internal.';

--
-- Name: wait_for_holds(uuid[]); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.wait_for_holds(p_tasks uuid[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
  update atlas.task t set wait_reason = 'held', wait_scope = null,
    run_after = greatest(t.run_after, case when h.calls = 1 then now() + interval '1 second' * r.held_retry_seconds else h.ends end)
  from (
    select s.task_id, count(*) as calls, min(s.held_until) as ends, max(s.reserved_at) as latest from atlas.spend s
    where s.task_id = any (p_tasks) and s.state = 'held' and s.held_until > now() group by s.task_id) h
  cross join atlas.spend_rules r
  where t.id = h.task_id and t.state = 'queued' and t.cancel_requested_at is null
    -- a response that is known is asked for at once, whatever else is held
    and (select true from atlas.spend o where o.task_id = t.id and o.state = 'reserved' and o.response_id is not null limit 1) is null
$$;

--
-- Name: FUNCTION wait_for_holds(p_tasks uuid[]); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.wait_for_holds(p_tasks uuid[]) IS 'Makes tasks wait whose calls are held. Internal.';

--
-- Name: wake_upstream(integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.wake_upstream(p_limit integer DEFAULT 100000) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  woken integer;
begin
  with waiting as (
    select t.id, row_number() over (order by t.in_id) as n from (
      select w.id, w.in_id from atlas.task w where w.wait_reason = 'upstream' order by w.in_id limit p_limit
      for no key update skip locked) t
  )
  update atlas.task t set run_after = now() + interval '1 second' * least(3, w.n / 50.0 * random())
  from waiting w where t.id = w.id;
  get diagnostics woken = row_count;
  if woken > 0 then
    perform atlas.wake_workers();
  end if;
  return woken;
end
$$;

--
-- Name: FUNCTION wake_upstream(p_limit integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.wake_upstream(p_limit integer) IS 'Makes tasks due that waited for a model, spread over at most three seconds. Internal.';

--
-- Name: wake_waiting(text[], integer, boolean); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.wake_waiting(p_scopes text[], p_limit integer, p_all boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
begin
  update atlas.task t set wait_reason = null, wait_scope = null, run_after = now()
  where t.id in (
    select w.id from atlas.task w where w.wait_scope = any (p_scopes) and (p_all or w.wait_reason = 'reserved_budget')
    order by w.in_id limit p_limit for no key update skip locked);
  if found then
    perform atlas.wake_workers();
  end if;
end
$$;

--
-- Name: FUNCTION wake_waiting(p_scopes text[], p_limit integer, p_all boolean); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.wake_waiting(p_scopes text[], p_limit integer, p_all boolean) IS 'Makes tasks ready that waited for a budget. Internal.';

--
-- Name: wake_workers(boolean, integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.wake_workers(p_also_busy boolean DEFAULT false, p_queued integer DEFAULT NULL::integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  idle constant boolean := exists (
    select from atlas.worker w where w.state = 'idle' and w.seen_at > now() - interval '2 minutes');
begin
  if p_queued is not null or p_also_busy or idle then
    perform realtime.send(jsonb_strip_nulls(jsonb_build_object('queued', p_queued)), 'task_queued', 'atlas:wake', true);
  end if;
  -- NOTIFY takes a lock of the whole database until the commit is on disk: only where a worker needs it
  if p_also_busy or idle then
    notify atlas_wake;
  end if;
end
$$;

--
-- Name: FUNCTION wake_workers(p_also_busy boolean, p_queued integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.wake_workers(p_also_busy boolean, p_queued integer) IS 'Wakes idle workers, by NOTIFY and by a Realtime broadcast.';

--
-- Name: wants(jsonb, text); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.wants(wanted jsonb, value text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select wanted is null or coalesce(wanted ? value, false)
$$;

--
-- Name: FUNCTION wants(wanted jsonb, value text); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.wants(wanted jsonb, value text) IS 'Whether one field of a filter lets a value through: absent lets all through.';

--
-- Name: watch_audit(interval, integer); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.watch_audit(p_every interval DEFAULT '00:15:00'::interval, p_rows integer DEFAULT 100000) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
begin
  update atlas.control c set audit_checked_at = now()
  where c.audit_checked_at is null or c.audit_checked_at < now() - p_every;
  if found then
    update atlas.control set audit_broken = (
      select count(*) from (select a.* from atlas.audit a order by a.id desc limit least(p_rows, 1000000)) n
      left join lateral (
        select a.hash from atlas.audit a where a.task_id = n.task_id and a.seq = n.seq - 1 limit 1) earlier on true
      where n.hash <> atlas.audit_hash(n.prev_hash, n.task_id, n.seq, n.event, n.actor, n.at, n.detail)
        or (n.task_id is not null and (n.prev_hash is distinct from earlier.hash or (n.seq > 1 and earlier.hash is null))));
  end if;
  return (select c.audit_broken from atlas.control c);
end
$$;

--
-- Name: FUNCTION watch_audit(p_every interval, p_rows integer); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.watch_audit(p_every interval, p_rows integer) IS 'Checks the newest rows of the audit, unless a worker has done so lately; says how many do not fit the one before, or their hash.';

--
-- Name: watch_ledger(interval); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.watch_ledger(p_every interval DEFAULT '00:05:00'::interval) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  found_rows jsonb := jsonb '[]';
begin
  update atlas.control c set books_checked_at = now()
  where c.books_checked_at is null or c.books_checked_at < now() - p_every;
  if found then
    select coalesce(jsonb_agg(to_jsonb(l)), '[]') into found_rows from atlas.check_ledger(atlas.today() - 1) l;
    update atlas.control c set books_wrong = jsonb_array_length(found_rows);
  end if;
  return (select jsonb_build_object('wrong', c.books_wrong, 'rows', found_rows) from atlas.control c);
end
$$;

--
-- Name: FUNCTION watch_ledger(p_every interval); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.watch_ledger(p_every interval) IS 'Proves the books of today and yesterday, unless a worker has done so lately: {"wrong": rows, "rows": those found now}.';

--
-- Name: watch_task(uuid, uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.watch_task(p_task_id uuid, p_reader uuid) RETURNS timestamp with time zone
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  most constant integer := 50;
  v_expires_at timestamptz := clock_timestamp() + interval '30 seconds';
begin
  if p_reader is null then
    perform atlas.refuse('p_reader', 'is missing', 'send a UUID of your own making, the same at each renewal');
  end if;
  if not exists (select from atlas.task t where t.id = p_task_id) or not (atlas.is_service() or atlas.owns_task(p_task_id)) then
    raise exception using errcode = 'AT004', message = format('no task %s of yours', p_task_id), hint = 'see atlas.task_history';
  end if;
  update atlas.watch w set expires_at = v_expires_at where w.task_id = p_task_id and w.reader = p_reader
    and w.user_id is not distinct from atlas.uid();
  if found then
    return v_expires_at;
  end if;
  if (select count(*) from atlas.watch w where w.task_id = p_task_id and w.expires_at > now()) >= most
     or (select count(*) from atlas.watch w where w.user_id = atlas.uid() and w.expires_at > now()) >= most then
    return null;
  end if;
  insert into atlas.watch (task_id, reader, user_id, expires_at) values (p_task_id, p_reader, atlas.uid(), v_expires_at)
  on conflict do nothing;
  if not found then
    return null;
  end if;
  -- last, and only what nobody holds: whoever waits for another's row holds none itself
  delete from atlas.watch w where (w.task_id, w.reader) in (
    select o.task_id, o.reader from atlas.watch o where o.expires_at < now() - interval '1 minute'
    order by o.expires_at limit 20 for update skip locked);
  return v_expires_at;
end
$$;

--
-- Name: FUNCTION watch_task(p_task_id uuid, p_reader uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.watch_task(p_task_id uuid, p_reader uuid) IS 'Asks for broadcasts of a task''s text for 30 seconds, and renews that; answers when it ends. Null: too many watch already (50 a task, 50 a person), read the tables.';

--
-- Name: without_texts(jsonb); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.without_texts(p_data jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
  select jsonb_strip_nulls(jsonb_build_object('task_id', p_data -> 'task_id', 'role', p_data -> 'role', 'msg_type', p_data -> 'msg_type',
    'content', '[erased]', 'metadata', (
      select coalesce(jsonb_object_agg(m.key, m.value), '{}')
      from jsonb_each(case jsonb_typeof(p_data -> 'metadata') when 'object' then p_data -> 'metadata' else '{}' end) m
      where m.key in ('status', 'schema_ver', 'parent_id', 'priority', 'run_after', 'completion_window', 'project', 'reply_to', 'sender_key')
        or (p_data ->> 'msg_type' = 'spec' and m.key in ('tokens', 'model', 'usage', 'kind', 'truncated', 'chunk', 'traceparent')))))
$$;

--
-- Name: FUNCTION without_texts(p_data jsonb); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.without_texts(p_data jsonb) IS 'A message without what people or models wrote in it. Internal.';

--
-- Name: work_items(uuid); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.work_items(p_task uuid) RETURNS TABLE(number integer, title text, state text, taken_by text, taken_at timestamp with time zone, commit text, note text, depends_on integer[], item jsonb, decision text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $_$
begin
  return query
  select i.place::integer, i.one ->> 'title', coalesce(w.state, 'open'), w.taken_by, w.taken_at, w.commit, w.note,
    array(select e::integer from jsonb_array_elements_text(case jsonb_typeof(i.one -> 'depends_on') when 'array' then i.one -> 'depends_on' else '[]' end) e
      where e ~ '^\d{1,4}$'),
    i.one, atlas.decision_of(p_task)
  from jsonb_array_elements(atlas.planned_items(p_task, 'work_items')) with ordinality as i (one, place)
  left join atlas.work_item w on w.task_id = p_task and w.number = i.place
  order by i.place;
end
$_$;

--
-- Name: FUNCTION work_items(p_task uuid); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.work_items(p_task uuid) IS 'The work items of a reply, with how far each is: open, taken, done, blocked, dropped. For who may read it.';

--
-- Name: worst_cost(atlas.model_price, bigint, bigint, numeric); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.worst_cost(price atlas.model_price, input bigint, output bigint, factor numeric DEFAULT 1) RETURNS numeric
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select case when price.cache_write_usd > price.input_usd then atlas.cost(price, input, 0, output, input, factor)
              else atlas.cost(price, input, 0, output, 0, factor) end
$$;

--
-- Name: FUNCTION worst_cost(price atlas.model_price, input bigint, output bigint, factor numeric); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.worst_cost(price atlas.model_price, input bigint, output bigint, factor numeric) IS 'The most that a call can cost: all of its input at the dearest price that input can have.';

--
-- Name: xact_base(); Type: FUNCTION; Schema: atlas; Owner: -
--

CREATE FUNCTION atlas.xact_base() RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$ select 0::bigint $$;

--
-- Name: FUNCTION xact_base(); Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON FUNCTION atlas.xact_base() IS 'What is added to the numbers of this server''s transactions in the audit; atlas.continue_audit() replaces it in a restored copy. Internal.';

--
-- Name: add_job(jsonb, uuid, uuid); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.add_job(p_items jsonb, p_project uuid DEFAULT NULL::uuid, p_sender uuid DEFAULT NULL::uuid) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  job uuid;
begin
  insert into rag.embed_job (project_id, sender, total) values (p_project, p_sender, jsonb_array_length(p_items)) returning id into job;
  insert into rag.embed_item (job_id, seq, source, kind, text)
  select job, i.place - 1, i.item ->> 'source', i.item ->> 'kind', i.item ->> 'text'
  from jsonb_array_elements(p_items) with ordinality as i (item, place);
  return job;
end
$$;

--
-- Name: FUNCTION add_job(p_items jsonb, p_project uuid, p_sender uuid); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.add_job(p_items jsonb, p_project uuid, p_sender uuid) IS 'A job over documents {source, kind, text}; answers its id.';

--
-- Name: add_terms(); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.add_terms() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform rag.lock_terms(s.scope) from (
    select distinct rag.scope_of(d.project_id) as scope from born b join rag.document d on d.id = b.document_id order by 1) s;
  with fresh as materialized (
    select p.id as passage_id, n.scope, n.language, u.lexeme, least(cardinality(u.positions), 10)::smallint as occurrences,
      cardinality(u.positions) as times
    from (
      select distinct b.passage_id, rag.scope_of(d.project_id) as scope, d.language
      from born b join rag.document d on d.id = b.document_id
      where not exists (select from rag.passage_terms t
        where t.passage_id = b.passage_id and t.scope = rag.scope_of(d.project_id) and t.language = d.language)) n
    join rag.passage p on p.id = n.passage_id
    left join lateral unnest(rag.terms_of(n.language, p.heading || E'\n\n' || p.text)) u on true
  ),
  counted as materialized (
    select f.scope, f.language, f.lexeme, f.occurrences, count(*)::integer as passages
    from fresh f where f.lexeme is not null group by 1, 2, 3, 4
  ),
  grown as (
    update rag.term t set passages = t.passages + c.passages from counted c
    where t.scope = c.scope and t.language = c.language and t.lexeme = c.lexeme and t.occurrences = c.occurrences
    returning t.id, t.scope, t.language, t.lexeme, t.occurrences
  ),
  made as (
    insert into rag.term (scope, language, lexeme, occurrences, passages)
    select c.scope, c.language, c.lexeme, c.occurrences, c.passages from counted c
    where not exists (select from rag.term t
      where t.scope = c.scope and t.language = c.language and t.lexeme = c.lexeme and t.occurrences = c.occurrences)
    returning id, scope, language, lexeme, occurrences
  ),
  kept as (
    insert into rag.passage_terms (passage_id, scope, language, length, terms)
    select f.passage_id, f.scope, f.language, coalesce(sum(f.times), 0),
      coalesce(array_agg(k.id order by k.id) filter (where k.id is not null), '{}')
    from fresh f left join (select * from grown union all select * from made) k using (scope, language, lexeme, occurrences)
    group by 1, 2, 3
    returning scope, language, length
  )
  insert into rag.corpus as c (scope, language, passages, words)
  select k.scope, k.language, count(*), sum(k.length) from kept k group by 1, 2
  on conflict (scope, language) do update set passages = c.passages + excluded.passages, words = c.words + excluded.words;
  return null;
end
$$;

--
-- Name: FUNCTION add_terms(); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.add_terms() IS 'Counts the words of passages that a document shows now.';

--
-- Name: advance_epoch(uuid); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.advance_epoch(p_project uuid) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  insert into rag.epoch as e (project_id) values (p_project)
  on conflict (project_id) do update set number = e.number + 1
$$;

--
-- Name: FUNCTION advance_epoch(p_project uuid); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.advance_epoch(p_project uuid) IS 'Says that the index of a project changed. Internal.';

--
-- Name: advance_epochs(); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.advance_epochs() RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$ update rag.epoch set number = number + 1 $$;

--
-- Name: FUNCTION advance_epochs(); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.advance_epochs() IS 'Makes all that is cached stale: searches have other settings now.';

--
-- Name: cache_key(text, text, uuid[]); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.cache_key(p_query text, p_settings text, p_projects uuid[]) RETURNS bytea
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$ select sha256(convert_to(jsonb_build_array(p_query, p_settings, to_jsonb(p_projects))::text, 'UTF8')) $$;

--
-- Name: FUNCTION cache_key(p_query text, p_settings text, p_projects uuid[]); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.cache_key(p_query text, p_settings text, p_projects uuid[]) IS 'The key of a search in the cache. Internal.';

--
-- Name: candidates(text, text, integer, integer, uuid, boolean, real, text, text); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.candidates(p_query text, p_vector text, p_index integer, p_top_k integer, p_project uuid, p_collapse boolean, p_threshold real, p_prefix text, p_kind text) RETURNS TABLE(chunk_id bigint, similarity real, similarity_kind text, score real)
    LANGUAGE sql STABLE SECURITY DEFINER ROWS 20
    SET search_path TO ''
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
  select h.* from rag.hits(left(p_query, 8000), p_vector, p_index, least(p_top_k, 200),
    case when atlas.is_service() or atlas.caller_role() = 'atlas_rag' then array[p_project]
         else array(select m from atlas.my_projects() m where p_project is null or m = p_project) end,
    p_collapse, p_threshold, p_prefix, p_kind) h
$$;

--
-- Name: FUNCTION candidates(p_query text, p_vector text, p_index integer, p_top_k integer, p_project uuid, p_collapse boolean, p_threshold real, p_prefix text, p_kind text); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.candidates(p_query text, p_vector text, p_index integer, p_top_k integer, p_project uuid, p_collapse boolean, p_threshold real, p_prefix text, p_kind text) IS 'Ids of the chunks that the caller may read, best first. Use rag.search, which shows them.';

--
-- Name: cite_passages(); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.cite_passages() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  tasks uuid[];
  details jsonb[];
begin
  with named as materialized (
    select n.task_id, s.source ->> 'sha256' as sha256
    from new_rows n cross join lateral jsonb_array_elements(
      case when jsonb_typeof(n.data #> '{metadata,sources}') = 'array' then n.data #> '{metadata,sources}' else '[]' end
    ) as s (source)
    where s.source ->> 'sha256' ~ '^[0-9a-f]{64}$'
  ),
  kept as (
    insert into rag.citation (task_id, passage_id)
    select t.id, p.id from named m
    join rag.passage p on p.sha256 = decode(m.sha256, 'hex')
    join atlas.task t on t.id = m.task_id and t.kind = 'chat'
    group by t.id, p.id
    on conflict do nothing
    returning task_id, passage_id
  ),
  per_task as (
    select k.task_id, jsonb_build_object('passages', jsonb_agg(encode(p.sha256, 'hex') order by p.id)) as detail
    from kept k join rag.passage p on p.id = k.passage_id group by k.task_id
  )
  select array_agg(p.task_id), array_agg(p.detail) into tasks, details from per_task p;
  if tasks is not null then
    perform atlas.append_audits('cite_passages', tasks, details);
  end if;
  return null;
end
$_$;

--
-- Name: FUNCTION cite_passages(); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.cite_passages() IS 'Keeps the texts that a reply was written from, and names them in the audit.';

--
-- Name: claim_index(integer, uuid, interval); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.claim_index(p_index integer, p_owner uuid, p_lease interval) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  update rag.embedding_index s set lease_owner = p_owner, lease_expires_at = clock_timestamp() + atlas.bounded(p_lease, '0', '1 hour')
  where s.id = p_index and s.state <> 'retired'
    and (s.lease_owner = p_owner or coalesce(s.lease_expires_at, '-infinity') < clock_timestamp());
  return found;
end
$$;

--
-- Name: FUNCTION claim_index(p_index integer, p_owner uuid, p_lease interval); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.claim_index(p_index integer, p_owner uuid, p_lease interval) IS 'Claims (or extends) the right to fill an embedding index.';

--
-- Name: embed_job; Type: TABLE; Schema: rag; Owner: -
--

CREATE TABLE rag.embed_job (
    id uuid DEFAULT atlas.new_id() NOT NULL,
    project_id uuid,
    sender uuid,
    in_id bigint,
    repository text,
    ref text,
    changed text[] DEFAULT '{}'::text[] NOT NULL,
    removed text[] DEFAULT '{}'::text[] NOT NULL,
    state text DEFAULT 'queued'::text NOT NULL,
    total integer DEFAULT 0 NOT NULL,
    done integer DEFAULT 0 NOT NULL,
    errors jsonb DEFAULT '[]'::jsonb NOT NULL,
    lease_owner uuid,
    lease_expires_at timestamp with time zone,
    attempts integer DEFAULT 0 NOT NULL,
    run_after timestamp with time zone DEFAULT now() NOT NULL,
    last_error text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone,
    CONSTRAINT embed_job_attempts_check CHECK ((attempts >= 0)),
    CONSTRAINT embed_job_check CHECK (((done >= 0) AND (done <= total))),
    CONSTRAINT embed_job_errors_check CHECK ((jsonb_typeof(errors) = 'array'::text)),
    CONSTRAINT embed_job_state_check CHECK ((state = ANY (ARRAY['queued'::text, 'running'::text, 'completed'::text, 'failed'::text]))),
    CONSTRAINT embed_job_total_check CHECK ((total >= 0))
);

--
-- Name: TABLE embed_job; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TABLE rag.embed_job IS 'A batch of documents to index in the background.';

--
-- Name: COLUMN embed_job.id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.id IS 'What `GET /v1/jobs/{id}` asks for.';

--
-- Name: COLUMN embed_job.project_id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.project_id IS 'Whose documents; null: shared.';

--
-- Name: COLUMN embed_job.sender; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.sender IS 'The user who asked, and may see it; null: the service role.';

--
-- Name: COLUMN embed_job.in_id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.in_id IS 'The message on architect_in that asked for it.';

--
-- Name: COLUMN embed_job.repository; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.repository IS 'The Git URL to index; null: the documents are items.';

--
-- Name: COLUMN embed_job.ref; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.ref IS 'The commit or branch; null: the default branch.';

--
-- Name: COLUMN embed_job.changed; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.changed IS 'Paths that changed, as the message says; all files are compared by their hash.';

--
-- Name: COLUMN embed_job.removed; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.removed IS 'Paths that went, as the message says; whatever is no longer there is dropped.';

--
-- Name: COLUMN embed_job.state; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.state IS 'queued, running, completed, or failed for good.';

--
-- Name: COLUMN embed_job.total; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.total IS 'How many documents; of a repository, once it was read.';

--
-- Name: COLUMN embed_job.done; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.done IS 'How many of them are indexed, unchanged, or skipped with an error.';

--
-- Name: COLUMN embed_job.errors; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.errors IS 'What could not be indexed, and why.';

--
-- Name: COLUMN embed_job.lease_owner; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.lease_owner IS 'Who works on it.';

--
-- Name: COLUMN embed_job.lease_expires_at; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.lease_expires_at IS 'When another process may go on with it.';

--
-- Name: COLUMN embed_job.attempts; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.attempts IS 'How often somebody began.';

--
-- Name: COLUMN embed_job.run_after; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.run_after IS 'Not before: failures of the embedder wait longer each time.';

--
-- Name: COLUMN embed_job.last_error; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.last_error IS 'Why it waits, or failed.';

--
-- Name: COLUMN embed_job.created_at; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.created_at IS 'When it was asked for.';

--
-- Name: COLUMN embed_job.finished_at; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_job.finished_at IS 'When it ended.';

--
-- Name: claim_job(uuid, interval); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.claim_job(p_owner uuid, p_lease interval) RETURNS SETOF rag.embed_job
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  -- a newer job of the same repository reads all of it: an older one that comes late would bring back what was
  update rag.embed_job j set state = 'completed', finished_at = now(), last_error = 'a newer job of this repository stands for it'
  where j.id in (
    select o.id from rag.embed_job o
    where o.repository is not null
      and (o.state = 'queued' or (o.state = 'running' and o.lease_expires_at < clock_timestamp()))
      and exists (select from rag.embed_job w where w.repository = o.repository and w.project_id is not distinct from o.project_id
        and (w.created_at, w.id) > (o.created_at, o.id) and w.state <> 'failed')
    for update skip locked);
  update rag.embed_job j set state = 'running', lease_owner = p_owner, lease_expires_at = clock_timestamp() + atlas.bounded(p_lease, '0', '1 hour'),
    attempts = j.attempts + 1
  where j.id = (
    select d.id from rag.embed_job d
    where d.run_after <= now()
      and not exists (select from rag.embed_job r where r.repository = d.repository and r.id <> d.id
        and r.project_id is not distinct from d.project_id and r.state = 'running' and r.lease_expires_at >= clock_timestamp())
      and (d.state = 'queued' or (d.state = 'running' and d.lease_expires_at < clock_timestamp()))
    order by d.run_after, d.id limit 1 for update skip locked)
  returning j.*
$$;

--
-- Name: FUNCTION claim_job(p_owner uuid, p_lease interval); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.claim_job(p_owner uuid, p_lease interval) IS 'The next job that is due, or whose process was lost; none where there is none.';

--
-- Name: collect_passages(); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.collect_passages() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  n integer;
begin
  delete from rag.passage p where p.id in (
    select o.id from rag.passage o
    where o.seen_at < now() - interval '1 day'
      and not exists (select from rag.chunk c where c.passage_id = o.id)
      and not exists (select from rag.citation c where c.passage_id = o.id)
    order by o.id limit 10000 for update skip locked);
  get diagnostics n = row_count;
  return n;
end
$$;

--
-- Name: FUNCTION collect_passages(); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.collect_passages() IS 'Removes texts that no document and no audit refers to any more, a day after they were last shown. Says how many.';

--
-- Name: embedding_index; Type: TABLE; Schema: rag; Owner: -
--

CREATE TABLE rag.embedding_index (
    id integer NOT NULL,
    embedder text NOT NULL,
    model text NOT NULL,
    dimensions integer NOT NULL,
    state text DEFAULT 'building'::text NOT NULL,
    threshold real,
    usd_per_million numeric(12,6),
    lease_owner uuid,
    lease_expires_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT embedding_index_dimensions_check CHECK (((dimensions >= 1) AND (dimensions <= 4000))),
    CONSTRAINT embedding_index_embedder_check CHECK ((embedder ~ '^[a-z]+$'::text)),
    CONSTRAINT embedding_index_model_check CHECK ((model <> ''::text)),
    CONSTRAINT embedding_index_state_check CHECK ((state = ANY (ARRAY['building'::text, 'serving'::text, 'retired'::text]))),
    CONSTRAINT embedding_index_threshold_check CHECK (((threshold >= ('-1'::integer)::double precision) AND (threshold <= (1)::double precision))),
    CONSTRAINT embedding_index_usd_per_million_check CHECK ((usd_per_million >= (0)::numeric))
);

--
-- Name: TABLE embedding_index; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TABLE rag.embedding_index IS 'One embedder''s model at one dimension. Vectors of two indexes are never compared.';

--
-- Name: COLUMN embedding_index.id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embedding_index.id IS 'Its number.';

--
-- Name: COLUMN embedding_index.embedder; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embedding_index.embedder IS 'Who makes its vectors: openai, supabase, local.';

--
-- Name: COLUMN embedding_index.model; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embedding_index.model IS 'Its model.';

--
-- Name: COLUMN embedding_index.dimensions; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embedding_index.dimensions IS 'Numbers of a vector; at most 4,000, which is what an HNSW index of halfvec takes.';

--
-- Name: COLUMN embedding_index.state; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embedding_index.state IS 'serving: searched. building: filled in the background. retired: its vectors are gone.';

--
-- Name: COLUMN embedding_index.threshold; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embedding_index.threshold IS 'The relevancy threshold that `atlas rag calibrate --save` measured; it overrides the setting.';

--
-- Name: COLUMN embedding_index.usd_per_million; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embedding_index.usd_per_million IS 'US dollars per million tokens embedded; null: not known.';

--
-- Name: COLUMN embedding_index.lease_owner; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embedding_index.lease_owner IS 'Who fills it now.';

--
-- Name: COLUMN embedding_index.lease_expires_at; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embedding_index.lease_expires_at IS 'When somebody else may go on.';

--
-- Name: COLUMN embedding_index.created_at; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embedding_index.created_at IS 'When it was first asked for.';

--
-- Name: create_vector_index(rag.embedding_index); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.create_vector_index(p_index rag.embedding_index) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  execute format('create index if not exists %I on rag.embedding using hnsw '
    '((embedding::extensions.halfvec(%s)) extensions.halfvec_cosine_ops) where index_id = %s',
    'embedding_hnsw_' || p_index.id, p_index.dimensions, p_index.id);
end
$$;

--
-- Name: FUNCTION create_vector_index(p_index rag.embedding_index); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.create_vector_index(p_index rag.embedding_index) IS 'Makes the HNSW index of an embedding index. Internal.';

--
-- Name: drop_documents(uuid, text[]); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.drop_documents(p_project uuid, p_sources text[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  n integer;
begin
  perform rag.lock_terms(rag.scope_of(p_project));
  delete from rag.document d where d.project_id is not distinct from p_project and d.source = any (p_sources);
  get diagnostics n = row_count;
  if n > 0 then
    perform rag.advance_epoch(p_project);
  end if;
  return n;
end
$$;

--
-- Name: FUNCTION drop_documents(p_project uuid, p_sources text[]); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.drop_documents(p_project uuid, p_sources text[]) IS 'Drops documents; says how many there were.';

--
-- Name: embedding_indexes(); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.embedding_indexes() RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select coalesce(jsonb_agg(jsonb_build_object('id', s.id, 'embedder', s.embedder, 'model', s.model, 'dimensions', s.dimensions,
    'state', s.state, 'threshold', s.threshold, 'usd_per_million', s.usd_per_million) order by s.id), '[]')
  from rag.embedding_index s where s.state <> 'retired'
$$;

--
-- Name: FUNCTION embedding_indexes(); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.embedding_indexes() IS 'The embedding indexes that serve or are built.';

--
-- Name: end_job(uuid, uuid, text, text, interval, text[]); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.end_job(p_job uuid, p_owner uuid, p_state text, p_error text DEFAULT NULL::text, p_wait interval DEFAULT NULL::interval, p_errors text[] DEFAULT '{}'::text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  job rag.embed_job;
begin
  perform rag.hold_job(p_job, p_owner);
  update rag.embed_job j set state = p_state, lease_owner = null, lease_expires_at = null, last_error = p_error,
    errors = j.errors || to_jsonb(p_errors),
    run_after = now() + coalesce(p_wait, '0'), finished_at = case when p_state = 'queued' then null else now() end
  where j.id = p_job returning j.* into job;
  -- who sent docs.added hears on the bus that nothing came of it
  if p_state = 'failed' and job.in_id is not null then
    insert into public.architect_out (data, task_id, project_id)
    select jsonb_build_object('task_id', i.task_id, 'role', 'rag', 'msg_type', 'control', 'content', coalesce(p_error, 'it failed'),
      'metadata', jsonb_build_object('tokens', 0, 'model', null, 'parent_id', null, 'status', 'failed', 'schema_ver', 2,
        'kind', 'docs.added', 'error', jsonb_build_object('code', 'docs_added', 'message', coalesce(p_error, 'it failed')))),
      i.task_id, job.project_id
    from public.architect_in i where i.id = job.in_id;
  end if;
end
$$;

--
-- Name: FUNCTION end_job(p_job uuid, p_owner uuid, p_state text, p_error text, p_wait interval, p_errors text[]); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.end_job(p_job uuid, p_owner uuid, p_state text, p_error text, p_wait interval, p_errors text[]) IS 'completed, failed, or queued again after a wait: the embedder was away, and the job goes on where it was. A docs.added that
failed is answered on architect_out.';

--
-- Name: extend_job(uuid, uuid, interval, integer, integer); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.extend_job(p_job uuid, p_owner uuid, p_lease interval, p_total integer DEFAULT NULL::integer, p_done integer DEFAULT NULL::integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform rag.hold_job(p_job, p_owner);
  update rag.embed_job j set lease_expires_at = clock_timestamp() + atlas.bounded(p_lease, '0', '1 hour'), total = coalesce(p_total, j.total),
    done = coalesce(p_done, j.done) where j.id = p_job;
end
$$;

--
-- Name: FUNCTION extend_job(p_job uuid, p_owner uuid, p_lease interval, p_total integer, p_done integer); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.extend_job(p_job uuid, p_owner uuid, p_lease interval, p_total integer, p_done integer) IS 'Extends the lease, and says how far it is.';

--
-- Name: few_passages(uuid[], text, text); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.few_passages(p_projects uuid[], p_prefix text, p_kind text) RETURNS bigint[]
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $_$
declare
  wide boolean;
  few bigint[];
  may text := '(d.project_id is null or d.project_id = any ($1))';
begin
  if p_prefix <> '' then
    may := may || ' and d.source ^@ $2';
  end if;
  if p_kind <> '' then
    may := may || ' and d.kind = $3';
  end if;
  execute format('select coalesce(sum(x.chunks), 0) > 2000 or count(*) = 1000 from (select d.chunks from rag.document d where %s limit 1000) x', may)
    into wide using p_projects, p_prefix, p_kind;
  if not wide then
    execute format('select coalesce(array_agg(distinct c.passage_id), ''{}'') from rag.document d join rag.chunk c on c.document_id = d.id where %s', may)
      into few using p_projects, p_prefix, p_kind;
  end if;
  return few;
end
$_$;

--
-- Name: FUNCTION few_passages(p_projects uuid[], p_prefix text, p_kind text); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.few_passages(p_projects uuid[], p_prefix text, p_kind text) IS 'The passages that may be read where they are few, so that all of them are compared and nothing is missed; null: they are many. Internal.';

--
-- Name: find(text, text, integer, integer, uuid[], text, text); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.find(p_query text, p_vector text, p_index integer, p_many integer, p_projects uuid[], p_prefix text, p_kind text) RETURNS TABLE(passage_id bigint, words real, share real, cosine real)
    LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET jit TO 'off'
    SET enable_hashjoin TO 'on'
    AS $$
declare
  target rag.embedding_index;
  terms constant rag.weighed_term[] := array(select t from rag.weigh_terms(p_query, p_projects) t);
  -- words find what may be read by themselves; a filter may leave few, and vectors are exact among few
  few constant bigint[] := case when p_vector is not null or coalesce(p_prefix, '') <> '' or coalesce(p_kind, '') <> ''
    then rag.few_passages(p_projects, p_prefix, p_kind) end;
  found bigint[];
begin
  if p_vector is not null then
    select s.* into target from rag.embedding_index s where s.id = p_index and s.state = 'serving';
    if target.id is null then
      raise exception using errcode = 'AT005', message = format('search: embedding index %s does not serve', coalesce(p_index::text, 'null')),
        hint = 'embed the question with the embedder that rag.embedding_indexes() shows as serving';
    end if;
  end if;
  found := array(select w.passage_id from rag.find_words(terms, p_many, few, p_projects, p_prefix, p_kind) w);
  if p_vector is not null then
    found := array(select unnest(found) union
      select v.passage_id from rag.find_vectors(target, p_vector, p_many, few, p_projects, p_prefix, p_kind) v);
  end if;
  -- what one way found is measured by the other too
  return query
  select f.id, coalesce(w.score, 0), coalesce(w.share, 0), v.similarity
  from unnest(found) f (id)
  left join rag.score_words(terms, found) w on w.passage_id = f.id
  left join rag.score_vectors(target, p_vector, found) v on v.passage_id = f.id;
end
$$;

--
-- Name: FUNCTION find(p_query text, p_vector text, p_index integer, p_many integer, p_projects uuid[], p_prefix text, p_kind text); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.find(p_query text, p_vector text, p_index integer, p_many integer, p_projects uuid[], p_prefix text, p_kind text) IS 'What both ways find in projects that may be read and in shared documents: BM25, the share of the question''s words, the cosine. Internal.';

--
-- Name: find_vectors(rag.embedding_index, text, integer, bigint[], uuid[], text, text); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.find_vectors(p_index rag.embedding_index, p_vector text, p_many integer, p_few bigint[], p_projects uuid[], p_prefix text, p_kind text) RETURNS SETOF rag.neighbour
    LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100
    SET search_path TO ''
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $_$
declare
  near constant text := format('e.embedding::extensions.halfvec(%1$s) operator(extensions.<=>) $1::extensions.halfvec(%1$s)', p_index.dimensions);
  may text := '(d.project_id is null or d.project_id = any ($3))';
begin
  if p_few is not null then
    return query execute format('select n.passage_id, (1 - n.distance)::real from (select e.passage_id, %s as distance from unnest($2) r (id) '
      'join rag.embedding e on e.passage_id = r.id and e.index_id = %s offset 0) n order by n.distance limit %s', near, p_index.id, p_many)
      using p_vector, p_few;
    return;
  end if;
  if p_prefix <> '' then
    may := may || ' and d.source ^@ $4';
  end if;
  if p_kind <> '' then
    may := may || ' and d.kind = $5';
  end if;
  -- A filter leaves few of the nearest: the index goes on until there are enough (pgvector 0.8 and newer). Set here and not at the
  -- function, which only a superuser could do before pgvector is loaded.
  perform set_config('hnsw.iterative_scan', 'strict_order', true), set_config('hnsw.ef_search', '100', true),
    set_config('hnsw.max_scan_tuples', '40000', true);
  return query execute format(
    'select e.passage_id, (1 - (%1$s))::real from rag.embedding e where e.index_id = %2$s and (select true from rag.chunk c '
    'join rag.document d on d.id = c.document_id where c.passage_id = e.passage_id and %3$s limit 1) order by %1$s limit %4$s',
    near, p_index.id, may, p_many)
    using p_vector, p_few, p_projects, p_prefix, p_kind;
end
$_$;

--
-- Name: FUNCTION find_vectors(p_index rag.embedding_index, p_vector text, p_many integer, p_few bigint[], p_projects uuid[], p_prefix text, p_kind text); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.find_vectors(p_index rag.embedding_index, p_vector text, p_many integer, p_few bigint[], p_projects uuid[], p_prefix text, p_kind text) IS 'The passages that may be read and whose vectors are nearest to a question''s. Internal.';

--
-- Name: find_words(rag.weighed_term[], integer, bigint[], uuid[], text, text); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.find_words(p_terms rag.weighed_term[], p_many integer, p_few bigint[], p_projects uuid[], p_prefix text, p_kind text) RETURNS TABLE(passage_id bigint, score real)
    LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
begin
  if p_few is not null and (coalesce(p_prefix, '') <> '' or coalesce(p_kind, '') <> '') then
    return query select s.passage_id, s.score from rag.score_words(p_terms, p_few) s order by 2 desc, 1 limit p_many;
  else
    -- terms belong to a scope: what they find may be read. Of what a filter leaves, nothing is cut off before it
    return query
    select g.passage_id, max(g.score) from (select f.passage_id, f.score from (
      select t.id, t.passage_id, sum(x.gain / (x.base + x.slope * t.length))::real as score
      from unnest(p_terms) x cross join lateral (
        select p.id, p.passage_id, p.length from rag.passage_terms p where p.terms @> array[x.id] limit 8000) t
      where x.leads group by 1, 2 order by 3 desc, 1
      limit case when coalesce(p_prefix, '') = '' and coalesce(p_kind, '') = '' then 2 * p_many end) f
    where coalesce(p_prefix, '') = '' and coalesce(p_kind, '') = '' or exists (
      select from rag.chunk c cross join lateral (select d.* from rag.document d where d.id = c.document_id offset 0) d
      where c.passage_id = f.passage_id and (d.project_id is null or d.project_id = any (p_projects))
        and (coalesce(p_prefix, '') = '' or d.source ^@ p_prefix) and (coalesce(p_kind, '') = '' or d.kind = p_kind) offset 0)
    limit 2 * p_many) g
    group by 1 order by 2 desc, 1 limit p_many;
  end if;
end
$$;

--
-- Name: FUNCTION find_words(p_terms rag.weighed_term[], p_many integer, p_few bigint[], p_projects uuid[], p_prefix text, p_kind text); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.find_words(p_terms rag.weighed_term[], p_many integer, p_few bigint[], p_projects uuid[], p_prefix text, p_kind text) IS 'The passages that may be read and that score best by the leading words of a question. Internal.';

--
-- Name: finish_item(uuid, uuid, integer, text); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.finish_item(p_job uuid, p_owner uuid, p_seq integer, p_error text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform rag.hold_job(p_job, p_owner);
  update rag.embed_item i set done = true, text = '' where i.job_id = p_job and i.seq = p_seq and not i.done;
  if found then
    -- a job that gets on is not given up
    update rag.embed_job j set done = j.done + 1, attempts = 0,
      errors = case when p_error is null then j.errors else j.errors || jsonb_build_array(p_error) end where j.id = p_job;
  end if;
end
$$;

--
-- Name: FUNCTION finish_item(p_job uuid, p_owner uuid, p_seq integer, p_error text); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.finish_item(p_job uuid, p_owner uuid, p_seq integer, p_error text) IS 'A document of a job is done, in the transaction that shows it; with an error: it is skipped.';

--
-- Name: forget_repository(uuid, text); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.forget_repository(p_project uuid, p_name text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  -- what was dropped on purpose does not come back at night
  delete from rag.embed_job j where j.repository = rtrim(p_name, '/') and j.state in ('completed', 'failed')
    and j.project_id is not distinct from p_project;
  return rag.drop_documents(p_project, array(select s.source from rag.stale_documents(p_project, array[p_name], '{}') s));
end
$$;

--
-- Name: FUNCTION forget_repository(p_project uuid, p_name text); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.forget_repository(p_project uuid, p_name text) IS 'Drops a repository, a folder or a document, and no longer indexes the repository anew at night; says how many documents.';

--
-- Name: hits(text, text, integer, integer, uuid[], boolean, real, text, text); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.hits(p_query text, p_vector text, p_index integer, p_top_k integer, p_projects uuid[], p_collapse boolean, p_threshold real, p_prefix text, p_kind text) RETURNS SETOF rag.hit
    LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 20
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    SET enable_hashjoin TO 'on'
    AS $$
begin
  if p_top_k is null or p_top_k < 1 then
    return;
  end if;
  return query
  with fused as materialized (
    select f.passage_id, coalesce(f.cosine, f.share) as similarity, case when f.cosine is null then 'words' else 'cosine' end as kind,
      case when p_vector is null then f.words
        -- the longer the question, the more its words count: half where its best passage scores as one word that is found nowhere else
        else (1 - r.vector_weight) * f.words / (max(f.words) over () + rarest)
          + r.vector_weight * coalesce(f.cosine / nullif(max(f.cosine) over (), 0), 0) end as score,
      -- a threshold that is given is for cosines where there are vectors
      coalesce(case when f.cosine is not null or p_vector is null then p_threshold end, case when f.cosine is null then r.words_threshold end, -1) as least
    -- each way finds more than is asked for: the threshold and the collapse leave some out
    from rag.find(p_query, p_vector, p_index, greatest(4 * p_top_k, 100), p_projects, p_prefix, p_kind) f cross join rag.ranking r
    cross join rag.rarest_weight(p_projects) rarest
  ),
  placed as (
    select c.id, f.similarity, f.kind, f.score, d.source, c.seq, row_number() over (partition by d.id order by f.score desc, c.seq) as place
    from fused f cross join lateral (select c.* from rag.chunk c where c.passage_id = f.passage_id offset 0) c
    cross join lateral (select d.* from rag.document d where d.id = c.document_id offset 0) d
    where f.similarity >= f.least and (d.project_id is null or d.project_id = any (p_projects))
      and (coalesce(p_prefix, '') = '' or d.source ^@ p_prefix) and (coalesce(p_kind, '') = '' or d.kind = p_kind)
  )
  select l.id, l.similarity, l.kind, l.score::real from placed l where not coalesce(p_collapse, true) or l.place = 1
  order by l.score desc, l.source, l.seq limit p_top_k;
end
$$;

--
-- Name: FUNCTION hits(p_query text, p_vector text, p_index integer, p_top_k integer, p_projects uuid[], p_collapse boolean, p_threshold real, p_prefix text, p_kind text); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.hits(p_query text, p_vector text, p_index integer, p_top_k integer, p_projects uuid[], p_collapse boolean, p_threshold real, p_prefix text, p_kind text) IS 'Chunks by words and vectors, of projects that may be read and of shared documents. Internal.';

--
-- Name: hold_job(uuid, uuid); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.hold_job(p_job uuid, p_owner uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform from rag.embed_job j where j.id = p_job and j.state = 'running' and j.lease_owner = p_owner for update;
  if not found then
    raise exception using errcode = 'AT002', message = format('the lease of job %s is lost', p_job),
      hint = 'another process goes on with it';
  end if;
end
$$;

--
-- Name: FUNCTION hold_job(p_job uuid, p_owner uuid); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.hold_job(p_job uuid, p_owner uuid) IS 'Raises AT002 where somebody else has the job now. Internal.';

--
-- Name: index_epoch(uuid[]); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.index_epoch(p_projects uuid[]) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
begin
  return (select coalesce(string_agg(coalesce(e.project_id::text, '') || ':' || e.number, ',' order by e.project_id nulls first), '')
    from rag.epoch e where e.project_id is null or e.project_id = any (p_projects));
end
$$;

--
-- Name: FUNCTION index_epoch(p_projects uuid[]); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.index_epoch(p_projects uuid[]) IS 'The state of the index as far as some projects see it; empty: nothing was ever indexed.';

--
-- Name: index_status(); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.index_status() RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select jsonb_build_object(
    'documents', (select count(*) from rag.document), 'chunks', (select count(*) from rag.chunk),
    'passages', (select count(*) from rag.passage),
    'jobs_waiting', (select count(*) from rag.embed_job j where j.state in ('queued', 'running')),
    'jobs_failed', (select count(*) from rag.embed_job j where j.state = 'failed'),
    'embedding_indexes', (
      select coalesce(jsonb_agg(jsonb_build_object('embedder', i.embedder, 'model', i.model, 'dimensions', i.dimensions,
        'state', i.state, 'threshold', i.threshold,
        'vectors', (select count(*) from rag.embedding e where e.index_id = i.id),
        'tokens', (select coalesce(sum(u.tokens), 0) from rag.usage u where u.index_id = i.id),
        'usd', (select sum(u.usd) from rag.usage u where u.index_id = i.id)) order by i.id), '[]')
      from rag.embedding_index i))
$$;

--
-- Name: FUNCTION index_status(); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.index_status() IS 'What is indexed, by which embedder, what it cost, and which jobs wait: `atlas rag status`.';

--
-- Name: known_documents(uuid, text[]); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.known_documents(p_project uuid, p_sources text[]) RETURNS TABLE(source text, content_sha256 bytea)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select d.source, d.content_sha256 from rag.document d
  where d.project_id is not distinct from p_project and d.source = any (p_sources)
$$;

--
-- Name: FUNCTION known_documents(p_project uuid, p_sources text[]); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.known_documents(p_project uuid, p_sources text[]) IS 'Hashes of what is indexed, so that unchanged files cost nothing.';

--
-- Name: known_vectors(integer, bytea[]); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.known_vectors(p_index integer, p_hashes bytea[]) RETURNS SETOF bytea
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  -- marked as in use: who asks is about to show them, and nobody collects them meanwhile
  with used as (
    update rag.passage p set seen_at = now() where p.id in (
      select o.id from rag.passage o where o.sha256 = any (p_hashes) order by o.id for no key update)
    returning p.id, p.sha256)
  select u.sha256 from used u join rag.embedding e on e.passage_id = u.id and e.index_id = p_index
$$;

--
-- Name: FUNCTION known_vectors(p_index integer, p_hashes bytea[]); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.known_vectors(p_index integer, p_hashes bytea[]) IS 'Which texts have a vector in an embedding index, so that none is embedded twice.';

--
-- Name: language_of(text, text); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.language_of(p_kind text, p_text text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $_$
declare
  plain constant text := translate(left(p_text, 2000), '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32));
  words constant integer := coalesce((select sum(cardinality(w.positions)) from unnest(to_tsvector('simple', plain)) w), 0);
  stopped real;
  best real := 0.15;
  found text := case when words < 25 then 'english' else 'simple' end;
  candidate text;
begin
  if p_kind = 'code' or words = 0 then
    return 'simple';
  end if;
  foreach candidate in array array['english', 'german', 'french', 'spanish', 'portuguese', 'italian', 'dutch', 'russian', 'swedish', 'danish',
      'norwegian', 'finnish', 'hungarian', 'turkish'] loop
    stopped := 1 - coalesce((select sum(cardinality(w.positions)) from unnest(to_tsvector(candidate::regconfig, plain)) w), 0)::real / words;
    if stopped > best and stopped * words > 2.5 or candidate = 'english' and stopped > 0.05 then
      best := greatest(best, stopped);
      found := candidate;
    end if;
    exit when candidate = 'english' and stopped > 0.25;
  end loop;
  return found;
end
$_$;

--
-- Name: FUNCTION language_of(p_kind text, p_text text); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.language_of(p_kind text, p_text text) IS 'The text search configuration for a document: its language by its stop words; simple for code, and where it cannot be told.';

--
-- Name: lock_terms(uuid); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.lock_terms(p_scope uuid) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$ select pg_advisory_xact_lock(hashtext('rag.term'), hashtext(p_scope::text)) $$;

--
-- Name: FUNCTION lock_terms(p_scope uuid); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.lock_terms(p_scope uuid) IS 'Waits for others who index in this scope. Internal.';

--
-- Name: mark_passages(); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.mark_passages() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  update rag.passage p set seen_at = now() where p.id in (
    -- in the order of rag.put_passages
    select o.id from rag.passage o where o.id in (select g.passage_id from gone g) order by o.sha256 for no key update);
  return null;
end
$$;

--
-- Name: FUNCTION mark_passages(); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.mark_passages() IS 'Marks the texts of chunks that went as used until now.';

--
-- Name: missing_vectors(integer, bigint, integer); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.missing_vectors(p_index integer, p_after bigint, p_limit integer) RETURNS TABLE(passage_id bigint, heading text, text text, tokens integer)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select p.id, p.heading, p.text, p.tokens from rag.passage p
  where p.id > p_after
    and not exists (select from rag.embedding e where e.index_id = p_index and e.passage_id = p.id)
    and exists (select from rag.chunk c where c.passage_id = p.id)
  order by p.id limit p_limit
$$;

--
-- Name: FUNCTION missing_vectors(p_index integer, p_after bigint, p_limit integer); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.missing_vectors(p_index integer, p_after bigint, p_limit integer) IS 'Passages in use that have no vector in an embedding index yet.';

--
-- Name: open_index(text, text, integer, numeric, boolean); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.open_index(p_embedder text, p_model text, p_dimensions integer, p_usd numeric DEFAULT NULL::numeric, p_revive boolean DEFAULT true) RETURNS rag.embedding_index
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  found rag.embedding_index;
  other integer;
begin
  -- a plain read decides for the common case
  select s.* into found from rag.embedding_index s
  where s.embedder = p_embedder and s.model = p_model and s.dimensions = p_dimensions;
  if found.state <> 'retired' and found.usd_per_million is not distinct from coalesce(p_usd, found.usd_per_million) then
    return found;
  end if;
  if found.state = 'retired' and not p_revive then
    -- two processes with different settings would else embed everything in turns
    raise exception using errcode = 'AT005', message = format('%s %s was retired: another embedder took over', p_embedder, p_model),
      hint = 'give all processes the same RAG_EMBED settings, and start this one again';
  end if;
  perform pg_advisory_xact_lock(hashtext('rag.embedding_index'));
  -- another move is given up: what was built for it so far goes
  for other in select s.id from rag.embedding_index s where s.state = 'building'
    and not (s.embedder = p_embedder and s.model = p_model and s.dimensions = p_dimensions)
  loop
    perform rag.retire_index(other);
  end loop;
  insert into rag.embedding_index as s (embedder, model, dimensions, usd_per_million)
  values (p_embedder, p_model, p_dimensions, p_usd)
  on conflict (embedder, model, dimensions) do update set usd_per_million = coalesce(p_usd, s.usd_per_million),
    state = case s.state when 'retired' then 'building' else s.state end
  returning * into found;
  -- while it is empty: the index fills with the vectors, and the switch waits for nothing
  perform rag.create_vector_index(found);
  if found.state = 'building' and not exists (select from rag.chunk)
     and not exists (select from rag.embedding_index s where s.state = 'serving') then
    update rag.embedding_index s set state = 'serving' where s.id = found.id returning * into found;
  end if;
  return found;
end
$$;

--
-- Name: FUNCTION open_index(p_embedder text, p_model text, p_dimensions integer, p_usd numeric, p_revive boolean); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.open_index(p_embedder text, p_model text, p_dimensions integer, p_usd numeric, p_revive boolean) IS 'The embedding index of an embedder. A new one is built beside the one that serves; with nothing indexed yet it serves at once.';

--
-- Name: passage_hash(text, text); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.passage_hash(p_heading text, p_text text) RETURNS bytea
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$ select sha256(convert_to(p_heading || E'\n\n' || p_text, 'UTF8')) $$;

--
-- Name: FUNCTION passage_hash(p_heading text, p_text text); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.passage_hash(p_heading text, p_text text) IS 'The hash by which a passage is known.';

--
-- Name: projects_of(uuid); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.projects_of(p_task uuid) RETURNS uuid[]
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
begin
  return coalesce((
    select array[t.project_id] from atlas.task t
    where t.id = p_task and (t.sender is null
      or exists (select from atlas.member m where m.user_id = t.sender and m.project_id = t.project_id))), '{}');
end
$$;

--
-- Name: FUNCTION projects_of(p_task uuid); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.projects_of(p_task uuid) IS 'Whose documents retrieval for a task may read besides the shared ones. Internal.';

--
-- Name: put_document(uuid, text, text, text, bytea, jsonb, text, text); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.put_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea, p_chunks jsonb, p_commit text DEFAULT NULL::text, p_repository text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  doc uuid;
  n integer;
begin
  -- before any other lock
  perform rag.lock_terms(rag.scope_of(p_project));
  perform rag.put_passages(p_chunks);
  insert into rag.document as d (project_id, source, repository, title, kind, language, content_sha256, commit, chunks)
  select p_project, p_source, p_repository, p_title, p_kind, rag.language_of(p_kind, string_agg(c.text, E'\n' order by c.seq)), p_sha256,
    p_commit, jsonb_array_length(p_chunks)
  from (select c.seq, c.text from jsonb_to_recordset(p_chunks) as c (seq integer, text text) order by c.seq limit 20) c
  on conflict (project_id, source) do update set repository = excluded.repository, title = excluded.title, kind = excluded.kind,
    language = excluded.language, commit = excluded.commit, content_sha256 = excluded.content_sha256, chunks = excluded.chunks, indexed_at = now()
  returning d.id into doc;
  delete from rag.chunk c where c.document_id = doc;
  insert into rag.chunk (document_id, seq, start_line, end_line, passage_id)
  select doc, c.seq, c.start_line, c.end_line, p.id
  from jsonb_to_recordset(p_chunks) as c (seq integer, heading text, start_line integer, end_line integer, text text)
  join rag.passage p on p.sha256 = rag.passage_hash(c.heading, c.text);
  get diagnostics n = row_count;
  perform rag.advance_epoch(p_project);
  return n;
end
$$;

--
-- Name: FUNCTION put_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea, p_chunks jsonb, p_commit text, p_repository text); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.put_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea, p_chunks jsonb, p_commit text, p_repository text) IS 'Indexes a document anew in one transaction: readers see the old chunks or the new ones. Says how many it has.';

--
-- Name: put_passages(jsonb); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.put_passages(p_chunks jsonb) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  insert into rag.passage as p (sha256, heading, text, tokens)
  select distinct on (1) rag.passage_hash(c.heading, c.text), c.heading, c.text, c.tokens
  from jsonb_to_recordset(p_chunks) as c (heading text, text text, tokens integer) order by 1
  -- a fresh mark, so that nobody collects a text that is about to be used again
  on conflict (sha256) do update set seen_at = now()
$$;

--
-- Name: FUNCTION put_passages(p_chunks jsonb); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.put_passages(p_chunks jsonb) IS 'Stores texts that are not there yet. Internal.';

--
-- Name: put_vectors(integer, jsonb, text[]); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.put_vectors(p_index integer, p_passages jsonb, p_vectors text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  dims integer;
begin
  select s.dimensions into dims from rag.embedding_index s where s.id = p_index and s.state <> 'retired' for share;
  if not found then
    raise exception using errcode = 'AT005', message = format('put_vectors: embedding index %s is retired', p_index),
      hint = 'open it again: the embedder was changed meanwhile';
  end if;
  perform rag.put_passages(p_passages);
  begin
    execute format(
      'insert into rag.embedding (index_id, passage_id, embedding) '
      'select $1, p.id, v.vector::extensions.halfvec(%s) '
      'from jsonb_array_elements($2) with ordinality as i (item, n) join unnest($3) with ordinality as v (vector, n) using (n) '
      'join rag.passage p on p.sha256 = rag.passage_hash(i.item ->> ''heading'', i.item ->> ''text'') '
      'order by p.id on conflict do nothing', dims) using p_index, p_passages, p_vectors;
  exception when data_exception then
    raise exception using errcode = 'AT005', message = format('put_vectors: %s', sqlerrm),
      hint = format('the embedding index has %s dimensions: set RAG_EMBED_DIMENSIONS to what the embedder gives', dims);
  end;
end
$_$;

--
-- Name: FUNCTION put_vectors(p_index integer, p_passages jsonb, p_vectors text[]); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.put_vectors(p_index integer, p_passages jsonb, p_vectors text[]) IS 'Stores texts with their vectors, before any document shows them.';

--
-- Name: queue_docs_added(); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.queue_docs_added() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  message record;
  command jsonb;
  named text;
  project uuid;
begin
  for message in select n.id, n.data, n.sender from new_rows n
    where n.data ->> 'role' = 'rag' and n.data ->> 'msg_type' = 'control' order by n.id
  loop
    begin
      command := (message.data ->> 'content')::jsonb;
    exception when data_exception then
      perform atlas.refuse('content', 'is not JSON', 'see docs/event_examples/docs.added.json');
    end;
    if command ->> 'command' is distinct from 'docs.added' then
      continue;
    end if;
    if coalesce(command ->> 'repository', '') !~ '^https?://\S+$' or length(command ->> 'repository') > 1000
       or coalesce(command ->> 'ref', 'main') !~ '^[\w][\w./-]{0,199}$'
       or jsonb_typeof(coalesce(command -> 'changed', '[]')) <> 'array' or jsonb_typeof(coalesce(command -> 'removed', '[]')) <> 'array' then
      perform atlas.refuse('content', 'is not a docs.added command', 'see docs/event_examples/docs.added.json');
    end if;
    named := message.data #>> '{metadata,project}';
    select p.id into project from atlas.project p where p.id::text = named or p.name = named;
    if named is not null and project is null then
      perform atlas.refuse('metadata.project', format('%L is not a project', named),
        'send a project''s id or name, or leave it out: then everybody finds these documents');
    end if;
    insert into rag.embed_job (repository, ref, changed, removed, in_id, project_id)
    values (regexp_replace(command ->> 'repository', '(\.git)?/*$', ''), command ->> 'ref',
      array(select jsonb_array_elements_text(coalesce(command -> 'changed', '[]'))),
      array(select jsonb_array_elements_text(coalesce(command -> 'removed', '[]'))), message.id, project);
  end loop;
  return null;
end
$_$;

--
-- Name: FUNCTION queue_docs_added(); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.queue_docs_added() IS 'Makes a job of each docs.added message.';

--
-- Name: rarest_weight(uuid[]); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.rarest_weight(p_projects uuid[]) RETURNS double precision
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select ln(1 + 2 * greatest(sum(c.passages), 1))::double precision from rag.corpus c where c.scope = any (rag.scopes_of(p_projects))
$$;

--
-- Name: FUNCTION rarest_weight(p_projects uuid[]); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.rarest_weight(p_projects uuid[]) IS 'What a word weighs that stands in one passage alone of these projects and shared documents. Internal.';

--
-- Name: recall(uuid[], text[], text); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.recall(p_tasks uuid[], p_queries text[], p_settings text) RETURNS TABLE(epoch text, found_at text, hits jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
begin
  return query
  with asked as materialized (
    select q.n, q.query, rag.projects_of(q.task) as projects
    from unnest(p_tasks, p_queries) with ordinality as q (task, query, n)
  ),
  -- once for all that read the same
  states as materialized (
    select p.projects, rag.index_epoch(p.projects) as epoch from (select distinct a.projects from asked a) p
  )
  select e.epoch, c.epoch, case when c.key is not null then (
      select coalesce(jsonb_agg(jsonb_build_object('chunk_id', k.id, 'source', d.source, 'title', d.title, 'kind', d.kind,
        'commit', d.commit, 'heading', p.heading, 'start_line', k.start_line, 'end_line', k.end_line, 'text', p.text,
        'tokens', p.tokens, 'sha256', encode(p.sha256, 'hex'), 'similarity', h.hit -> 'similarity',
        'similarity_kind', h.hit -> 'similarity_kind', 'score', h.hit -> 'score')
        order by h.place), '[]')
      from jsonb_array_elements(c.hits) with ordinality as h (hit, place)
      cross join lateral (select x.* from rag.document x where x.id = (h.hit ->> 'document')::uuid limit 1) d
      cross join lateral (select k.* from rag.chunk k
        where k.document_id = d.id and k.passage_id = (h.hit ->> 'passage')::bigint order by k.seq limit 1) k
      cross join lateral (select x.* from rag.passage x where x.id = k.passage_id limit 1) p
      where d.project_id is null or d.project_id = any (a.projects)) end
  from asked a
  join states e on e.projects = a.projects
  left join lateral (select x.* from rag.cache x where x.key = rag.cache_key(a.query, p_settings, a.projects) limit 1) c on true
  order by a.n;
end
$$;

--
-- Name: FUNCTION recall(p_tasks uuid[], p_queries text[], p_settings text); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.recall(p_tasks uuid[], p_queries text[], p_settings text) IS 'The state of the index for each of some tasks, and what was found for its question before: fresh where found_at is that state.';

--
-- Name: record_repository(text, text, uuid); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.record_repository(p_repository text, p_ref text, p_project uuid) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  insert into rag.embed_job (repository, ref, project_id, state, finished_at)
  values (p_repository, p_ref, p_project, 'completed', now())
$$;

--
-- Name: FUNCTION record_repository(p_repository text, p_ref text, p_project uuid); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.record_repository(p_repository text, p_ref text, p_project uuid) IS 'Remembers a repository that was indexed by hand, so that the nightly refresh looks at it again.';

--
-- Name: record_usage(integer, text, bigint, bigint); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.record_usage(p_index integer, p_purpose text, p_texts bigint, p_tokens bigint) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  insert into rag.usage as u (day, index_id, purpose, texts, tokens, usd)
  select atlas.today(), s.id, p_purpose, p_texts, p_tokens, p_tokens * s.usd_per_million / 1000000
  from rag.embedding_index s where s.id = p_index
  on conflict (day, index_id, purpose) do update set texts = u.texts + excluded.texts, tokens = u.tokens + excluded.tokens,
    usd = case when u.usd is null and excluded.usd is null then null else coalesce(u.usd, 0) + coalesce(excluded.usd, 0) end
$$;

--
-- Name: FUNCTION record_usage(p_index integer, p_purpose text, p_texts bigint, p_tokens bigint); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.record_usage(p_index integer, p_purpose text, p_texts bigint, p_tokens bigint) IS 'Accounts for what was embedded.';

--
-- Name: refresh_all(); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.refresh_all() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  n integer;
begin
  insert into rag.embed_job (repository, ref, project_id)
  select distinct on (j.project_id, j.repository) j.repository,
    case when j.ref ~ '^[0-9a-f]{40}$' then null else j.ref end, j.project_id
  from rag.embed_job j
  where j.repository is not null and j.state = 'completed'
    and not exists (select from rag.embed_job w where w.repository = j.repository
      and w.project_id is not distinct from j.project_id and w.state in ('queued', 'running'))
  order by j.project_id, j.repository, j.created_at desc;
  get diagnostics n = row_count;
  -- nobody asks for these any more
  delete from rag.embed_job j where j.finished_at < now() - interval '30 days' and exists (
    select from rag.embed_job w where w.repository is not distinct from j.repository and w.created_at > j.created_at);
  perform rag.collect_passages();
  return n;
end
$_$;

--
-- Name: FUNCTION refresh_all(); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.refresh_all() IS 'The nightly refresh: a job for each repository that was indexed before; what did not change is not embedded again.';

--
-- Name: remember(uuid, text, text, text, jsonb); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.remember(p_task uuid, p_query text, p_settings text, p_epoch text, p_chunks jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
begin
  delete from rag.cache c where c.key in (
    select o.key from rag.cache o where o.created_at < now() - interval '7 days' order by o.created_at limit 20
    for update skip locked);
  insert into rag.cache as c (key, epoch, hits, task_id)
  select rag.cache_key(p_query, p_settings, allowed.projects), p_epoch, coalesce(found.hits, '[]'), p_task
  from (select rag.projects_of(p_task) as projects) allowed
  cross join lateral (
    select jsonb_agg(jsonb_build_object('document', k.document_id, 'passage', k.passage_id, 'similarity', i.item -> 'similarity',
      'similarity_kind', i.item -> 'similarity_kind', 'score', i.item -> 'score') order by i.place) as hits
    from jsonb_array_elements(p_chunks) with ordinality as i (item, place)
    join rag.chunk k on k.id = (i.item ->> 'chunk_id')::bigint) found
  -- what was found while the index changed belongs to the state before
  where p_epoch = rag.index_epoch(allowed.projects)
  on conflict (key) do update set epoch = excluded.epoch, hits = excluded.hits, task_id = excluded.task_id, created_at = now();
end
$$;

--
-- Name: FUNCTION remember(p_task uuid, p_query text, p_settings text, p_epoch text, p_chunks jsonb); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.remember(p_task uuid, p_query text, p_settings text, p_epoch text, p_chunks jsonb) IS 'Keeps what was found for a task''s question.';

--
-- Name: remove_terms(); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.remove_terms() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform rag.lock_terms(s.scope) from (
    select distinct t.scope from rag.passage_terms t where t.passage_id in (select g.passage_id from gone g) order by 1) s;
  with lost as (
    delete from rag.passage_terms t
    where t.passage_id in (select g.passage_id from gone g) and not exists (
      select from rag.chunk c join rag.document d on d.id = c.document_id
      where c.passage_id = t.passage_id and rag.scope_of(d.project_id) = t.scope and d.language = t.language)
    returning t.scope, t.language, t.length, t.terms
  ),
  counted as materialized (
    select u.id, count(*)::integer as passages from lost l cross join lateral unnest(l.terms) u (id) group by 1
  ),
  rarer as (
    update rag.term t set passages = t.passages - c.passages from counted c where t.id = c.id and t.passages > c.passages
  ),
  last as (
    delete from rag.term t using counted c where t.id = c.id and t.passages <= c.passages
  )
  update rag.corpus c set passages = c.passages - s.passages, words = c.words - s.words
  from (select l.scope, l.language, count(*) as passages, sum(l.length) as words from lost l group by 1, 2) s
  where c.scope = s.scope and c.language = s.language;
  return null;
end
$$;

--
-- Name: FUNCTION remove_terms(); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.remove_terms() IS 'No longer counts the words of passages that no document shows any more.';

--
-- Name: retire_index(integer); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.retire_index(p_index integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  update rag.embedding_index s set state = 'retired', lease_owner = null, lease_expires_at = null where s.id = p_index;
  execute format('drop index if exists rag.%I', 'embedding_hnsw_' || p_index);
  delete from rag.embedding e where e.index_id = p_index;
end
$$;

--
-- Name: FUNCTION retire_index(p_index integer); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.retire_index(p_index integer) IS 'Takes an embedding index, its HNSW index and its vectors out of use. Internal.';

--
-- Name: scope_of(uuid); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.scope_of(p_project uuid) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$ select coalesce(p_project, '00000000-0000-0000-0000-000000000000') $$;

--
-- Name: FUNCTION scope_of(p_project uuid); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.scope_of(p_project uuid) IS 'The scope of a document: its project, or zeros where all share it.';

--
-- Name: scopes_of(uuid[]); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.scopes_of(p_projects uuid[]) RETURNS uuid[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$ select array_append(p_projects, rag.scope_of(null)) $$;

--
-- Name: FUNCTION scopes_of(p_projects uuid[]); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.scopes_of(p_projects uuid[]) IS 'The scopes that are searched: these projects, and what all share. Internal.';

--
-- Name: score_vectors(rag.embedding_index, text, bigint[]); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.score_vectors(p_index rag.embedding_index, p_vector text, p_passages bigint[]) RETURNS SETOF rag.neighbour
    LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100
    SET search_path TO ''
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $_$
begin
  if p_vector is null then
    return;
  end if;
  return query execute format('select e.passage_id, (1 - (e.embedding::extensions.halfvec(%1$s) operator(extensions.<=>) $1::extensions.halfvec(%1$s)))::real '
    'from unnest($2) r (id) join rag.embedding e on e.passage_id = r.id and e.index_id = %2$s', p_index.dimensions, p_index.id)
    using p_vector, p_passages;
end
$_$;

--
-- Name: FUNCTION score_vectors(p_index rag.embedding_index, p_vector text, p_passages bigint[]); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.score_vectors(p_index rag.embedding_index, p_vector text, p_passages bigint[]) IS 'Cosines of passages to a question; those without a vector have none. Internal.';

--
-- Name: score_words(rag.weighed_term[], bigint[]); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.score_words(p_terms rag.weighed_term[], p_passages bigint[]) RETURNS TABLE(passage_id bigint, score real, share real)
    LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    SET enable_hashjoin TO 'on'
    AS $$
begin
  -- terms belong to a scope: of a passage that several projects show, those of the caller's count
  return query
  select s.passage_id, max(s.score), max(s.share) from (
    select t.passage_id, t.id, sum(x.gain / (x.base + x.slope * t.length))::real as score,
      sum(x.share * least(1, x.gain / (x.base + x.slope * t.length) / x.weight))::real as share
    from rag.passage_terms t cross join lateral unnest(t.terms) u (id) join unnest(p_terms) x on x.id = u.id
    where t.passage_id = any (p_passages)
    group by t.passage_id, t.id) s
  group by s.passage_id;
end
$$;

--
-- Name: FUNCTION score_words(p_terms rag.weighed_term[], p_passages bigint[]); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.score_words(p_terms rag.weighed_term[], p_passages bigint[]) IS 'BM25 of passages, and what share of the question they hold: 1 where each of its words stands in a passage of usual length. Internal.';

--
-- Name: search(text, integer, uuid, boolean, text, integer, real, text, text); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.search(p_query text, p_top_k integer DEFAULT 15, p_project uuid DEFAULT NULL::uuid, p_collapse boolean DEFAULT true, p_vector text DEFAULT NULL::text, p_index integer DEFAULT NULL::integer, p_threshold real DEFAULT NULL::real, p_prefix text DEFAULT NULL::text, p_kind text DEFAULT NULL::text) RETURNS TABLE(chunk_id bigint, source text, title text, kind text, commit text, heading text, start_line integer, end_line integer, text text, tokens integer, sha256 bytea, similarity real, similarity_kind text, score real)
    LANGUAGE sql STABLE ROWS 20
    SET search_path TO ''
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
  select c.id, d.source, d.title, d.kind, d.commit, p.heading, c.start_line, c.end_line, p.text, p.tokens, p.sha256,
    h.similarity, h.similarity_kind, h.score
  from rag.candidates(p_query, p_vector, p_index, p_top_k, p_project, p_collapse, p_threshold, p_prefix, p_kind)
    with ordinality as h (chunk_id, similarity, similarity_kind, score, place)
  join rag.chunk c on c.id = h.chunk_id
  join rag.document d on d.id = c.document_id
  join rag.passage p on p.id = c.passage_id
  order by h.place
$$;

--
-- Name: FUNCTION search(p_query text, p_top_k integer, p_project uuid, p_collapse boolean, p_vector text, p_index integer, p_threshold real, p_prefix text, p_kind text); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.search(p_query text, p_top_k integer, p_project uuid, p_collapse boolean, p_vector text, p_index integer, p_threshold real, p_prefix text, p_kind text) IS 'Chunks that the caller may read, best first: words alone, or with p_vector (of embedding index p_index) words and meaning.';

--
-- Name: search_task(uuid, text, integer, boolean, text, integer, real); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.search_task(p_task uuid, p_query text, p_top_k integer, p_collapse boolean, p_vector text DEFAULT NULL::text, p_index integer DEFAULT NULL::integer, p_threshold real DEFAULT NULL::real) RETURNS TABLE(chunk_id bigint, source text, title text, kind text, commit text, heading text, start_line integer, end_line integer, text text, tokens integer, sha256 bytea, similarity real, similarity_kind text, score real)
    LANGUAGE sql STABLE SECURITY DEFINER ROWS 20
    SET search_path TO ''
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    AS $$
  select c.id, d.source, d.title, d.kind, d.commit, p.heading, c.start_line, c.end_line, p.text, p.tokens, p.sha256,
    h.similarity, h.similarity_kind, h.score
  from rag.hits(left(p_query, 8000), p_vector, p_index, least(p_top_k, 200), rag.projects_of(p_task), p_collapse, p_threshold,
    null, null) with ordinality as h (chunk_id, similarity, similarity_kind, score, place)
  join rag.chunk c on c.id = h.chunk_id
  join rag.document d on d.id = c.document_id
  join rag.passage p on p.id = c.passage_id
  order by h.place
$$;

--
-- Name: FUNCTION search_task(p_task uuid, p_query text, p_top_k integer, p_collapse boolean, p_vector text, p_index integer, p_threshold real); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.search_task(p_task uuid, p_query text, p_top_k integer, p_collapse boolean, p_vector text, p_index integer, p_threshold real) IS 'Chunks for a task''s question, of what its owner may read, best first.';

--
-- Name: serve_index(integer); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.serve_index(p_index integer) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  found rag.embedding_index;
  old rag.embedding_index;
begin
  perform pg_advisory_xact_lock(hashtext('rag.embedding_index'));
  select s.* into found from rag.embedding_index s where s.id = p_index and s.state = 'building';
  if found.id is null then
    return exists (select from rag.embedding_index s where s.id = p_index and s.state = 'serving');
  end if;
  -- nobody adds a chunk between the look and the switch
  lock table rag.chunk in share mode;
  if exists (select from rag.missing_vectors(p_index, 0, 1)) then
    return false;
  end if;
  select s.* into old from rag.embedding_index s where s.state = 'serving';
  perform rag.retire_index(old.id) where old.id is not null;
  update rag.embedding_index s set state = 'serving', lease_owner = null, lease_expires_at = null where s.id = p_index;
  update rag.epoch e set number = e.number + 1;
  return true;
end
$$;

--
-- Name: FUNCTION serve_index(p_index integer); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.serve_index(p_index integer) IS 'Lets a complete embedding index serve instead of the old one, in one short transaction. False: passages are still missing.';

--
-- Name: set_ranking(real, real, real, real); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.set_ranking(p_k1 real DEFAULT NULL::real, p_b real DEFAULT NULL::real, p_words_threshold real DEFAULT NULL::real, p_vector_weight real DEFAULT NULL::real) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  update rag.ranking r set k1 = coalesce(p_k1, r.k1), b = coalesce(p_b, r.b), words_threshold = coalesce(p_words_threshold, r.words_threshold),
    vector_weight = coalesce(p_vector_weight, r.vector_weight);
  -- what was found with another ranking is stale
  perform rag.advance_epochs();
end
$$;

--
-- Name: FUNCTION set_ranking(p_k1 real, p_b real, p_words_threshold real, p_vector_weight real); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.set_ranking(p_k1 real, p_b real, p_words_threshold real, p_vector_weight real) IS 'Changes how search ranks; what is null stays.';

--
-- Name: set_threshold(integer, real); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.set_threshold(p_index integer, p_threshold real) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  update rag.embedding_index i set threshold = p_threshold where i.id = p_index;
  -- what was found with another threshold is stale
  if found then
    perform rag.advance_epochs();
  end if;
end
$$;

--
-- Name: FUNCTION set_threshold(p_index integer, p_threshold real); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.set_threshold(p_index integer, p_threshold real) IS 'Keeps a calibrated relevancy threshold, which overrides the setting.';

--
-- Name: stale_documents(uuid, text[], text[]); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.stale_documents(p_project uuid, p_under text[], p_keep text[]) RETURNS TABLE(source text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select d.source from rag.document d
  where d.project_id is not distinct from p_project and d.source <> all (p_keep)
    and exists (select from unnest(p_under) u (name) where u.name <> '' and (d.source = u.name or starts_with(d.source, rtrim(u.name, '/') || '/')))
  order by d.source
$$;

--
-- Name: FUNCTION stale_documents(p_project uuid, p_under text[], p_keep text[]); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.stale_documents(p_project uuid, p_under text[], p_keep text[]) IS 'Documents under these folders that are none of those that are there.';

--
-- Name: terms_of(text, text); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.terms_of(p_language text, p_text text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $_$
  select to_tsvector(p_language::regconfig, translate(
    regexp_replace(regexp_replace(p_text, '([a-z0-9])([A-Z])', '\1 \2', 'g'), '([A-Z])([A-Z][a-z])', '\1 \2', 'g')
      || coalesce((select string_agg(' ' || replace(m[1], '_', ''), '') from regexp_matches(p_text, '\m(\w*[a-z0-9][A-Z]\w*|\w+_\w+)\M', 'g') m), ''),
    '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32)))
$_$;

--
-- Name: FUNCTION terms_of(p_language text, p_text text); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.terms_of(p_language text, p_text text) IS 'The words of a text in a language, with the parts of identifiers.';

--
-- Name: weigh_terms(text, uuid[]); Type: FUNCTION; Schema: rag; Owner: -
--

CREATE FUNCTION rag.weigh_terms(p_query text, p_projects uuid[]) RETURNS SETOF rag.weighed_term
    LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 50
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_hashjoin TO 'on'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
declare
  scopes constant uuid[] := rag.scopes_of(p_projects);
begin
  -- Each word is looked for in every indexed language; rarity is measured across all of them. A stop word in any language is ignored
  -- in all, simple has none of its own; a language with less than a fiftieth of the passages decides for itself alone. The 64 words that
  -- weigh most are scored. Those that weigh most lead: they select some eight thousand candidates, which all of the words score.
  return query
  with size as materialized (
    select greatest(sum(c.passages), 1) as passages, greatest(sum(c.words)::real / greatest(sum(c.passages), 1), 1) as mean
    from rag.corpus c where c.scope = any (scopes)
  ),
  language as materialized (
    select c.language as name, c.language = 'english' or sum(c.passages) * 50 > size.passages as counts
    from (select o.language, o.passages from rag.corpus o where o.scope = any (scopes) and o.passages > 0 union all select 'english', 0) c
    cross join size group by c.language, size.passages
  ),
  word as materialized (
    select u.lexeme, u.positions[1] as place, cardinality(u.positions) as times from unnest(rag.terms_of('simple', p_query)) u
  ),
  said as materialized (
    select l.name as language, l.counts, u.lexeme, place
    from language l cross join lateral unnest(rag.terms_of(l.name, p_query)) u cross join lateral unnest(u.positions) place
  ),
  heard as materialized (
    select s.place from said s group by s.place
    having count(*) filter (where s.counts) = (select count(*) from language l where l.counts)
  ),
  form as materialized (
    select w.lexeme as word, w.times, s.language, s.lexeme, k.passages
    from word w join heard h on h.place = w.place join said s on s.place = w.place
    cross join lateral (
      select coalesce(sum(t.passages), 0) as passages from rag.term t
      where t.scope = any (scopes) and t.language = s.language and t.lexeme = s.lexeme) k
  ),
  rare as materialized (
    select f.*, sum(f.passages) over (partition by f.word) as having_it from form f
  ),
  weighed as materialized (
    select r.*, (r.times * ln(1 + (greatest(size.passages - r.having_it, 0) + 0.5) / (r.having_it + 0.5)))::real as weight
    from rare r cross join size
  ),
  ranked as materialized (
    select w.*, (w.weight / sum(w.weight) over (partition by w.language))::real as share,
      dense_rank() over (order by w.weight desc, w.word) as place
    from weighed w
  ),
  reached as (
    select r.weight, r.share, t.id, t.occurrences, t.passages,
      sum(t.passages) over (order by r.weight desc, t.occurrences desc, r.word, t.id) as so_far
    from ranked r cross join lateral (
      select t.* from rag.term t where t.scope = any (scopes) and t.language = r.language and t.lexeme = r.lexeme offset 0) t
    where r.place <= 64
  )
  select r.id, (r.weight * (g.k1 + 1) * r.occurrences)::real, (r.occurrences + g.k1 * (1 - g.b))::real, (g.k1 * g.b / size.mean)::real,
    r.weight, r.share, r.so_far - r.passages < 200 or r.so_far <= 8000
  from reached r cross join size cross join rag.ranking g;
end
$$;

--
-- Name: FUNCTION weigh_terms(p_query text, p_projects uuid[]); Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON FUNCTION rag.weigh_terms(p_query text, p_projects uuid[]) IS 'The terms of a question in these projects and shared documents, with what BM25 gives for them. Internal.';

--
-- Name: attempt; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.attempt (
    id uuid NOT NULL,
    task_id uuid NOT NULL,
    number integer NOT NULL,
    lease_owner uuid NOT NULL,
    state text DEFAULT 'running'::text NOT NULL,
    lease_expires_at timestamp with time zone NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone,
    model text,
    response_id text,
    sequence_number bigint,
    generation integer DEFAULT 0 NOT NULL,
    response_offset integer DEFAULT 0 NOT NULL,
    first_delta_at timestamp with time zone,
    progress_sent_at timestamp with time zone,
    late_text text,
    error_code text,
    error_message text,
    CONSTRAINT attempt_check CHECK (((state = 'running'::text) = (finished_at IS NULL))),
    CONSTRAINT attempt_generation_check CHECK ((generation >= 0)),
    CONSTRAINT attempt_number_check CHECK ((number > 0)),
    CONSTRAINT attempt_response_offset_check CHECK ((response_offset >= 0)),
    CONSTRAINT attempt_state_check CHECK ((state = ANY (ARRAY['running'::text, 'completed'::text, 'failed'::text, 'cancelled'::text, 'released'::text, 'lost'::text])))
)
WITH (fillfactor='60');

--
-- Name: TABLE attempt; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.attempt IS 'One try at a task: its worker, its lease, where its reply stands.';

--
-- Name: COLUMN attempt.id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.id IS 'The attempt id: every transition of a running task needs it.';

--
-- Name: COLUMN attempt.task_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.task_id IS 'The task it belongs to.';

--
-- Name: COLUMN attempt.number; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.number IS 'Which try it is, from 1.';

--
-- Name: COLUMN attempt.lease_owner; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.lease_owner IS 'The worker that runs, or ran, it.';

--
-- Name: COLUMN attempt.state; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.state IS 'released: handed back unused (budget, outage, shutdown). lost: the lease ran out.';

--
-- Name: COLUMN attempt.lease_expires_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.lease_expires_at IS 'Until when its worker holds the task without extending the lease.';

--
-- Name: COLUMN attempt.started_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.started_at IS 'When it began.';

--
-- Name: COLUMN attempt.finished_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.finished_at IS 'When it ended.';

--
-- Name: COLUMN attempt.model; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.model IS 'The model that answered, or was called.';

--
-- Name: COLUMN attempt.response_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.response_id IS 'The provider''s id of the reply being written.';

--
-- Name: COLUMN attempt.sequence_number; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.sequence_number IS 'Where the provider''s stream can be resumed.';

--
-- Name: COLUMN attempt.generation; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.generation IS 'Rises with each fallback or repair; parts count from 0 in each.';

--
-- Name: COLUMN attempt.response_offset; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.response_offset IS 'Where in its generation the text of this response begins: after that of the call it continues.';

--
-- Name: COLUMN attempt.first_delta_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.first_delta_at IS 'When its first text was stored.';

--
-- Name: COLUMN attempt.progress_sent_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.progress_sent_at IS 'When a sign of progress was last sent.';

--
-- Name: COLUMN attempt.late_text; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.late_text IS 'A response that came when its task was over already.';

--
-- Name: COLUMN attempt.error_code; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.error_code IS 'Why it ended without a reply, in one word.';

--
-- Name: COLUMN attempt.error_message; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.attempt.error_message IS 'Why it ended without a reply.';

--
-- Name: audit; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.audit (
    id bigint NOT NULL,
    xact xid8 DEFAULT pg_current_xact_id() NOT NULL,
    task_id uuid,
    seq integer NOT NULL,
    event text NOT NULL,
    actor text NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    prev_hash bytea,
    hash bytea NOT NULL,
    CONSTRAINT audit_event_check CHECK ((event <> ''::text)),
    CONSTRAINT audit_seq_check CHECK ((seq > 0))
);

--
-- Name: TABLE audit; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.audit IS 'Who did what when. Append-only; rows of a task are chained by hash. Never the text itself.';

--
-- Name: COLUMN audit.id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit.id IS 'Its id.';

--
-- Name: COLUMN audit.xact; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit.xact IS 'The transaction that wrote it, plus atlas.xact_base(); seals cover all below a snapshot.';

--
-- Name: COLUMN audit.task_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit.task_id IS 'The task it belongs to.';

--
-- Name: COLUMN audit.seq; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit.seq IS 'Its place in the chain of its task, from 1.';

--
-- Name: COLUMN audit.event; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit.event IS 'The function that did it, such as complete_task.';

--
-- Name: COLUMN audit.actor; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit.actor IS 'The role, and the user where there is one.';

--
-- Name: COLUMN audit.at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit.at IS 'When it happened.';

--
-- Name: COLUMN audit.detail; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit.detail IS 'What the event says of itself.';

--
-- Name: COLUMN audit.prev_hash; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit.prev_hash IS 'The hash of the row before it in the chain.';

--
-- Name: COLUMN audit.hash; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit.hash IS 'sha256 over the row and the hash of the row before it (atlas.audit_hash).';

--
-- Name: audit_checkpoint; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.audit_checkpoint (
    id bigint NOT NULL,
    upto xid8 NOT NULL,
    rows bigint NOT NULL,
    digest bytea NOT NULL,
    prev_mac bytea,
    mac bytea NOT NULL,
    next_check bytea NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT audit_checkpoint_mac_check CHECK ((length(mac) = 32)),
    CONSTRAINT audit_checkpoint_next_check_check CHECK ((length(next_check) = 32)),
    CONSTRAINT audit_checkpoint_rows_check CHECK ((rows >= 0))
);

--
-- Name: TABLE audit_checkpoint; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.audit_checkpoint IS 'Seals the audit rows of all transactions below upto, with an HMAC.';

--
-- Name: COLUMN audit_checkpoint.id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit_checkpoint.id IS 'Its id.';

--
-- Name: COLUMN audit_checkpoint.upto; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit_checkpoint.upto IS 'All transactions below this one are sealed.';

--
-- Name: COLUMN audit_checkpoint.rows; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit_checkpoint.rows IS 'How many rows it seals.';

--
-- Name: COLUMN audit_checkpoint.digest; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit_checkpoint.digest IS 'sha256 over the hashes of the rows since the seal before, by id.';

--
-- Name: COLUMN audit_checkpoint.prev_mac; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit_checkpoint.prev_mac IS 'The seal before; two seals cannot follow the same one.';

--
-- Name: COLUMN audit_checkpoint.mac; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit_checkpoint.mac IS 'HMAC-SHA256, key outside Postgres, over upto, rows, digest and prev_mac.';

--
-- Name: COLUMN audit_checkpoint.next_check; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit_checkpoint.next_check IS 'sha256 of what the next sealer has to show: only who holds the key of this seal can make it.';

--
-- Name: COLUMN audit_checkpoint.at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.audit_checkpoint.at IS 'When it was sealed.';

--
-- Name: audit_checkpoint_id_seq; Type: SEQUENCE; Schema: atlas; Owner: -
--

ALTER TABLE atlas.audit_checkpoint ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME atlas.audit_checkpoint_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: audit_id_seq; Type: SEQUENCE; Schema: atlas; Owner: -
--

ALTER TABLE atlas.audit ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME atlas.audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: budget_day; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.budget_day (
    day date NOT NULL,
    scope text NOT NULL,
    reserved_tokens bigint DEFAULT 0 NOT NULL,
    settled_tokens bigint DEFAULT 0 NOT NULL,
    overrun_tokens bigint DEFAULT 0 NOT NULL,
    reserved_usd numeric(18,9) DEFAULT 0 NOT NULL,
    settled_usd numeric(18,9) DEFAULT 0 NOT NULL,
    CONSTRAINT budget_day_overrun_tokens_check CHECK ((overrun_tokens >= 0)),
    CONSTRAINT budget_day_reserved_tokens_check CHECK ((reserved_tokens >= 0)),
    CONSTRAINT budget_day_reserved_usd_check CHECK ((reserved_usd >= (0)::numeric)),
    CONSTRAINT budget_day_settled_tokens_check CHECK ((settled_tokens >= 0)),
    CONSTRAINT budget_day_settled_usd_check CHECK ((settled_usd >= (0)::numeric))
)
WITH (fillfactor='50');

--
-- Name: TABLE budget_day; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.budget_day IS 'What each budget holds on a UTC day: settled + reserved <= limit.';

--
-- Name: COLUMN budget_day.day; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_day.day IS 'The UTC day.';

--
-- Name: COLUMN budget_day.scope; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_day.scope IS 'The budget.';

--
-- Name: COLUMN budget_day.reserved_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_day.reserved_tokens IS 'Tokens of calls under way or held, at their worst case.';

--
-- Name: COLUMN budget_day.settled_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_day.settled_tokens IS 'Tokens of settled calls, corrections included.';

--
-- Name: COLUMN budget_day.overrun_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_day.overrun_tokens IS 'Usage above its reservation: recorded in full, never clipped.';

--
-- Name: COLUMN budget_day.reserved_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_day.reserved_usd IS 'US dollars of calls under way or held, at their worst case.';

--
-- Name: COLUMN budget_day.settled_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_day.settled_usd IS 'US dollars of settled calls.';

--
-- Name: budget_event; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.budget_event (
    scope text NOT NULL,
    period text NOT NULL,
    starts date NOT NULL,
    unit text NOT NULL,
    level smallint NOT NULL,
    most numeric NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT budget_event_level_check CHECK ((level = ANY (ARRAY[80, 100]))),
    CONSTRAINT budget_event_most_check CHECK ((most >= (0)::numeric)),
    CONSTRAINT budget_event_period_check CHECK ((period = ANY (ARRAY['day'::text, 'month'::text]))),
    CONSTRAINT budget_event_unit_check CHECK ((unit = ANY (ARRAY['tokens'::text, 'usd'::text])))
);

--
-- Name: TABLE budget_event; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.budget_event IS 'Which budgets were told of, so that each is told of once a period; a new limit is told of anew.';

--
-- Name: COLUMN budget_event.scope; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_event.scope IS 'The budget.';

--
-- Name: COLUMN budget_event.period; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_event.period IS 'day or month.';

--
-- Name: COLUMN budget_event.starts; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_event.starts IS 'The first UTC day of the period.';

--
-- Name: COLUMN budget_event.unit; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_event.unit IS 'tokens or usd.';

--
-- Name: COLUMN budget_event.level; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_event.level IS '80: budget.warning. 100: budget.spent.';

--
-- Name: COLUMN budget_event.most; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_event.most IS 'The limit.';

--
-- Name: COLUMN budget_event.at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_event.at IS 'When it was told.';

--
-- Name: budget_now; Type: VIEW; Schema: atlas; Owner: -
--

CREATE VIEW atlas.budget_now WITH (security_invoker='true') AS
 SELECT b.scope,
    b.per_run,
    b.usd_per_run,
    b.daily,
    b.usd_daily,
    b.monthly,
    b.usd_monthly,
    b.enforcement,
    b.when_spent,
    b.run_lowered_at,
    b.day_lowered_at,
    b.month_lowered_at,
    b.set_by,
    atlas.today() AS day,
    COALESCE(d.reserved_tokens, (0)::bigint) AS reserved_tokens,
    COALESCE(d.settled_tokens, (0)::bigint) AS settled_tokens,
    COALESCE(d.overrun_tokens, (0)::bigint) AS overrun_tokens,
    COALESCE(d.reserved_usd, (0)::numeric) AS reserved_usd,
    COALESCE(d.settled_usd, (0)::numeric) AS settled_usd,
    m.reserved_tokens AS month_reserved_tokens,
    m.settled_tokens AS month_settled_tokens,
    m.reserved_usd AS month_reserved_usd,
    m.settled_usd AS month_settled_usd
   FROM ((atlas.budget b
     LEFT JOIN LATERAL ( SELECT x.day,
            x.scope,
            x.reserved_tokens,
            x.settled_tokens,
            x.overrun_tokens,
            x.reserved_usd,
            x.settled_usd
           FROM atlas.budget_day x
          WHERE ((x.scope = b.scope) AND (x.day = atlas.today()))
         LIMIT 1) d ON (true))
     LEFT JOIN LATERAL ( SELECT (COALESCE(sum(x.reserved_tokens), (0)::numeric))::bigint AS reserved_tokens,
            (COALESCE(sum(x.settled_tokens), (0)::numeric))::bigint AS settled_tokens,
            COALESCE(sum(x.reserved_usd), (0)::numeric) AS reserved_usd,
            COALESCE(sum(x.settled_usd), (0)::numeric) AS settled_usd
           FROM atlas.budget_day x
          WHERE ((x.scope = b.scope) AND (x.day >= (date_trunc('month'::text, (atlas.today())::timestamp with time zone))::date) AND ((b.monthly IS NOT NULL) OR (b.usd_monthly IS NOT NULL)))) m ON (true));

--
-- Name: VIEW budget_now; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON VIEW atlas.budget_now IS 'Every budget with what today and, where it has a limit of a month, this month hold (UTC).';

--
-- Name: COLUMN budget_now.scope; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.scope IS 'global, project:<id>, sender:<key> or model:<name>.';

--
-- Name: COLUMN budget_now.per_run; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.per_run IS 'Tokens of one attempt, input and output together.';

--
-- Name: COLUMN budget_now.usd_per_run; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.usd_per_run IS 'US dollars of one attempt.';

--
-- Name: COLUMN budget_now.daily; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.daily IS 'Tokens of one UTC day.';

--
-- Name: COLUMN budget_now.usd_daily; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.usd_daily IS 'US dollars of one UTC day.';

--
-- Name: COLUMN budget_now.monthly; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.monthly IS 'Tokens of one calendar month (UTC).';

--
-- Name: COLUMN budget_now.usd_monthly; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.usd_monthly IS 'US dollars of one calendar month (UTC).';

--
-- Name: COLUMN budget_now.enforcement; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.enforcement IS 'hard: nothing is called beyond it. soft: it is only told of.';

--
-- Name: COLUMN budget_now.when_spent; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.when_spent IS 'What a task does when it is spent: defer or reject.';

--
-- Name: COLUMN budget_now.run_lowered_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.run_lowered_at IS 'When a limit of a run last fell.';

--
-- Name: COLUMN budget_now.day_lowered_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.day_lowered_at IS 'When a limit of a day last fell.';

--
-- Name: COLUMN budget_now.month_lowered_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.month_lowered_at IS 'When a limit of a month last fell.';

--
-- Name: COLUMN budget_now.set_by; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.set_by IS 'settings: all from a worker''s environment; control: set_budget set some.';

--
-- Name: COLUMN budget_now.day; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.day IS 'The UTC day.';

--
-- Name: COLUMN budget_now.reserved_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.reserved_tokens IS 'Tokens of calls under way or held, at their worst case.';

--
-- Name: COLUMN budget_now.settled_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.settled_tokens IS 'Tokens of settled calls, corrections included.';

--
-- Name: COLUMN budget_now.overrun_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.overrun_tokens IS 'Usage above its reservation: recorded in full, never clipped.';

--
-- Name: COLUMN budget_now.reserved_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.reserved_usd IS 'US dollars of calls under way or held, at their worst case.';

--
-- Name: COLUMN budget_now.settled_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.settled_usd IS 'US dollars of settled calls.';

--
-- Name: COLUMN budget_now.month_reserved_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.month_reserved_tokens IS 'Reserved of this month; 0 without a limit of a month.';

--
-- Name: COLUMN budget_now.month_settled_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.month_settled_tokens IS 'Settled of this month; 0 without a limit of a month.';

--
-- Name: COLUMN budget_now.month_reserved_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.month_reserved_usd IS 'US dollars reserved of this month; 0 without a limit of a month.';

--
-- Name: COLUMN budget_now.month_settled_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.budget_now.month_settled_usd IS 'US dollars settled of this month; 0 without a limit of a month.';

--
-- Name: claim_seq; Type: SEQUENCE; Schema: atlas; Owner: -
--

CREATE SEQUENCE atlas.claim_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

--
-- Name: SEQUENCE claim_seq; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON SEQUENCE atlas.claim_seq IS 'Orders claims: turns over projects and senders go by it.';

--
-- Name: control; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.control (
    only_row boolean DEFAULT true NOT NULL,
    paused_at timestamp with time zone,
    paused_by text,
    reason text,
    cache_flushed_at timestamp with time zone,
    books_checked_at timestamp with time zone,
    books_wrong integer DEFAULT 0 NOT NULL,
    audit_checked_at timestamp with time zone,
    audit_broken integer DEFAULT 0 NOT NULL,
    keep_tasks interval,
    keep_texts interval,
    parts_trimmed_to timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    CONSTRAINT control_audit_broken_check CHECK ((audit_broken >= 0)),
    CONSTRAINT control_books_wrong_check CHECK ((books_wrong >= 0)),
    CONSTRAINT control_only_row_check CHECK (only_row),
    CONSTRAINT tasks_stay_for_a_day CHECK ((keep_tasks >= '1 day'::interval)),
    CONSTRAINT texts_stay_for_a_day CHECK ((keep_texts >= '1 day'::interval))
);

--
-- Name: TABLE control; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.control IS 'One row: whether the queue is paused, and since when caches count.';

--
-- Name: COLUMN control.only_row; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.control.only_row IS 'There is one row.';

--
-- Name: COLUMN control.paused_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.control.paused_at IS 'Since when no question is claimed; null while the queue runs.';

--
-- Name: COLUMN control.paused_by; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.control.paused_by IS 'Who paused it.';

--
-- Name: COLUMN control.reason; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.control.reason IS 'Why it was paused.';

--
-- Name: COLUMN control.cache_flushed_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.control.cache_flushed_at IS 'Caches that are older do not count.';

--
-- Name: COLUMN control.books_checked_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.control.books_checked_at IS 'When a worker last proved the books.';

--
-- Name: COLUMN control.books_wrong; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.control.books_wrong IS 'How many rows atlas.check_ledger had then.';

--
-- Name: COLUMN control.audit_checked_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.control.audit_checked_at IS 'When a worker last checked the newest rows of the audit.';

--
-- Name: COLUMN control.audit_broken; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.control.audit_broken IS 'How many of them did not fit.';

--
-- Name: COLUMN control.keep_tasks; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.control.keep_tasks IS 'How long ended tasks stay; null: forever. See atlas.set_retention().';

--
-- Name: COLUMN control.keep_texts; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.control.keep_texts IS 'How long the texts of ended tasks stay; null: as long as the tasks.';

--
-- Name: COLUMN control.parts_trimmed_to; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.control.parts_trimmed_to IS 'Tasks that were asked up to this time have had their turn: their parts were trimmed, or they are in atlas.later_trim.';

--
-- Name: CONSTRAINT tasks_stay_for_a_day ON control; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON CONSTRAINT tasks_stay_for_a_day ON atlas.control IS 'Who reads a reply has a day for it at least.';

--
-- Name: CONSTRAINT texts_stay_for_a_day ON control; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON CONSTRAINT texts_stay_for_a_day ON atlas.control IS 'Who reads a reply has a day for it at least.';

--
-- Name: dead_letters; Type: VIEW; Schema: atlas; Owner: -
--

CREATE VIEW atlas.dead_letters WITH (security_invoker='true') AS
 SELECT id,
    title,
    sender_key,
    project_id,
    failures,
    error_code,
    error_message,
    finished_at
   FROM atlas.task t
  WHERE dead_letter;

--
-- Name: VIEW dead_letters; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON VIEW atlas.dead_letters IS 'Tasks that failed for good; `atlas dlq retry` or atlas.retry_task retries them.';

--
-- Name: COLUMN dead_letters.id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.dead_letters.id IS 'Its id.';

--
-- Name: COLUMN dead_letters.title; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.dead_letters.title IS 'The first line, for people who look at the table.';

--
-- Name: COLUMN dead_letters.sender_key; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.dead_letters.sender_key IS 'Whose turn and whose budget: the user, an outside identity, or service.';

--
-- Name: COLUMN dead_letters.project_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.dead_letters.project_id IS 'The project it belongs to.';

--
-- Name: COLUMN dead_letters.failures; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.dead_letters.failures IS 'Failures of its own.';

--
-- Name: COLUMN dead_letters.error_code; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.dead_letters.error_code IS 'Why it ended without a reply, in one word.';

--
-- Name: COLUMN dead_letters.error_message; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.dead_letters.error_message IS 'Why it ended without a reply.';

--
-- Name: COLUMN dead_letters.finished_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.dead_letters.finished_at IS 'When it ended.';

--
-- Name: project; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.project (
    id uuid DEFAULT atlas.new_id() NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT project_name_check CHECK ((name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'::text))
);

--
-- Name: TABLE project; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.project IS 'A team. Tasks, documents and budgets belong to one; members read all of it.';

--
-- Name: COLUMN project.id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.project.id IS 'Its id.';

--
-- Name: COLUMN project.name; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.project.name IS 'Lower case letters, digits, dot, dash and underscore; at most 63.';

--
-- Name: COLUMN project.created_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.project.created_at IS 'When the row was written.';

--
-- Name: decisions; Type: VIEW; Schema: atlas; Owner: -
--

CREATE VIEW atlas.decisions WITH (security_invoker='true') AS
 SELECT p.name AS project,
    d.number,
    d.status,
    d.title,
    d.superseded_by,
    d.superseded_at,
    d.superseded_reason,
    d.decided_at,
    d.decided_by,
    d.reason,
    d.asked_by,
    d.task_id,
    d.project_id,
    d.question,
    d.constraints,
    d.paths,
    d.checks,
    d.sources,
    d.file,
    ARRAY( SELECT o.number
           FROM atlas.decision o
          WHERE ((o.project_id = d.project_id) AND (o.superseded_by = d.number))
          ORDER BY o.number) AS supersedes
   FROM (atlas.decision d
     JOIN atlas.project p ON ((p.id = d.project_id)));

--
-- Name: VIEW decisions; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON VIEW atlas.decisions IS 'Decisions by project and number; their texts are in atlas.decision.';

--
-- Name: COLUMN decisions.project; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.project IS 'The name of the project.';

--
-- Name: COLUMN decisions.number; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.number IS 'Its number in the project: ADR-7 is 7.';

--
-- Name: COLUMN decisions.status; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.status IS 'accepted, rejected or superseded; of imported ones also proposed or deprecated.';

--
-- Name: COLUMN decisions.title; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.title IS 'Its title.';

--
-- Name: COLUMN decisions.superseded_by; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.superseded_by IS 'The number of the decision that holds instead.';

--
-- Name: COLUMN decisions.superseded_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.superseded_at IS 'When that took its place.';

--
-- Name: COLUMN decisions.superseded_reason; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.superseded_reason IS 'Why that was.';

--
-- Name: COLUMN decisions.decided_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.decided_at IS 'When it was accepted or rejected.';

--
-- Name: COLUMN decisions.decided_by; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.decided_by IS 'Who accepted or rejected it: user:<id> of a login, else role:<database role>.';

--
-- Name: COLUMN decisions.reason; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.reason IS 'Why.';

--
-- Name: COLUMN decisions.asked_by; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.asked_by IS 'The sender whose question it answers.';

--
-- Name: COLUMN decisions.task_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.task_id IS 'The task whose reply it is.';

--
-- Name: COLUMN decisions.project_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.project_id IS 'The project.';

--
-- Name: COLUMN decisions.question; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.question IS 'The question that it answers.';

--
-- Name: COLUMN decisions.constraints; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.constraints IS 'What must hold from then on, a sentence each.';

--
-- Name: COLUMN decisions.paths; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.paths IS 'Globs of the files that it governs.';

--
-- Name: COLUMN decisions.checks; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.checks IS 'Commands that verify it in a checkout.';

--
-- Name: COLUMN decisions.sources; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.sources IS 'What it was written from: sha256:<hash> <path>.';

--
-- Name: COLUMN decisions.file; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.file IS 'Its file''s name in the folder that it was imported from.';

--
-- Name: COLUMN decisions.supersedes; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.decisions.supersedes IS 'The numbers of those that it superseded.';

--
-- Name: destination; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.destination (
    id uuid DEFAULT atlas.new_id() NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    target text NOT NULL,
    secret_name text,
    filter jsonb DEFAULT '{}'::jsonb NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    events_since timestamp with time zone DEFAULT now() NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    open_until timestamp with time zone,
    last_error text,
    last_sent_at timestamp with time zone,
    adopted_at timestamp with time zone,
    CONSTRAINT destination_failures_check CHECK ((failures >= 0)),
    CONSTRAINT destination_kind_check CHECK ((kind = ANY (ARRAY['pubsub'::text, 'webhook'::text]))),
    CONSTRAINT filter_is_known CHECK (atlas.is_filter(filter)),
    CONSTRAINT secret_is_a_name CHECK ((secret_name ~ '^ATLAS_WEBHOOK_SECRET(_[A-Z0-9_]+)?$'::text)),
    CONSTRAINT target_fits_kind CHECK (
CASE kind
    WHEN 'pubsub'::text THEN (target ~ '^projects/[^/\s]+/topics/[^/\s]+$'::text)
    ELSE (target ~ '^https?://[^/\s@]+(/\S*)?$'::text)
END),
    CONSTRAINT webhooks_are_signed CHECK (((kind <> 'webhook'::text) OR (secret_name IS NOT NULL)))
);

--
-- Name: TABLE destination; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.destination IS 'Where replies go: a Pub/Sub topic or a signed webhook.';

--
-- Name: COLUMN destination.id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.destination.id IS 'Its id.';

--
-- Name: COLUMN destination.name; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.destination.name IS 'What people call it.';

--
-- Name: COLUMN destination.kind; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.destination.kind IS 'pubsub or webhook.';

--
-- Name: COLUMN destination.target; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.destination.target IS 'projects/<project>/topics/<topic>, or an https URL.';

--
-- Name: COLUMN destination.secret_name; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.destination.secret_name IS 'Which setting of the mirror signs: ATLAS_WEBHOOK_SECRET, or ATLAS_WEBHOOK_SECRET_<NAME>; never the secret itself.';

--
-- Name: COLUMN destination.filter; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.destination.filter IS 'Which events: msg_type, status, sender, kind, each a text or a list of them; {} means all replies and seals.';

--
-- Name: COLUMN destination.enabled; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.destination.enabled IS 'False: nothing is sent there.';

--
-- Name: COLUMN destination.events_since; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.destination.events_since IS 'Events from then on go there: it begins with what is new. An earlier time at its insert sends what was kept as well.';

--
-- Name: COLUMN destination.created_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.destination.created_at IS 'When the row was written.';

--
-- Name: COLUMN destination.failures; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.destination.failures IS 'Failures in a row that were the destination''s; three open its breaker.';

--
-- Name: COLUMN destination.open_until; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.destination.open_until IS 'Until then nothing is sent there; then one row is tried.';

--
-- Name: COLUMN destination.last_error; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.destination.last_error IS 'What its last failure said.';

--
-- Name: COLUMN destination.last_sent_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.destination.last_sent_at IS 'When something last arrived there.';

--
-- Name: COLUMN destination.adopted_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.destination.adopted_at IS 'Since when it has all events that were kept for it.';

--
-- Name: CONSTRAINT filter_is_known ON destination; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON CONSTRAINT filter_is_known ON atlas.destination IS 'A filter has known fields and texts only.';

--
-- Name: CONSTRAINT secret_is_a_name ON destination; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON CONSTRAINT secret_is_a_name ON atlas.destination IS 'The name of a setting, never the secret itself.';

--
-- Name: CONSTRAINT target_fits_kind ON destination; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON CONSTRAINT target_fits_kind ON atlas.destination IS 'A topic for Pub/Sub, a URL for a webhook.';

--
-- Name: CONSTRAINT webhooks_are_signed ON destination; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON CONSTRAINT webhooks_are_signed ON atlas.destination IS 'A webhook names the secret that signs it.';

--
-- Name: deviation; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.deviation (
    id bigint NOT NULL,
    project_id uuid NOT NULL,
    number integer NOT NULL,
    task_id uuid NOT NULL,
    item integer NOT NULL,
    constraint_text text NOT NULL,
    reason text NOT NULL,
    commit text,
    reported_by text NOT NULL,
    reported_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT deviation_constraint_text_check CHECK ((length(constraint_text) <= 2000)),
    CONSTRAINT deviation_reason_check CHECK (((reason <> ''::text) AND (length(reason) <= 2000)))
);

--
-- Name: TABLE deviation; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.deviation IS 'Where work was done otherwise than a decision''s constraint asks for, and why.';

--
-- Name: COLUMN deviation.id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.deviation.id IS 'Its number.';

--
-- Name: COLUMN deviation.project_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.deviation.project_id IS 'The project of the decision.';

--
-- Name: COLUMN deviation.number; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.deviation.number IS 'The decision.';

--
-- Name: COLUMN deviation.task_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.deviation.task_id IS 'The task whose work item it was.';

--
-- Name: COLUMN deviation.item; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.deviation.item IS 'The work item.';

--
-- Name: COLUMN deviation.constraint_text; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.deviation.constraint_text IS 'The constraint.';

--
-- Name: COLUMN deviation.reason; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.deviation.reason IS 'Why it does not hold there.';

--
-- Name: COLUMN deviation.commit; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.deviation.commit IS 'The commit.';

--
-- Name: COLUMN deviation.reported_by; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.deviation.reported_by IS 'Who said so.';

--
-- Name: COLUMN deviation.reported_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.deviation.reported_at IS 'When.';

--
-- Name: deviation_id_seq; Type: SEQUENCE; Schema: atlas; Owner: -
--

ALTER TABLE atlas.deviation ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME atlas.deviation_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: id_key; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.id_key (
    singleton boolean DEFAULT true NOT NULL,
    key bytea DEFAULT sha256(convert_to(((gen_random_uuid())::text || (gen_random_uuid())::text), 'UTF8'::name)) NOT NULL,
    CONSTRAINT id_key_key_check CHECK ((length(key) = 32)),
    CONSTRAINT id_key_singleton_check CHECK (singleton)
);

--
-- Name: TABLE id_key; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.id_key IS 'The secret that ids of messages from outside are derived with. Nobody reads it but atlas.derive_id.';

--
-- Name: COLUMN id_key.singleton; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.id_key.singleton IS 'There is one row.';

--
-- Name: COLUMN id_key.key; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.id_key.key IS 'Random, made by the migration; a new one makes a repeated message a new task.';

--
-- Name: identity; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.identity (
    provider text NOT NULL,
    external_id text NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT identity_external_id_check CHECK ((external_id <> ''::text)),
    CONSTRAINT identity_provider_check CHECK ((provider = ANY (ARRAY['github'::text, 'slack'::text])))
);

--
-- Name: TABLE identity; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.identity IS 'Maps people who write from outside (GitHub, Slack) to users.';

--
-- Name: COLUMN identity.provider; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.identity.provider IS 'github or slack.';

--
-- Name: COLUMN identity.external_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.identity.external_id IS 'Who it is there.';

--
-- Name: COLUMN identity.user_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.identity.user_id IS 'auth.users.id of the person.';

--
-- Name: COLUMN identity.created_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.identity.created_at IS 'When the row was written.';

--
-- Name: inbound; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.inbound (
    source text NOT NULL,
    event_id text NOT NULL,
    task_id uuid,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT inbound_event_id_check CHECK (((event_id <> ''::text) AND (length(event_id) <= 200))),
    CONSTRAINT inbound_source_check CHECK ((source = ANY (ARRAY['github'::text, 'slack'::text, 'pubsub'::text])))
);

--
-- Name: TABLE inbound; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.inbound IS 'Deliveries from outside that were taken in: the same one again makes no second message.';

--
-- Name: COLUMN inbound.source; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.inbound.source IS 'github, slack or pubsub.';

--
-- Name: COLUMN inbound.event_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.inbound.event_id IS 'The sender''s id of the delivery.';

--
-- Name: COLUMN inbound.task_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.inbound.task_id IS 'What it became; null where it became nothing.';

--
-- Name: COLUMN inbound.received_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.inbound.received_at IS 'When it came first.';

--
-- Name: later_trim; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.later_trim (
    task_id uuid NOT NULL,
    due timestamp with time zone NOT NULL
);

--
-- Name: TABLE later_trim; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.later_trim IS 'Tasks whose parts were not to be trimmed yet when their turn came: open, just completed, or ended otherwise.';

--
-- Name: COLUMN later_trim.task_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.later_trim.task_id IS 'The task; it may be gone.';

--
-- Name: COLUMN later_trim.due; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.later_trim.due IS 'When it is looked at again.';

--
-- Name: member; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.member (
    project_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text DEFAULT 'member'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

--
-- Name: TABLE member; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.member IS 'Which user belongs to which project.';

--
-- Name: COLUMN member.project_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.member.project_id IS 'The project it belongs to.';

--
-- Name: COLUMN member.user_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.member.user_id IS 'auth.users.id of the person.';

--
-- Name: COLUMN member.role; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.member.role IS 'member reads the project; decider accepts, rejects and supersedes too; admin also sets its budget.';

--
-- Name: COLUMN member.created_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.member.created_at IS 'When the row was written.';

--
-- Name: model; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.model (
    name text NOT NULL,
    shutdown_at date,
    successor text,
    context_tokens integer,
    max_output_tokens integer,
    vocabulary text,
    reasoning boolean DEFAULT false NOT NULL,
    reasoning_effort text,
    streams boolean DEFAULT true NOT NULL,
    temperature boolean DEFAULT false NOT NULL,
    note text,
    CONSTRAINT model_check CHECK ((successor IS DISTINCT FROM name)),
    CONSTRAINT model_context_tokens_check CHECK ((context_tokens > 0)),
    CONSTRAINT model_max_output_tokens_check CHECK ((max_output_tokens > 0)),
    CONSTRAINT model_reasoning_effort_check CHECK ((reasoning_effort = ANY (ARRAY['none'::text, 'minimal'::text, 'low'::text, 'medium'::text, 'high'::text, 'xhigh'::text, 'max'::text]))),
    CONSTRAINT model_vocabulary_check CHECK ((vocabulary = ANY (ARRAY['o200k_base'::text, 'cl100k_base'::text])))
);

--
-- Name: TABLE model; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.model IS 'The models Atlas may call, with their life and limits.';

--
-- Name: COLUMN model.name; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model.name IS 'The provider''s name of the model.';

--
-- Name: COLUMN model.shutdown_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model.shutdown_at IS 'From this day on the model is passed over for its successor.';

--
-- Name: COLUMN model.successor; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model.successor IS 'Called instead once the model is shut down or not found.';

--
-- Name: COLUMN model.context_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model.context_tokens IS 'Tokens that one call may hold, input and output; null: not known.';

--
-- Name: COLUMN model.max_output_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model.max_output_tokens IS 'Tokens that one reply may have; null: not known.';

--
-- Name: COLUMN model.vocabulary; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model.vocabulary IS 'Its tokenizer. Null: not known; then its tokens are counted as UTF-8 bytes, an upper bound.';

--
-- Name: COLUMN model.reasoning; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model.reasoning IS 'It thinks before it writes: passed over with under 4,000 output tokens left.';

--
-- Name: COLUMN model.reasoning_effort; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model.reasoning_effort IS 'Sent as reasoning.effort where set.';

--
-- Name: COLUMN model.streams; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model.streams IS 'False: called without streaming.';

--
-- Name: COLUMN model.temperature; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model.temperature IS 'Whether it accepts a temperature.';

--
-- Name: COLUMN model.note; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model.note IS 'For people.';

--
-- Name: model_state; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.model_state (
    model text NOT NULL,
    state text DEFAULT 'closed'::text NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL,
    failed_at timestamp with time zone[] DEFAULT '{}'::timestamp with time zone[] NOT NULL,
    succeeded_at timestamp with time zone,
    probe_at timestamp with time zone DEFAULT now() NOT NULL,
    trial_at timestamp with time zone DEFAULT now() NOT NULL,
    trials integer DEFAULT 0 NOT NULL,
    last_error text,
    missing_since timestamp with time zone,
    usual_output integer,
    measured_at timestamp with time zone,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT model_state_state_check CHECK ((state = ANY (ARRAY['closed'::text, 'open'::text, 'half_open'::text]))),
    CONSTRAINT model_state_trials_check CHECK ((trials >= 0)),
    CONSTRAINT model_state_usual_output_check CHECK ((usual_output > 0))
);

--
-- Name: TABLE model_state; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.model_state IS 'What the fleet learned of each model: its breaker, and whether it is gone.';

--
-- Name: COLUMN model_state.model; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_state.model IS 'The model that answered, or was called.';

--
-- Name: COLUMN model_state.state; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_state.state IS 'closed: it is called. open: it is probed only. half_open: one call is tried.';

--
-- Name: COLUMN model_state.since; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_state.since IS 'Since when it is in this state.';

--
-- Name: COLUMN model_state.failed_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_state.failed_at IS 'The latest three failures since the last success.';

--
-- Name: COLUMN model_state.succeeded_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_state.succeeded_at IS 'When it last answered a call, written at most once a second.';

--
-- Name: COLUMN model_state.probe_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_state.probe_at IS 'While it is open: when the next probe is due.';

--
-- Name: COLUMN model_state.trial_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_state.trial_at IS 'While it is half open: from when one call may be tried.';

--
-- Name: COLUMN model_state.trials; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_state.trials IS 'Tried calls that failed in a row; each doubles the pause before the next, up to 5 s.';

--
-- Name: COLUMN model_state.last_error; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_state.last_error IS 'What the last failure said.';

--
-- Name: COLUMN model_state.missing_since; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_state.missing_since IS 'The provider said model_not_found: its successor is called.';

--
-- Name: COLUMN model_state.usual_output; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_state.usual_output IS 'The 99th percentile of its replies here, in tokens: what a first call reserves.';

--
-- Name: COLUMN model_state.measured_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_state.measured_at IS 'When usual_output was last measured.';

--
-- Name: COLUMN model_state.updated_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.model_state.updated_at IS 'When the row last changed.';

--
-- Name: notification; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.notification (
    cause text NOT NULL,
    raised_at timestamp with time zone DEFAULT now() NOT NULL,
    text text NOT NULL
);

--
-- Name: TABLE notification; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.notification IS 'What people were told: budgets at 80 and 100 %, dead letters, completions.';

--
-- Name: COLUMN notification.cause; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.notification.cause IS 'What it is about, such as budget_80:global:tokens; at most one an hour each.';

--
-- Name: COLUMN notification.raised_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.notification.raised_at IS 'When it was said.';

--
-- Name: COLUMN notification.text; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.notification.text IS 'The sentence.';

--
-- Name: open_draft; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.open_draft (
    task_id uuid NOT NULL,
    project_id uuid NOT NULL,
    title text NOT NULL,
    words text[] NOT NULL,
    made_at timestamp with time zone DEFAULT now() NOT NULL
);

--
-- Name: TABLE open_draft; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.open_draft IS 'Records that nobody has decided on yet, by the words of their question and title.';

--
-- Name: COLUMN open_draft.task_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.open_draft.task_id IS 'The task whose reply it is.';

--
-- Name: COLUMN open_draft.project_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.open_draft.project_id IS 'Its project.';

--
-- Name: COLUMN open_draft.title; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.open_draft.title IS 'Its title.';

--
-- Name: COLUMN open_draft.words; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.open_draft.words IS 'The words of its question and title, as searches reduce them, in their order.';

--
-- Name: COLUMN open_draft.made_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.open_draft.made_at IS 'When it was completed.';

--
-- Name: outbox; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.outbox (
    id bigint NOT NULL,
    event_id uuid NOT NULL,
    event_kind text DEFAULT 'message'::text NOT NULL,
    destination_id uuid,
    task_id uuid,
    out_id bigint,
    payload jsonb,
    "position" bigint NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    rejections integer DEFAULT 0 NOT NULL,
    lease_owner uuid,
    lease_expires_at timestamp with time zone,
    run_after timestamp with time zone DEFAULT now() NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    sent_at timestamp with time zone,
    last_error text,
    CONSTRAINT message_has_its_place CHECK (((out_id IS NULL) OR ("position" = out_id))),
    CONSTRAINT outbox_check CHECK (((out_id IS NULL) <> (payload IS NULL))),
    CONSTRAINT outbox_check1 CHECK (((state = 'sent'::text) = (sent_at IS NOT NULL))),
    CONSTRAINT outbox_check2 CHECK (((lease_owner IS NULL) = (lease_expires_at IS NULL))),
    CONSTRAINT outbox_rejections_check CHECK ((rejections >= 0)),
    CONSTRAINT outbox_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'sent'::text, 'dead'::text, 'skipped'::text])))
);

--
-- Name: TABLE outbox; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.outbox IS 'What must leave: one row an event and destination, written in the event''s transaction.';

--
-- Name: COLUMN outbox.id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox.id IS 'Its id.';

--
-- Name: COLUMN outbox.event_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox.event_id IS 'The event, the same for every destination; consumers dedupe on it.';

--
-- Name: COLUMN outbox.event_kind; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox.event_kind IS 'message (a row of architect_out), audit_seal, notification, progress, export, budget.warning, budget.spent, or decision.accepted, .rejected or .superseded.';

--
-- Name: COLUMN outbox.destination_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox.destination_id IS 'Where it goes; null: kept, since there was no destination.';

--
-- Name: COLUMN outbox.task_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox.task_id IS 'The task it belongs to.';

--
-- Name: COLUMN outbox.out_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox.out_id IS 'The row of architect_out.';

--
-- Name: COLUMN outbox.payload; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox.payload IS 'What is sent.';

--
-- Name: COLUMN outbox."position"; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox."position" IS 'Its place in the order of events; a task''s events leave in this order.';

--
-- Name: COLUMN outbox.state; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox.state IS 'pending, sent, dead (three rejections), or skipped by an operator.';

--
-- Name: COLUMN outbox.rejections; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox.rejections IS 'Times its receiver refused it; three make it dead.';

--
-- Name: COLUMN outbox.lease_owner; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox.lease_owner IS 'Who sends it now.';

--
-- Name: COLUMN outbox.lease_expires_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox.lease_expires_at IS 'Until when that lease holds.';

--
-- Name: COLUMN outbox.run_after; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox.run_after IS 'Not before this time.';

--
-- Name: COLUMN outbox.created_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox.created_at IS 'When the row was written.';

--
-- Name: COLUMN outbox.sent_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox.sent_at IS 'When the destination confirmed it.';

--
-- Name: COLUMN outbox.last_error; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox.last_error IS 'What the last try said.';

--
-- Name: CONSTRAINT message_has_its_place ON outbox; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON CONSTRAINT message_has_its_place ON atlas.outbox IS 'A message is ordered by its row in architect_out.';

--
-- Name: outbox_id_seq; Type: SEQUENCE; Schema: atlas; Owner: -
--

ALTER TABLE atlas.outbox ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME atlas.outbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: outbox_status; Type: VIEW; Schema: atlas; Owner: -
--

CREATE VIEW atlas.outbox_status AS
SELECT
    NULL::text AS destination,
    NULL::text AS kind,
    NULL::boolean AS enabled,
    NULL::integer AS failures,
    NULL::timestamp with time zone AS open_until,
    NULL::text AS last_error,
    NULL::timestamp with time zone AS last_sent_at,
    NULL::bigint AS pending,
    NULL::bigint AS dead,
    NULL::timestamp with time zone AS oldest;

--
-- Name: VIEW outbox_status; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON VIEW atlas.outbox_status IS 'Each destination with its breaker and its backlog, and what is kept for want of one.';

--
-- Name: COLUMN outbox_status.destination; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox_status.destination IS 'Its name; null for rows that are kept.';

--
-- Name: COLUMN outbox_status.kind; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox_status.kind IS 'pubsub, webhook, or kept.';

--
-- Name: COLUMN outbox_status.enabled; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox_status.enabled IS 'False: nothing is sent there.';

--
-- Name: COLUMN outbox_status.failures; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox_status.failures IS 'Failures in a row; three open the breaker.';

--
-- Name: COLUMN outbox_status.open_until; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox_status.open_until IS 'Until then nothing is sent there.';

--
-- Name: COLUMN outbox_status.last_error; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox_status.last_error IS 'What its last failure said.';

--
-- Name: COLUMN outbox_status.last_sent_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox_status.last_sent_at IS 'When something last arrived there.';

--
-- Name: COLUMN outbox_status.pending; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox_status.pending IS 'Rows that have yet to leave.';

--
-- Name: COLUMN outbox_status.dead; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox_status.dead IS 'Rows that were rejected three times: `atlas dlq retry|skip --kind outbox`.';

--
-- Name: COLUMN outbox_status.oldest; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.outbox_status.oldest IS 'When the oldest pending row was written.';

--
-- Name: post; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.post (
    task_id uuid NOT NULL,
    part text NOT NULL,
    event_id uuid NOT NULL,
    address text NOT NULL,
    state text DEFAULT 'posting'::text NOT NULL,
    external_id text,
    url text,
    lease_expires_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT post_check CHECK (((state = 'posted'::text) = (external_id IS NOT NULL))),
    CONSTRAINT post_part_check CHECK ((part ~ '^(reply:\d+|thread|issue:\d+|pull_request|notice:[0-9a-f-]{36})$'::text)),
    CONSTRAINT post_state_check CHECK ((state = ANY (ARRAY['posting'::text, 'posted'::text])))
);

--
-- Name: TABLE post; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.post IS 'What was posted outside for a task: comments, messages, issues, a pull request.';

--
-- Name: COLUMN post.task_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.post.task_id IS 'The task it is about; of a notice that is about none, its event.';

--
-- Name: COLUMN post.part; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.post.part IS 'reply:<n> (0 is the progress comment, and then the reply), thread, issue:<n>, pull_request, notice:<event>.';

--
-- Name: COLUMN post.event_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.post.event_id IS 'The event that asked for it first; the post carries it.';

--
-- Name: COLUMN post.address; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.post.address IS 'Where: github:owner/repo#7, or slack:team:channel:thread.';

--
-- Name: COLUMN post.state; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.post.state IS 'posting: about to be made, or uncertain; posted.';

--
-- Name: COLUMN post.external_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.post.external_id IS 'Its id there.';

--
-- Name: COLUMN post.url; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.post.url IS 'Where people see it.';

--
-- Name: COLUMN post.lease_expires_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.post.lease_expires_at IS 'Until then another call may still be making it.';

--
-- Name: COLUMN post.created_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.post.created_at IS 'When it was first asked for.';

--
-- Name: price_factor; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.price_factor (
    kind text NOT NULL,
    name text NOT NULL,
    factor numeric(6,3) NOT NULL,
    CONSTRAINT price_factor_factor_check CHECK ((factor > (0)::numeric)),
    CONSTRAINT price_factor_kind_check CHECK ((kind = ANY (ARRAY['tier'::text, 'window'::text])))
);

--
-- Name: TABLE price_factor; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.price_factor IS 'What a service tier or a completion window multiplies the whole price by.';

--
-- Name: COLUMN price_factor.kind; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.price_factor.kind IS 'tier (default, flex, fast, priority) or window (soonest, 2h, 8h).';

--
-- Name: COLUMN price_factor.name; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.price_factor.name IS 'Its name in the provider''s API.';

--
-- Name: COLUMN price_factor.factor; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.price_factor.factor IS '0.5 is half the price.';

--
-- Name: prompt; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.prompt (
    attempt_id uuid NOT NULL,
    call integer NOT NULL,
    task_id uuid NOT NULL,
    model text NOT NULL,
    version text NOT NULL,
    parameters jsonb NOT NULL,
    body jsonb NOT NULL,
    sources jsonb NOT NULL,
    texts bytea[] NOT NULL,
    sha256 bytea NOT NULL,
    made_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT prompt_call_check CHECK ((call >= 0)),
    CONSTRAINT prompt_sha256_check CHECK ((length(sha256) = 32))
);

--
-- Name: TABLE prompt; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.prompt IS 'What a model was asked in each call. atlas.read_prompts puts the texts together.';

--
-- Name: COLUMN prompt.attempt_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.prompt.attempt_id IS 'The attempt.';

--
-- Name: COLUMN prompt.call; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.prompt.call IS 'The call of the attempt, from 0.';

--
-- Name: COLUMN prompt.task_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.prompt.task_id IS 'The task.';

--
-- Name: COLUMN prompt.model; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.prompt.model IS 'The model.';

--
-- Name: COLUMN prompt.version; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.prompt.version IS 'The version of the prompts.';

--
-- Name: COLUMN prompt.parameters; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.prompt.parameters IS 'Kind of reply, output limit, effort, service tier, JSON Schema.';

--
-- Name: COLUMN prompt.body; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.prompt.body IS 'Instructions and turns, [[role, [piece]]]: a piece is text, or {"sha256"} of atlas.prompt_text.';

--
-- Name: COLUMN prompt.sources; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.prompt.sources IS 'What the sources are called in it, and where they stand.';

--
-- Name: COLUMN prompt.texts; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.prompt.texts IS 'The hashes of its shared texts.';

--
-- Name: COLUMN prompt.sha256; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.prompt.sha256 IS 'The hash of the whole, as the audit has it.';

--
-- Name: COLUMN prompt.made_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.prompt.made_at IS 'When it was sent.';

--
-- Name: prompt_text; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.prompt_text (
    sha256 bytea NOT NULL,
    text text NOT NULL,
    seen_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT prompt_text_sha256_check CHECK ((length(sha256) = 32))
);

--
-- Name: TABLE prompt_text; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.prompt_text IS 'Instructions and passages of prompts, once each by their hash.';

--
-- Name: COLUMN prompt_text.sha256; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.prompt_text.sha256 IS 'SHA-256 of the text in UTF-8.';

--
-- Name: COLUMN prompt_text.text; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.prompt_text.text IS 'The text.';

--
-- Name: COLUMN prompt_text.seen_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.prompt_text.seen_at IS 'When a prompt last had it, give or take a day.';

--
-- Name: queue_status; Type: VIEW; Schema: atlas; Owner: -
--

CREATE VIEW atlas.queue_status WITH (security_invoker='true') AS
 SELECT state,
    wait_reason,
    count(*) AS tasks,
    min(queued_at) AS oldest,
    max(queued_at) AS newest,
    min(run_after) FILTER (WHERE (wait_reason IS NOT NULL)) AS next_run_after
   FROM atlas.task t
  GROUP BY state, wait_reason;

--
-- Name: VIEW queue_status; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON VIEW atlas.queue_status IS 'How many tasks are in which state, and why queued ones wait.';

--
-- Name: COLUMN queue_status.state; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.queue_status.state IS 'queued, running, completed, failed, cancelled or dead_lettered.';

--
-- Name: COLUMN queue_status.wait_reason; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.queue_status.wait_reason IS 'Why a queued task is not ready yet.';

--
-- Name: COLUMN queue_status.tasks; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.queue_status.tasks IS 'How many tasks.';

--
-- Name: COLUMN queue_status.oldest; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.queue_status.oldest IS 'When the oldest of them was queued.';

--
-- Name: COLUMN queue_status.newest; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.queue_status.newest IS 'When the newest of them was queued.';

--
-- Name: COLUMN queue_status.next_run_after; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.queue_status.next_run_after IS 'When the first of those that wait is due.';

--
-- Name: rate_bucket; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.rate_bucket (
    model text NOT NULL,
    unit text NOT NULL,
    per_minute bigint NOT NULL,
    level numeric(20,3) NOT NULL,
    as_of timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    blocked_until timestamp with time zone,
    CONSTRAINT level_within_limit CHECK (((level >= (0)::numeric) AND (level <= (per_minute)::numeric))),
    CONSTRAINT rate_bucket_per_minute_check CHECK ((per_minute > 0)),
    CONSTRAINT rate_bucket_unit_check CHECK ((unit = ANY (ARRAY['requests'::text, 'tokens'::text])))
);

--
-- Name: TABLE rate_bucket; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.rate_bucket IS 'The provider''s rate limits of a model; a model without rows has none that is known.';

--
-- Name: COLUMN rate_bucket.model; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.rate_bucket.model IS 'The model that is called.';

--
-- Name: COLUMN rate_bucket.unit; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.rate_bucket.unit IS 'requests or tokens.';

--
-- Name: COLUMN rate_bucket.per_minute; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.rate_bucket.per_minute IS 'The limit, as x-ratelimit-limit-* said it last.';

--
-- Name: COLUMN rate_bucket.level; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.rate_bucket.level IS 'What was left at as_of; it fills up within a minute.';

--
-- Name: COLUMN rate_bucket.as_of; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.rate_bucket.as_of IS 'When level was true.';

--
-- Name: COLUMN rate_bucket.blocked_until; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.rate_bucket.blocked_until IS 'The provider said 429: nothing is leased before this time.';

--
-- Name: CONSTRAINT level_within_limit ON rate_bucket; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON CONSTRAINT level_within_limit ON atlas.rate_bucket IS 'A bucket holds at most a minute''s worth.';

--
-- Name: rejected_message; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.rejected_message (
    id bigint NOT NULL,
    source text NOT NULL,
    payload jsonb,
    reason text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

--
-- Name: TABLE rejected_message; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.rejected_message IS 'Messages from outside that broke the contract: acked, and kept here.';

--
-- Name: COLUMN rejected_message.id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.rejected_message.id IS 'Its id.';

--
-- Name: COLUMN rejected_message.source; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.rejected_message.source IS 'Where it came from.';

--
-- Name: COLUMN rejected_message.payload; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.rejected_message.payload IS 'The message as it came.';

--
-- Name: COLUMN rejected_message.reason; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.rejected_message.reason IS 'Why it was refused.';

--
-- Name: COLUMN rejected_message.created_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.rejected_message.created_at IS 'When the row was written.';

--
-- Name: rejected_message_id_seq; Type: SEQUENCE; Schema: atlas; Owner: -
--

ALTER TABLE atlas.rejected_message ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME atlas.rejected_message_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: reply_part; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.reply_part (
    attempt_id uuid NOT NULL,
    generation integer NOT NULL,
    "offset" integer NOT NULL,
    seq integer DEFAULT 0 NOT NULL,
    text text NOT NULL,
    inherited boolean DEFAULT false NOT NULL,
    task_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT reply_part_generation_check CHECK ((generation >= 0)),
    CONSTRAINT reply_part_offset_check CHECK (("offset" >= 0)),
    CONSTRAINT reply_part_seq_check CHECK ((seq >= 0)),
    CONSTRAINT reply_part_text_check CHECK ((text <> ''::text))
);

--
-- Name: TABLE reply_part; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.reply_part IS 'The reply while it is written. Insert-only; read by attempt, generation, offset.';

--
-- Name: COLUMN reply_part.attempt_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.reply_part.attempt_id IS 'The attempt it belongs to.';

--
-- Name: COLUMN reply_part.generation; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.reply_part.generation IS 'Rises with each fallback or repair.';

--
-- Name: COLUMN reply_part."offset"; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.reply_part."offset" IS 'Unicode code points of this generation before this part.';

--
-- Name: COLUMN reply_part.seq; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.reply_part.seq IS 'Which part of its attempt, from 1; rises over generations.';

--
-- Name: COLUMN reply_part.text; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.reply_part.text IS 'The text of the part.';

--
-- Name: COLUMN reply_part.inherited; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.reply_part.inherited IS 'It repeats what a lost attempt had of the same response: readers have it already.';

--
-- Name: COLUMN reply_part.task_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.reply_part.task_id IS 'The task it belongs to.';

--
-- Name: COLUMN reply_part.created_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.reply_part.created_at IS 'When the row was written.';

--
-- Name: spend; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.spend (
    id bigint NOT NULL,
    task_id uuid NOT NULL,
    attempt_id uuid NOT NULL,
    call integer NOT NULL,
    corrects bigint,
    state text DEFAULT 'reserved'::text NOT NULL,
    model text NOT NULL,
    price_from date,
    tier text DEFAULT 'default'::text NOT NULL,
    completion_window text DEFAULT 'soonest'::text NOT NULL,
    tier_given text,
    factor numeric(6,3) DEFAULT 1 NOT NULL,
    day date NOT NULL,
    scopes text[] NOT NULL,
    reserved_tokens bigint NOT NULL,
    reserved_usd numeric(18,9),
    reserved_output bigint DEFAULT 0 NOT NULL,
    response_id text,
    unstored boolean DEFAULT false NOT NULL,
    adopted_at timestamp with time zone,
    held_until timestamp with time zone,
    left_at timestamp with time zone,
    asked_at timestamp with time zone,
    input_tokens bigint,
    cached_tokens bigint,
    cache_write_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    tokens bigint,
    usd numeric(18,9),
    known text,
    over_reservation boolean DEFAULT false NOT NULL,
    reserved_at timestamp with time zone DEFAULT now() NOT NULL,
    settled_at timestamp with time zone,
    CONSTRAINT corrections_are_settled CHECK (((corrects IS NULL) OR ((state = 'settled'::text) AND (reserved_tokens = 0)))),
    CONSTRAINT only_corrections_are_negative CHECK (((corrects IS NOT NULL) OR (LEAST((input_tokens)::numeric, (cached_tokens)::numeric, (cache_write_tokens)::numeric, (output_tokens)::numeric, (reasoning_tokens)::numeric, (tokens)::numeric, usd) >= (0)::numeric))),
    CONSTRAINT spend_call_check CHECK ((call >= 0)),
    CONSTRAINT spend_check CHECK (((state = 'settled'::text) = (settled_at IS NOT NULL))),
    CONSTRAINT spend_check1 CHECK (((state = 'settled'::text) = (known IS NOT NULL))),
    CONSTRAINT spend_check2 CHECK (((state = 'settled'::text) = (tokens IS NOT NULL))),
    CONSTRAINT spend_check3 CHECK (((state = 'held'::text) = (held_until IS NOT NULL))),
    CONSTRAINT spend_check4 CHECK (((known <> ALL (ARRAY['none'::text, 'presumed_none'::text])) OR (tokens = 0))),
    CONSTRAINT spend_factor_check CHECK ((factor > (0)::numeric)),
    CONSTRAINT spend_known_check CHECK ((known = ANY (ARRAY['reported'::text, 'estimated'::text, 'unknown'::text, 'none'::text, 'presumed_none'::text]))),
    CONSTRAINT spend_reserved_output_check CHECK ((reserved_output >= 0)),
    CONSTRAINT spend_reserved_tokens_check CHECK ((reserved_tokens >= 0)),
    CONSTRAINT spend_reserved_usd_check CHECK ((reserved_usd >= (0)::numeric)),
    CONSTRAINT spend_state_check CHECK ((state = ANY (ARRAY['reserved'::text, 'held'::text, 'settled'::text]))),
    CONSTRAINT what_was_left_is_open CHECK (((left_at IS NULL) OR ((state = 'reserved'::text) AND (response_id IS NOT NULL))))
)
WITH (fillfactor='50');

--
-- Name: TABLE spend; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.spend IS 'One row a model call, from its reservation to its settlement; a correction is a row of its own.';

--
-- Name: COLUMN spend.id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.id IS 'Its id.';

--
-- Name: COLUMN spend.task_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.task_id IS 'The task it belongs to; the task may have been trimmed since.';

--
-- Name: COLUMN spend.attempt_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.attempt_id IS 'The attempt that made the call, or that took it up from a lost one; it may have been trimmed since.';

--
-- Name: COLUMN spend.call; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.call IS 'Which call of its attempt, from 0. Makes reserving idempotent.';

--
-- Name: COLUMN spend.corrects; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.corrects IS 'The settled call that this row corrects, by its differences.';

--
-- Name: COLUMN spend.state; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.state IS 'reserved while the call is under way; held: sent, and not answered; settled.';

--
-- Name: COLUMN spend.model; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.model IS 'The model that answered, or was called.';

--
-- Name: COLUMN spend.price_from; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.price_from IS 'valid_from of the price row used; null where the model has no price.';

--
-- Name: COLUMN spend.tier; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.tier IS 'The service tier that was asked for.';

--
-- Name: COLUMN spend.completion_window; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.completion_window IS 'soonest, 2h or 8h: until when the reply was asked for.';

--
-- Name: COLUMN spend.tier_given; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.tier_given IS 'The service tier that the response reports; the price goes by it.';

--
-- Name: COLUMN spend.factor; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.factor IS 'What tier and window multiply the price by.';

--
-- Name: COLUMN spend.day; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.day IS 'The UTC day.';

--
-- Name: COLUMN spend.scopes; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.scopes IS 'The budgets that it counts against.';

--
-- Name: COLUMN spend.reserved_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.reserved_tokens IS 'The worst case: counted input with a margin, and the most output.';

--
-- Name: COLUMN spend.reserved_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.reserved_usd IS 'The worst case in US dollars; null where the model has no price.';

--
-- Name: COLUMN spend.reserved_output; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.reserved_output IS 'Of what is reserved, the most that the call may write: max_output_tokens.';

--
-- Name: COLUMN spend.response_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.response_id IS 'The provider''s id of the response.';

--
-- Name: COLUMN spend.unstored; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.unstored IS 'Its response had begun, and the provider does not keep it: when its reader is lost, it is.';

--
-- Name: COLUMN spend.adopted_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.adopted_at IS 'When the provider''s webhook told of its response.';

--
-- Name: COLUMN spend.held_until; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.held_until IS 'When its hold ends: then it is presumed not made, or booked in full, as atlas.spend_rules says.';

--
-- Name: COLUMN spend.left_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.left_at IS 'Since when no attempt reads its response, which is not settled.';

--
-- Name: COLUMN spend.asked_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.asked_at IS 'When the provider was last asked what became of it.';

--
-- Name: COLUMN spend.input_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.input_tokens IS 'Tokens sent.';

--
-- Name: COLUMN spend.cached_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.cached_tokens IS 'Those of the input that the provider had cached.';

--
-- Name: COLUMN spend.cache_write_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.cache_write_tokens IS 'Those of the input that the provider wrote to its cache.';

--
-- Name: COLUMN spend.output_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.output_tokens IS 'Reasoning tokens are among them.';

--
-- Name: COLUMN spend.reasoning_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.reasoning_tokens IS 'Those of the output that nobody sees.';

--
-- Name: COLUMN spend.tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.tokens IS 'What counts: input and output, or the reservation while usage is unknown; of a correction the difference.';

--
-- Name: COLUMN spend.usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.usd IS 'US dollars.';

--
-- Name: COLUMN spend.known; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.known IS 'reported by the provider; estimated; unknown: the whole reservation counts until it is corrected; none: it was not made, or the
provider refused it; presumed_none: sent, never answered, and nothing was heard of it.';

--
-- Name: COLUMN spend.over_reservation; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.over_reservation IS 'The provider used more than was reserved; it counts in full.';

--
-- Name: COLUMN spend.reserved_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.reserved_at IS 'When it was reserved, just before the call.';

--
-- Name: COLUMN spend.settled_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend.settled_at IS 'When the usage was known, or given up.';

--
-- Name: CONSTRAINT corrections_are_settled ON spend; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON CONSTRAINT corrections_are_settled ON atlas.spend IS 'A correction reserves nothing.';

--
-- Name: CONSTRAINT only_corrections_are_negative ON spend; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON CONSTRAINT only_corrections_are_negative ON atlas.spend IS 'A correction is the difference, and may be negative.';

--
-- Name: CONSTRAINT what_was_left_is_open ON spend; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON CONSTRAINT what_was_left_is_open ON atlas.spend IS 'Only a response can be left, and while it is not settled.';

--
-- Name: spend_by_day; Type: VIEW; Schema: atlas; Owner: -
--

CREATE VIEW atlas.spend_by_day WITH (security_invoker='true') AS
 SELECT day,
    count(*) FILTER (WHERE ((state = 'settled'::text) AND (corrects IS NULL))) AS calls,
    sum(input_tokens) AS input_tokens,
    sum(cached_tokens) AS cached_tokens,
    sum(output_tokens) AS output_tokens,
    sum(reasoning_tokens) AS reasoning_tokens,
    sum(tokens) AS tokens,
    sum(usd) AS usd,
    count(*) FILTER (WHERE ((known = 'unknown'::text) AND (NOT (EXISTS ( SELECT
           FROM atlas.spend c
          WHERE (c.corrects = s.id)))))) AS unknown_calls,
    sum(cache_write_tokens) AS cache_write_tokens,
    count(*) FILTER (WHERE (state = 'held'::text)) AS held_calls,
    sum(reserved_tokens) FILTER (WHERE (state = 'held'::text)) AS held_tokens,
    sum(reserved_usd) FILTER (WHERE (state = 'held'::text)) AS held_usd,
    count(*) FILTER (WHERE ((known = 'presumed_none'::text) AND (NOT (EXISTS ( SELECT
           FROM atlas.spend c
          WHERE (c.corrects = s.id)))))) AS presumed_calls,
    sum(reserved_usd) FILTER (WHERE ((known = 'presumed_none'::text) AND (NOT (EXISTS ( SELECT
           FROM atlas.spend c
          WHERE (c.corrects = s.id)))))) AS presumed_usd
   FROM atlas.spend s
  WHERE (state <> 'reserved'::text)
  GROUP BY day;

--
-- Name: VIEW spend_by_day; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON VIEW atlas.spend_by_day IS 'Calls a UTC day.';

--
-- Name: COLUMN spend_by_day.day; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_day.day IS 'The UTC day.';

--
-- Name: COLUMN spend_by_day.calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_day.calls IS 'Model calls.';

--
-- Name: COLUMN spend_by_day.input_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_day.input_tokens IS 'Tokens sent.';

--
-- Name: COLUMN spend_by_day.cached_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_day.cached_tokens IS 'Those of the input that the provider had cached.';

--
-- Name: COLUMN spend_by_day.output_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_day.output_tokens IS 'Tokens written, reasoning included.';

--
-- Name: COLUMN spend_by_day.reasoning_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_day.reasoning_tokens IS 'Those of the output that nobody sees.';

--
-- Name: COLUMN spend_by_day.tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_day.tokens IS 'Input and output together.';

--
-- Name: COLUMN spend_by_day.usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_day.usd IS 'US dollars.';

--
-- Name: COLUMN spend_by_day.unknown_calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_day.unknown_calls IS 'Calls of unknown usage: they count at their worst case.';

--
-- Name: COLUMN spend_by_day.cache_write_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_day.cache_write_tokens IS 'Those of the input that the provider wrote to its cache.';

--
-- Name: COLUMN spend_by_day.held_calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_day.held_calls IS 'Calls that were sent and not answered: they count at their worst case until their hold ends.';

--
-- Name: COLUMN spend_by_day.held_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_day.held_tokens IS 'Tokens that held calls reserve; not among tokens.';

--
-- Name: COLUMN spend_by_day.held_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_day.held_usd IS 'US dollars that held calls reserve; not among usd.';

--
-- Name: COLUMN spend_by_day.presumed_calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_day.presumed_calls IS 'Calls presumed not made, since nobody heard of them.';

--
-- Name: COLUMN spend_by_day.presumed_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_day.presumed_usd IS 'US dollars that those would have cost at worst; not among usd.';

--
-- Name: spend_by_decision; Type: VIEW; Schema: atlas; Owner: -
--

CREATE VIEW atlas.spend_by_decision WITH (security_invoker='true') AS
 SELECT s.day,
    ((p.name || ' ADR-'::text) || d.number) AS decision,
    count(*) FILTER (WHERE ((s.state = 'settled'::text) AND (s.corrects IS NULL))) AS calls,
    sum(s.input_tokens) AS input_tokens,
    sum(s.cached_tokens) AS cached_tokens,
    sum(s.cache_write_tokens) AS cache_write_tokens,
    sum(s.output_tokens) AS output_tokens,
    sum(s.reasoning_tokens) AS reasoning_tokens,
    sum(s.tokens) AS tokens,
    sum(s.usd) AS usd,
    count(*) FILTER (WHERE ((s.known = 'unknown'::text) AND (NOT (EXISTS ( SELECT
           FROM atlas.spend c
          WHERE (c.corrects = s.id)))))) AS unknown_calls,
    count(*) FILTER (WHERE (s.state = 'held'::text)) AS held_calls,
    sum(s.reserved_tokens) FILTER (WHERE (s.state = 'held'::text)) AS held_tokens,
    sum(s.reserved_usd) FILTER (WHERE (s.state = 'held'::text)) AS held_usd,
    count(*) FILTER (WHERE ((s.known = 'presumed_none'::text) AND (NOT (EXISTS ( SELECT
           FROM atlas.spend c
          WHERE (c.corrects = s.id)))))) AS presumed_calls,
    sum(s.reserved_usd) FILTER (WHERE ((s.known = 'presumed_none'::text) AND (NOT (EXISTS ( SELECT
           FROM atlas.spend c
          WHERE (c.corrects = s.id)))))) AS presumed_usd
   FROM ((atlas.decision d
     JOIN atlas.project p ON ((p.id = d.project_id)))
     JOIN atlas.spend s ON ((s.task_id = d.task_id)))
  WHERE (s.state <> 'reserved'::text)
  GROUP BY s.day, p.name, d.number;

--
-- Name: VIEW spend_by_decision; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON VIEW atlas.spend_by_decision IS 'Calls a UTC day and decision: what its record cost.';

--
-- Name: COLUMN spend_by_decision.day; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_decision.day IS 'The UTC day.';

--
-- Name: COLUMN spend_by_decision.decision; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_decision.decision IS 'Project and number, such as payments ADR-7.';

--
-- Name: COLUMN spend_by_decision.calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_decision.calls IS 'Model calls.';

--
-- Name: COLUMN spend_by_decision.input_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_decision.input_tokens IS 'Tokens sent.';

--
-- Name: COLUMN spend_by_decision.cached_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_decision.cached_tokens IS 'Those of the input that the provider had cached.';

--
-- Name: COLUMN spend_by_decision.cache_write_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_decision.cache_write_tokens IS 'Those of the input that the provider wrote to its cache.';

--
-- Name: COLUMN spend_by_decision.output_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_decision.output_tokens IS 'Tokens written, reasoning included.';

--
-- Name: COLUMN spend_by_decision.reasoning_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_decision.reasoning_tokens IS 'Those of the output that nobody sees.';

--
-- Name: COLUMN spend_by_decision.tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_decision.tokens IS 'Input and output together.';

--
-- Name: COLUMN spend_by_decision.usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_decision.usd IS 'US dollars.';

--
-- Name: COLUMN spend_by_decision.unknown_calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_decision.unknown_calls IS 'Calls of unknown usage: they count at their worst case.';

--
-- Name: COLUMN spend_by_decision.held_calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_decision.held_calls IS 'Calls that were sent and not answered: they count at their worst case until their hold ends.';

--
-- Name: COLUMN spend_by_decision.held_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_decision.held_tokens IS 'Tokens that held calls reserve; not among tokens.';

--
-- Name: COLUMN spend_by_decision.held_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_decision.held_usd IS 'US dollars that held calls reserve; not among usd.';

--
-- Name: COLUMN spend_by_decision.presumed_calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_decision.presumed_calls IS 'Calls presumed not made, since nobody heard of them.';

--
-- Name: COLUMN spend_by_decision.presumed_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_decision.presumed_usd IS 'US dollars that those would have cost at worst; not among usd.';

--
-- Name: spend_by_model; Type: VIEW; Schema: atlas; Owner: -
--

CREATE VIEW atlas.spend_by_model WITH (security_invoker='true') AS
 SELECT day,
    model,
    count(*) FILTER (WHERE ((state = 'settled'::text) AND (corrects IS NULL))) AS calls,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(tokens) AS tokens,
    sum(usd) AS usd,
    sum(cached_tokens) AS cached_tokens,
    sum(reasoning_tokens) AS reasoning_tokens,
    count(*) FILTER (WHERE ((known = 'unknown'::text) AND (NOT (EXISTS ( SELECT
           FROM atlas.spend c
          WHERE (c.corrects = s.id)))))) AS unknown_calls,
    sum(cache_write_tokens) AS cache_write_tokens,
    count(*) FILTER (WHERE (state = 'held'::text)) AS held_calls,
    sum(reserved_tokens) FILTER (WHERE (state = 'held'::text)) AS held_tokens,
    sum(reserved_usd) FILTER (WHERE (state = 'held'::text)) AS held_usd,
    count(*) FILTER (WHERE ((known = 'presumed_none'::text) AND (NOT (EXISTS ( SELECT
           FROM atlas.spend c
          WHERE (c.corrects = s.id)))))) AS presumed_calls,
    sum(reserved_usd) FILTER (WHERE ((known = 'presumed_none'::text) AND (NOT (EXISTS ( SELECT
           FROM atlas.spend c
          WHERE (c.corrects = s.id)))))) AS presumed_usd
   FROM atlas.spend s
  WHERE (state <> 'reserved'::text)
  GROUP BY day, model;

--
-- Name: VIEW spend_by_model; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON VIEW atlas.spend_by_model IS 'Calls a UTC day and model.';

--
-- Name: COLUMN spend_by_model.day; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_model.day IS 'The UTC day.';

--
-- Name: COLUMN spend_by_model.model; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_model.model IS 'The model that answered, or was called.';

--
-- Name: COLUMN spend_by_model.calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_model.calls IS 'Model calls.';

--
-- Name: COLUMN spend_by_model.input_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_model.input_tokens IS 'Tokens sent.';

--
-- Name: COLUMN spend_by_model.output_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_model.output_tokens IS 'Tokens written, reasoning included.';

--
-- Name: COLUMN spend_by_model.tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_model.tokens IS 'Input and output together.';

--
-- Name: COLUMN spend_by_model.usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_model.usd IS 'US dollars.';

--
-- Name: COLUMN spend_by_model.cached_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_model.cached_tokens IS 'Those of the input that the provider had cached.';

--
-- Name: COLUMN spend_by_model.reasoning_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_model.reasoning_tokens IS 'Those of the output that nobody sees.';

--
-- Name: COLUMN spend_by_model.unknown_calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_model.unknown_calls IS 'Calls of unknown usage: they count at their worst case.';

--
-- Name: COLUMN spend_by_model.cache_write_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_model.cache_write_tokens IS 'Those of the input that the provider wrote to its cache.';

--
-- Name: COLUMN spend_by_model.held_calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_model.held_calls IS 'Calls that were sent and not answered: they count at their worst case until their hold ends.';

--
-- Name: COLUMN spend_by_model.held_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_model.held_tokens IS 'Tokens that held calls reserve; not among tokens.';

--
-- Name: COLUMN spend_by_model.held_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_model.held_usd IS 'US dollars that held calls reserve; not among usd.';

--
-- Name: COLUMN spend_by_model.presumed_calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_model.presumed_calls IS 'Calls presumed not made, since nobody heard of them.';

--
-- Name: COLUMN spend_by_model.presumed_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_model.presumed_usd IS 'US dollars that those would have cost at worst; not among usd.';

--
-- Name: spend_by_project; Type: VIEW; Schema: atlas; Owner: -
--

CREATE VIEW atlas.spend_by_project WITH (security_invoker='true') AS
 SELECT s.day,
    s.project_id,
    p.name AS project,
    s.calls,
    s.input_tokens,
    s.cached_tokens,
    s.output_tokens,
    s.reasoning_tokens,
    s.tokens,
    s.usd,
    s.unknown_calls,
    s.cache_write_tokens,
    s.held_calls,
    s.held_tokens,
    s.held_usd,
    s.presumed_calls,
    s.presumed_usd
   FROM (( SELECT s_1.day,
            (substr(s_1.scopes[2], 9))::uuid AS project_id,
            count(*) FILTER (WHERE ((s_1.state = 'settled'::text) AND (s_1.corrects IS NULL))) AS calls,
            sum(s_1.input_tokens) AS input_tokens,
            sum(s_1.cached_tokens) AS cached_tokens,
            sum(s_1.output_tokens) AS output_tokens,
            sum(s_1.reasoning_tokens) AS reasoning_tokens,
            sum(s_1.tokens) AS tokens,
            sum(s_1.usd) AS usd,
            count(*) FILTER (WHERE ((s_1.known = 'unknown'::text) AND (NOT (EXISTS ( SELECT
                   FROM atlas.spend c
                  WHERE (c.corrects = s_1.id)))))) AS unknown_calls,
            sum(s_1.cache_write_tokens) AS cache_write_tokens,
            count(*) FILTER (WHERE (s_1.state = 'held'::text)) AS held_calls,
            sum(s_1.reserved_tokens) FILTER (WHERE (s_1.state = 'held'::text)) AS held_tokens,
            sum(s_1.reserved_usd) FILTER (WHERE (s_1.state = 'held'::text)) AS held_usd,
            count(*) FILTER (WHERE ((s_1.known = 'presumed_none'::text) AND (NOT (EXISTS ( SELECT
                   FROM atlas.spend c
                  WHERE (c.corrects = s_1.id)))))) AS presumed_calls,
            sum(s_1.reserved_usd) FILTER (WHERE ((s_1.known = 'presumed_none'::text) AND (NOT (EXISTS ( SELECT
                   FROM atlas.spend c
                  WHERE (c.corrects = s_1.id)))))) AS presumed_usd
           FROM atlas.spend s_1
          WHERE (s_1.state <> 'reserved'::text)
          GROUP BY s_1.day, s_1.scopes[2]) s
     LEFT JOIN atlas.project p ON ((p.id = s.project_id)));

--
-- Name: VIEW spend_by_project; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON VIEW atlas.spend_by_project IS 'Calls a UTC day and project.';

--
-- Name: COLUMN spend_by_project.day; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.day IS 'The UTC day.';

--
-- Name: COLUMN spend_by_project.project_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.project_id IS 'The project it belongs to.';

--
-- Name: COLUMN spend_by_project.project; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.project IS 'The name of the project.';

--
-- Name: COLUMN spend_by_project.calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.calls IS 'Model calls.';

--
-- Name: COLUMN spend_by_project.input_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.input_tokens IS 'Tokens sent.';

--
-- Name: COLUMN spend_by_project.cached_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.cached_tokens IS 'Those of the input that the provider had cached.';

--
-- Name: COLUMN spend_by_project.output_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.output_tokens IS 'Tokens written, reasoning included.';

--
-- Name: COLUMN spend_by_project.reasoning_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.reasoning_tokens IS 'Those of the output that nobody sees.';

--
-- Name: COLUMN spend_by_project.tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.tokens IS 'Input and output together.';

--
-- Name: COLUMN spend_by_project.usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.usd IS 'US dollars.';

--
-- Name: COLUMN spend_by_project.unknown_calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.unknown_calls IS 'Calls of unknown usage: they count at their worst case.';

--
-- Name: COLUMN spend_by_project.cache_write_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.cache_write_tokens IS 'Those of the input that the provider wrote to its cache.';

--
-- Name: COLUMN spend_by_project.held_calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.held_calls IS 'Calls that were sent and not answered: they count at their worst case until their hold ends.';

--
-- Name: COLUMN spend_by_project.held_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.held_tokens IS 'Tokens that held calls reserve; not among tokens.';

--
-- Name: COLUMN spend_by_project.held_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.held_usd IS 'US dollars that held calls reserve; not among usd.';

--
-- Name: COLUMN spend_by_project.presumed_calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.presumed_calls IS 'Calls presumed not made, since nobody heard of them.';

--
-- Name: COLUMN spend_by_project.presumed_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_project.presumed_usd IS 'US dollars that those would have cost at worst; not among usd.';

--
-- Name: spend_by_sender; Type: VIEW; Schema: atlas; Owner: -
--

CREATE VIEW atlas.spend_by_sender WITH (security_invoker='true') AS
 SELECT day,
    substr(scopes[3], 8) AS sender_key,
    (substr(scopes[2], 9))::uuid AS project_id,
    count(*) FILTER (WHERE ((state = 'settled'::text) AND (corrects IS NULL))) AS calls,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(tokens) AS tokens,
    sum(usd) AS usd,
    sum(cached_tokens) AS cached_tokens,
    sum(reasoning_tokens) AS reasoning_tokens,
    count(*) FILTER (WHERE ((known = 'unknown'::text) AND (NOT (EXISTS ( SELECT
           FROM atlas.spend c
          WHERE (c.corrects = s.id)))))) AS unknown_calls,
    sum(cache_write_tokens) AS cache_write_tokens,
    count(*) FILTER (WHERE (state = 'held'::text)) AS held_calls,
    sum(reserved_tokens) FILTER (WHERE (state = 'held'::text)) AS held_tokens,
    sum(reserved_usd) FILTER (WHERE (state = 'held'::text)) AS held_usd,
    count(*) FILTER (WHERE ((known = 'presumed_none'::text) AND (NOT (EXISTS ( SELECT
           FROM atlas.spend c
          WHERE (c.corrects = s.id)))))) AS presumed_calls,
    sum(reserved_usd) FILTER (WHERE ((known = 'presumed_none'::text) AND (NOT (EXISTS ( SELECT
           FROM atlas.spend c
          WHERE (c.corrects = s.id)))))) AS presumed_usd
   FROM atlas.spend s
  WHERE (state <> 'reserved'::text)
  GROUP BY day, scopes[3], scopes[2];

--
-- Name: VIEW spend_by_sender; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON VIEW atlas.spend_by_sender IS 'Calls a UTC day, sender and project.';

--
-- Name: COLUMN spend_by_sender.day; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.day IS 'The UTC day.';

--
-- Name: COLUMN spend_by_sender.sender_key; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.sender_key IS 'Whose turn and whose budget: the user, an outside identity, or service.';

--
-- Name: COLUMN spend_by_sender.project_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.project_id IS 'The project it belongs to.';

--
-- Name: COLUMN spend_by_sender.calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.calls IS 'Model calls.';

--
-- Name: COLUMN spend_by_sender.input_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.input_tokens IS 'Tokens sent.';

--
-- Name: COLUMN spend_by_sender.output_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.output_tokens IS 'Tokens written, reasoning included.';

--
-- Name: COLUMN spend_by_sender.tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.tokens IS 'Input and output together.';

--
-- Name: COLUMN spend_by_sender.usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.usd IS 'US dollars.';

--
-- Name: COLUMN spend_by_sender.cached_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.cached_tokens IS 'Those of the input that the provider had cached.';

--
-- Name: COLUMN spend_by_sender.reasoning_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.reasoning_tokens IS 'Those of the output that nobody sees.';

--
-- Name: COLUMN spend_by_sender.unknown_calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.unknown_calls IS 'Calls of unknown usage: they count at their worst case.';

--
-- Name: COLUMN spend_by_sender.cache_write_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.cache_write_tokens IS 'Those of the input that the provider wrote to its cache.';

--
-- Name: COLUMN spend_by_sender.held_calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.held_calls IS 'Calls that were sent and not answered: they count at their worst case until their hold ends.';

--
-- Name: COLUMN spend_by_sender.held_tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.held_tokens IS 'Tokens that held calls reserve; not among tokens.';

--
-- Name: COLUMN spend_by_sender.held_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.held_usd IS 'US dollars that held calls reserve; not among usd.';

--
-- Name: COLUMN spend_by_sender.presumed_calls; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.presumed_calls IS 'Calls presumed not made, since nobody heard of them.';

--
-- Name: COLUMN spend_by_sender.presumed_usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_by_sender.presumed_usd IS 'US dollars that those would have cost at worst; not among usd.';

--
-- Name: spend_id_seq; Type: SEQUENCE; Schema: atlas; Owner: -
--

ALTER TABLE atlas.spend ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME atlas.spend_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: spend_rules; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.spend_rules (
    only_row boolean DEFAULT true NOT NULL,
    hold_seconds integer DEFAULT 900 NOT NULL,
    held_retry_seconds integer DEFAULT 60 NOT NULL,
    hold_unknown text DEFAULT 'release'::text NOT NULL,
    sender_daily_share numeric(4,3) DEFAULT 0.5,
    CONSTRAINT spend_rules_held_retry_seconds_check CHECK ((held_retry_seconds >= 0)),
    CONSTRAINT spend_rules_hold_seconds_check CHECK ((hold_seconds >= 0)),
    CONSTRAINT spend_rules_hold_unknown_check CHECK ((hold_unknown = ANY (ARRAY['release'::text, 'settle'::text]))),
    CONSTRAINT spend_rules_only_row_check CHECK (only_row),
    CONSTRAINT spend_rules_sender_daily_share_check CHECK (((sender_daily_share > (0)::numeric) AND (sender_daily_share <= (1)::numeric)))
);

--
-- Name: TABLE spend_rules; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.spend_rules IS 'One row: how calls without an answer and people without a budget are treated. Workers set it when they start.';

--
-- Name: COLUMN spend_rules.only_row; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_rules.only_row IS 'There is one row.';

--
-- Name: COLUMN spend_rules.hold_seconds; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_rules.hold_seconds IS 'How long the reservation of a call that was sent and not answered goes on counting.';

--
-- Name: COLUMN spend_rules.held_retry_seconds; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_rules.held_retry_seconds IS 'How long its task waits before its second call.';

--
-- Name: COLUMN spend_rules.hold_unknown; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_rules.hold_unknown IS 'What becomes of it then. release: presumed not made. settle: booked in full.';

--
-- Name: COLUMN spend_rules.sender_daily_share; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.spend_rules.sender_daily_share IS 'Of their project''s day, what a person without a budget of their own may spend; null: all.';

--
-- Name: task_history; Type: VIEW; Schema: atlas; Owner: -
--

CREATE VIEW atlas.task_history WITH (security_invoker='true') AS
 SELECT t.id,
    t.title,
    t.kind,
    t.state,
    t.wait_reason,
    t.sender,
    t.sender_key,
    t.project_id,
    t.parent_id,
    t.model,
    t.attempts,
    t.failures,
    s.tokens,
    s.usd,
    t.queued_at,
    t.started_at,
    t.finished_at,
    (t.finished_at - t.queued_at) AS took,
    t.error_code,
    t.error_message
   FROM (atlas.task t
     LEFT JOIN LATERAL ( SELECT sum(p.tokens) AS tokens,
            sum(p.usd) AS usd
           FROM atlas.spend p
          WHERE (p.task_id = t.id)) s ON (true));

--
-- Name: VIEW task_history; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON VIEW atlas.task_history IS 'Every task with what it cost and how it ended.';

--
-- Name: COLUMN task_history.id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.id IS 'Its id.';

--
-- Name: COLUMN task_history.title; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.title IS 'The first line, for people who look at the table.';

--
-- Name: COLUMN task_history.kind; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.kind IS 'chat or control.';

--
-- Name: COLUMN task_history.state; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.state IS 'queued, running, completed, failed, cancelled or dead_lettered.';

--
-- Name: COLUMN task_history.wait_reason; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.wait_reason IS 'Why a queued task is not ready yet.';

--
-- Name: COLUMN task_history.sender; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.sender IS 'The user who asked; null for the service role.';

--
-- Name: COLUMN task_history.sender_key; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.sender_key IS 'Whose turn and whose budget: the user, an outside identity, or service.';

--
-- Name: COLUMN task_history.project_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.project_id IS 'The project it belongs to.';

--
-- Name: COLUMN task_history.parent_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.parent_id IS 'The earlier task that it goes on from.';

--
-- Name: COLUMN task_history.model; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.model IS 'The model that answered, or was called.';

--
-- Name: COLUMN task_history.attempts; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.attempts IS 'How many attempts were begun.';

--
-- Name: COLUMN task_history.failures; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.failures IS 'Failures of its own.';

--
-- Name: COLUMN task_history.tokens; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.tokens IS 'Input and output together.';

--
-- Name: COLUMN task_history.usd; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.usd IS 'US dollars.';

--
-- Name: COLUMN task_history.queued_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.queued_at IS 'When it was asked.';

--
-- Name: COLUMN task_history.started_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.started_at IS 'When it began.';

--
-- Name: COLUMN task_history.finished_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.finished_at IS 'When it ended.';

--
-- Name: COLUMN task_history.took; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.took IS 'From the question to the end.';

--
-- Name: COLUMN task_history.error_code; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.error_code IS 'Why it ended without a reply, in one word.';

--
-- Name: COLUMN task_history.error_message; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.task_history.error_message IS 'Why it ended without a reply.';

--
-- Name: watch; Type: TABLE; Schema: atlas; Owner: -
--

CREATE UNLOGGED TABLE atlas.watch (
    task_id uuid NOT NULL,
    reader uuid NOT NULL,
    user_id uuid,
    expires_at timestamp with time zone NOT NULL,
    sent_at timestamp with time zone,
    sent_attempt integer,
    sent_generation integer,
    sent_to integer,
    CONSTRAINT watch_check CHECK ((num_nulls(sent_at, sent_attempt, sent_generation, sent_to) = ANY (ARRAY[0, 4]))),
    CONSTRAINT watch_sent_attempt_check CHECK ((sent_attempt > 0)),
    CONSTRAINT watch_sent_generation_check CHECK ((sent_generation >= 0)),
    CONSTRAINT watch_sent_to_check CHECK ((sent_to >= 0))
);

--
-- Name: TABLE watch; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.watch IS 'Who follows which task over Realtime now; broadcasts of text are for these.';

--
-- Name: COLUMN watch.task_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.watch.task_id IS 'The task it belongs to.';

--
-- Name: COLUMN watch.reader; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.watch.reader IS 'An id that the reader made for itself: one a window or a terminal.';

--
-- Name: COLUMN watch.user_id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.watch.user_id IS 'auth.users.id of the person; null for the service role.';

--
-- Name: COLUMN watch.expires_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.watch.expires_at IS 'When it ends unless atlas.watch_task renews it.';

--
-- Name: COLUMN watch.sent_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.watch.sent_at IS 'When text was last broadcast while it was watched.';

--
-- Name: COLUMN watch.sent_attempt; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.watch.sent_attempt IS 'The attempt whose text that was.';

--
-- Name: COLUMN watch.sent_generation; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.watch.sent_generation IS 'The generation whose text that was.';

--
-- Name: COLUMN watch.sent_to; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.watch.sent_to IS 'Unicode code points of that generation that were broadcast, or stood before.';

--
-- Name: worker; Type: TABLE; Schema: atlas; Owner: -
--

CREATE TABLE atlas.worker (
    id uuid NOT NULL,
    name text NOT NULL,
    version text NOT NULL,
    protocol integer DEFAULT 1 NOT NULL,
    state text DEFAULT 'busy'::text NOT NULL,
    concurrency integer NOT NULL,
    models text[] DEFAULT '{}'::text[] NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    seen_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT worker_concurrency_check CHECK ((concurrency > 0)),
    CONSTRAINT worker_protocol_check CHECK ((protocol > 0)),
    CONSTRAINT worker_state_check CHECK ((state = ANY (ARRAY['idle'::text, 'busy'::text, 'stopped'::text])))
);

--
-- Name: TABLE worker; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TABLE atlas.worker IS 'Who works: alive when seen lately; idle ones are notified of new tasks.';

--
-- Name: COLUMN worker.id; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.worker.id IS 'A new one at each start.';

--
-- Name: COLUMN worker.name; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.worker.name IS 'Host and process.';

--
-- Name: COLUMN worker.version; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.worker.version IS 'Its version of Atlas.';

--
-- Name: COLUMN worker.protocol; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.worker.protocol IS 'Version of the protocol that it speaks with the schema: see atlas.protocols().';

--
-- Name: COLUMN worker.state; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.worker.state IS 'idle waits for a wake-up, busy claims by itself, stopped has left.';

--
-- Name: COLUMN worker.concurrency; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.worker.concurrency IS 'Tasks it runs at once.';

--
-- Name: COLUMN worker.models; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.worker.models IS 'Its chain: the model it calls first, and those it falls back to.';

--
-- Name: COLUMN worker.started_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.worker.started_at IS 'When it began.';

--
-- Name: COLUMN worker.seen_at; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON COLUMN atlas.worker.seen_at IS 'When it last said that it is there.';

--
-- Name: architect_in_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.architect_in ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.architect_in_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: architect_out; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.architect_out (
    id bigint NOT NULL,
    data jsonb NOT NULL,
    task_id uuid NOT NULL,
    owner uuid,
    project_id uuid,
    event_id uuid DEFAULT atlas.new_id() NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT data_is_an_object CHECK ((jsonb_typeof(data) = 'object'::text))
);

--
-- Name: TABLE architect_out; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.architect_out IS 'What Atlas answers: one in_progress row and one final row a task, answers to control messages, escalations.';

--
-- Name: COLUMN architect_out.id; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.architect_out.id IS 'Order of writing; not the order of commits.';

--
-- Name: COLUMN architect_out.data; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.architect_out.data IS 'The message: task_id, role, msg_type, content, metadata with its status.';

--
-- Name: COLUMN architect_out.task_id; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.architect_out.task_id IS 'The task_id of the message that it answers.';

--
-- Name: COLUMN architect_out.owner; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.architect_out.owner IS 'The user whose task it answers; row level security reads it.';

--
-- Name: COLUMN architect_out.project_id; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.architect_out.project_id IS 'The project whose members may read it.';

--
-- Name: COLUMN architect_out.event_id; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.architect_out.event_id IS 'The same wherever this row is sent, and whenever it is sent again: dedupe on it.';

--
-- Name: COLUMN architect_out.created_at; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.architect_out.created_at IS 'When the row was written.';

--
-- Name: CONSTRAINT data_is_an_object ON architect_out; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON CONSTRAINT data_is_an_object ON public.architect_out IS 'A message is one JSON object.';

--
-- Name: architect_out_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.architect_out ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.architect_out_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: cache; Type: TABLE; Schema: rag; Owner: -
--

CREATE TABLE rag.cache (
    key bytea NOT NULL,
    epoch text NOT NULL,
    hits jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    task_id uuid,
    CONSTRAINT cache_hits_check CHECK ((jsonb_typeof(hits) = 'array'::text)),
    CONSTRAINT cache_key_check CHECK ((length(key) = 32))
);

--
-- Name: TABLE cache; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TABLE rag.cache IS 'What retrieval found: fresh while the index is as it was, and a help while the RAG service is away.';

--
-- Name: COLUMN cache.key; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.cache.key IS 'SHA-256 of the question, the settings of the search, and whose documents may be read.';

--
-- Name: COLUMN cache.epoch; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.cache.epoch IS 'The state of the index then.';

--
-- Name: COLUMN cache.hits; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.cache.hits IS 'Documents and passages, best first, with similarity and score.';

--
-- Name: COLUMN cache.created_at; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.cache.created_at IS 'When it was found.';

--
-- Name: COLUMN cache.task_id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.cache.task_id IS 'The task whose search it was, the latest one.';

--
-- Name: chunk; Type: TABLE; Schema: rag; Owner: -
--

CREATE TABLE rag.chunk (
    id bigint NOT NULL,
    document_id uuid NOT NULL,
    seq integer NOT NULL,
    start_line integer NOT NULL,
    end_line integer NOT NULL,
    passage_id bigint NOT NULL,
    CONSTRAINT chunk_check CHECK ((end_line >= start_line)),
    CONSTRAINT chunk_seq_check CHECK ((seq >= 0)),
    CONSTRAINT chunk_start_line_check CHECK ((start_line > 0))
);

--
-- Name: TABLE chunk; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TABLE rag.chunk IS 'A part of a document, at most 800 tokens: a section, a definition, a paragraph.';

--
-- Name: COLUMN chunk.id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.chunk.id IS 'Its number.';

--
-- Name: COLUMN chunk.document_id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.chunk.document_id IS 'The document it is of.';

--
-- Name: COLUMN chunk.seq; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.chunk.seq IS 'Its place in the document, from 0.';

--
-- Name: COLUMN chunk.start_line; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.chunk.start_line IS 'Where it begins: a line, in a PDF a page, in a notebook a cell; from 1.';

--
-- Name: COLUMN chunk.end_line; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.chunk.end_line IS 'Where it ends, itself included.';

--
-- Name: COLUMN chunk.passage_id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.chunk.passage_id IS 'Its text.';

--
-- Name: chunk_id_seq; Type: SEQUENCE; Schema: rag; Owner: -
--

ALTER TABLE rag.chunk ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME rag.chunk_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: citation; Type: TABLE; Schema: rag; Owner: -
--

CREATE TABLE rag.citation (
    task_id uuid NOT NULL,
    passage_id bigint NOT NULL
);

--
-- Name: TABLE citation; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TABLE rag.citation IS 'Which passages were in the prompt of which task: their texts stay while the audit refers to them.';

--
-- Name: COLUMN citation.task_id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.citation.task_id IS 'The task.';

--
-- Name: COLUMN citation.passage_id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.citation.passage_id IS 'The passage.';

--
-- Name: corpus; Type: TABLE; Schema: rag; Owner: -
--

CREATE TABLE rag.corpus (
    scope uuid NOT NULL,
    language text NOT NULL,
    passages bigint NOT NULL,
    words bigint NOT NULL,
    CONSTRAINT corpus_passages_check CHECK ((passages >= 0)),
    CONSTRAINT corpus_words_check CHECK ((words >= 0))
);

--
-- Name: TABLE corpus; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TABLE rag.corpus IS 'How many passages are indexed in a scope and language, and how long they are together.';

--
-- Name: COLUMN corpus.scope; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.corpus.scope IS 'The project whose documents show the passages; zeros: shared documents.';

--
-- Name: COLUMN corpus.language; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.corpus.language IS 'The text search configuration.';

--
-- Name: COLUMN corpus.passages; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.corpus.passages IS 'How many passages.';

--
-- Name: COLUMN corpus.words; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.corpus.words IS 'Their length in words.';

--
-- Name: document; Type: TABLE; Schema: rag; Owner: -
--

CREATE TABLE rag.document (
    id uuid DEFAULT atlas.new_id() NOT NULL,
    project_id uuid,
    source text NOT NULL,
    repository text,
    title text NOT NULL,
    kind text NOT NULL,
    language text DEFAULT 'english'::text NOT NULL,
    content_sha256 bytea NOT NULL,
    commit text,
    chunks integer DEFAULT 0 NOT NULL,
    indexed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT document_chunks_check CHECK ((chunks >= 0)),
    CONSTRAINT document_commit_check CHECK ((commit ~ '^[0-9a-f]{7,64}$'::text)),
    CONSTRAINT document_kind_check CHECK ((kind = ANY (ARRAY['markdown'::text, 'rst'::text, 'text'::text, 'code'::text, 'html'::text, 'pdf'::text, 'notebook'::text]))),
    CONSTRAINT document_language_check CHECK ((language ~ '^[a-z]+$'::text)),
    CONSTRAINT document_repository_check CHECK ((repository <> ''::text)),
    CONSTRAINT document_source_check CHECK ((source <> ''::text))
);

--
-- Name: TABLE document; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TABLE rag.document IS 'One row a file. project_id null: shared by all projects.';

--
-- Name: COLUMN document.id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.document.id IS 'Its id.';

--
-- Name: COLUMN document.project_id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.document.project_id IS 'The project it belongs to.';

--
-- Name: COLUMN document.source; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.document.source IS 'Its path, as sources in a reply name it.';

--
-- Name: COLUMN document.repository; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.document.repository IS 'What it was indexed with: a Git repository by its remote, or a folder; null: it was sent by itself.';

--
-- Name: COLUMN document.title; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.document.title IS 'The first line, for people who look at the table.';

--
-- Name: COLUMN document.kind; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.document.kind IS 'How it was read.';

--
-- Name: COLUMN document.language; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.document.language IS 'The text search configuration of its words: its language; simple for code, and where it cannot be told.';

--
-- Name: COLUMN document.content_sha256; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.document.content_sha256 IS 'An unchanged file is not indexed again.';

--
-- Name: COLUMN document.commit; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.document.commit IS 'The commit at which it was read, where it came from a Git repository.';

--
-- Name: COLUMN document.chunks; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.document.chunks IS 'How many chunks it has.';

--
-- Name: COLUMN document.indexed_at; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.document.indexed_at IS 'When it was last read.';

--
-- Name: embed_item; Type: TABLE; Schema: rag; Owner: -
--

CREATE TABLE rag.embed_item (
    job_id uuid NOT NULL,
    seq integer NOT NULL,
    source text NOT NULL,
    kind text,
    text text NOT NULL,
    done boolean DEFAULT false NOT NULL,
    CONSTRAINT embed_item_seq_check CHECK ((seq >= 0)),
    CONSTRAINT embed_item_source_check CHECK (((source <> ''::text) AND (length(source) <= 2000)))
);

--
-- Name: TABLE embed_item; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TABLE rag.embed_item IS 'The documents of a job. Their texts go when they are done.';

--
-- Name: COLUMN embed_item.job_id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_item.job_id IS 'Of which job.';

--
-- Name: COLUMN embed_item.seq; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_item.seq IS 'Its place in the batch.';

--
-- Name: COLUMN embed_item.source; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_item.source IS 'How sources name it.';

--
-- Name: COLUMN embed_item.kind; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_item.kind IS 'How it is read; null: by its name.';

--
-- Name: COLUMN embed_item.text; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_item.text IS 'What it says; empty once it is done.';

--
-- Name: COLUMN embed_item.done; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embed_item.done IS 'Indexed, unchanged or skipped.';

--
-- Name: embedding; Type: TABLE; Schema: rag; Owner: -
--

CREATE TABLE rag.embedding (
    index_id integer CONSTRAINT embedding_index_id_not_null1 NOT NULL,
    passage_id bigint NOT NULL,
    embedding extensions.halfvec NOT NULL
);

--
-- Name: TABLE embedding; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TABLE rag.embedding IS 'Vectors of passages. Each embedding index has an HNSW index of its own.';

--
-- Name: COLUMN embedding.index_id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embedding.index_id IS 'In which embedding index.';

--
-- Name: COLUMN embedding.passage_id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embedding.passage_id IS 'Of which passage.';

--
-- Name: COLUMN embedding.embedding; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.embedding.embedding IS 'The vector, in half precision.';

--
-- Name: embedding_index_id_seq; Type: SEQUENCE; Schema: rag; Owner: -
--

ALTER TABLE rag.embedding_index ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME rag.embedding_index_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: epoch; Type: TABLE; Schema: rag; Owner: -
--

CREATE TABLE rag.epoch (
    project_id uuid,
    number bigint DEFAULT 1 NOT NULL,
    CONSTRAINT epoch_number_check CHECK ((number > 0))
);

--
-- Name: TABLE epoch; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TABLE rag.epoch IS 'Counts the changes of the index, a project (null: shared documents). What was cached before is stale.';

--
-- Name: COLUMN epoch.project_id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.epoch.project_id IS 'Whose documents; null: the shared ones.';

--
-- Name: COLUMN epoch.number; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.epoch.number IS 'Goes up by one with every change.';

--
-- Name: passage; Type: TABLE; Schema: rag; Owner: -
--

CREATE TABLE rag.passage (
    id bigint NOT NULL,
    sha256 bytea NOT NULL,
    heading text NOT NULL,
    text text NOT NULL,
    tokens integer NOT NULL,
    seen_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT passage_sha256_check CHECK ((length(sha256) = 32)),
    CONSTRAINT passage_text_check CHECK ((text <> ''::text)),
    CONSTRAINT passage_tokens_check CHECK ((tokens >= 0))
);

--
-- Name: TABLE passage; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TABLE rag.passage IS 'Texts of chunks, once each by their hash. Kept while a chunk or an audit refers to them.';

--
-- Name: COLUMN passage.id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.passage.id IS 'Its number.';

--
-- Name: COLUMN passage.sha256; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.passage.sha256 IS 'SHA-256 of heading, an empty line and text.';

--
-- Name: COLUMN passage.heading; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.passage.heading IS 'Where it stands: the heading path, or the symbol.';

--
-- Name: COLUMN passage.text; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.passage.text IS 'What it says.';

--
-- Name: COLUMN passage.tokens; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.passage.tokens IS 'Its length in tokens of o200k_base.';

--
-- Name: COLUMN passage.seen_at; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.passage.seen_at IS 'When it was last indexed, or shown.';

--
-- Name: passage_id_seq; Type: SEQUENCE; Schema: rag; Owner: -
--

ALTER TABLE rag.passage ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME rag.passage_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: passage_terms; Type: TABLE; Schema: rag; Owner: -
--

CREATE TABLE rag.passage_terms (
    id bigint NOT NULL,
    passage_id bigint NOT NULL,
    scope uuid NOT NULL,
    language text NOT NULL,
    length integer NOT NULL,
    terms integer[] NOT NULL,
    CONSTRAINT passage_terms_length_check CHECK ((length >= 0))
);

--
-- Name: TABLE passage_terms; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TABLE rag.passage_terms IS 'The terms of passages that a document shows, by scope and language.';

--
-- Name: COLUMN passage_terms.id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.passage_terms.id IS 'Its number.';

--
-- Name: COLUMN passage_terms.passage_id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.passage_terms.passage_id IS 'The passage.';

--
-- Name: COLUMN passage_terms.scope; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.passage_terms.scope IS 'The project whose documents show it; zeros: shared documents.';

--
-- Name: COLUMN passage_terms.language; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.passage_terms.language IS 'The text search configuration of the document.';

--
-- Name: COLUMN passage_terms.length; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.passage_terms.length IS 'Its length in words.';

--
-- Name: COLUMN passage_terms.terms; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.passage_terms.terms IS 'The numbers of its terms.';

--
-- Name: passage_terms_id_seq; Type: SEQUENCE; Schema: rag; Owner: -
--

ALTER TABLE rag.passage_terms ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME rag.passage_terms_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: ranking; Type: TABLE; Schema: rag; Owner: -
--

CREATE TABLE rag.ranking (
    only_row boolean DEFAULT true NOT NULL,
    k1 real DEFAULT 1.2 NOT NULL,
    b real DEFAULT 0.75 NOT NULL,
    words_threshold real DEFAULT 0.05 NOT NULL,
    vector_weight real DEFAULT 0.5 NOT NULL,
    CONSTRAINT ranking_b_check CHECK (((b >= (0)::double precision) AND (b <= (1)::double precision))),
    CONSTRAINT ranking_k1_check CHECK (((k1 >= (0)::double precision) AND (k1 <= (10)::double precision))),
    CONSTRAINT ranking_only_row_check CHECK (only_row),
    CONSTRAINT ranking_vector_weight_check CHECK (((vector_weight >= (0)::double precision) AND (vector_weight <= (1)::double precision))),
    CONSTRAINT ranking_words_threshold_check CHECK (((words_threshold >= (0)::double precision) AND (words_threshold <= (1)::double precision)))
);

--
-- Name: TABLE ranking; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TABLE rag.ranking IS 'How search ranks; one row. `atlas rag calibrate --save` measures the last two on the index.';

--
-- Name: COLUMN ranking.only_row; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.ranking.only_row IS 'There is one row.';

--
-- Name: COLUMN ranking.k1; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.ranking.k1 IS 'BM25: how soon further occurrences of a word stop counting.';

--
-- Name: COLUMN ranking.b; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.ranking.b IS 'BM25: how much the length of a passage counts, 0 to 1.';

--
-- Name: COLUMN ranking.words_threshold; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.ranking.words_threshold IS 'Without vectors: passages that match less than this share of the question are dropped.';

--
-- Name: COLUMN ranking.vector_weight; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.ranking.vector_weight IS 'What the vectors count in the fusion, 0 to 1; the rest is the words''.';

--
-- Name: term; Type: TABLE; Schema: rag; Owner: -
--

CREATE TABLE rag.term (
    id integer NOT NULL,
    scope uuid NOT NULL,
    language text NOT NULL,
    lexeme text NOT NULL,
    occurrences smallint NOT NULL,
    passages integer NOT NULL,
    CONSTRAINT term_occurrences_check CHECK (((occurrences >= 1) AND (occurrences <= 10))),
    CONSTRAINT term_passages_check CHECK ((passages > 0))
);

--
-- Name: TABLE term; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TABLE rag.term IS 'A word and how often it occurs in a passage, and how many passages have it just so often.';

--
-- Name: COLUMN term.id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.term.id IS 'Its number, as rag.passage_terms holds it.';

--
-- Name: COLUMN term.scope; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.term.scope IS 'The project whose documents show the passages; zeros: shared documents.';

--
-- Name: COLUMN term.language; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.term.language IS 'The text search configuration that made the word.';

--
-- Name: COLUMN term.lexeme; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.term.lexeme IS 'The word, as the configuration reduces it.';

--
-- Name: COLUMN term.occurrences; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.term.occurrences IS 'How often it occurs in a passage; 10: ten times or more.';

--
-- Name: COLUMN term.passages; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.term.passages IS 'In how many passages it occurs so often.';

--
-- Name: term_id_seq; Type: SEQUENCE; Schema: rag; Owner: -
--

ALTER TABLE rag.term ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME rag.term_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

--
-- Name: usage; Type: TABLE; Schema: rag; Owner: -
--

CREATE TABLE rag.usage (
    day date NOT NULL,
    index_id integer NOT NULL,
    purpose text NOT NULL,
    texts bigint DEFAULT 0 NOT NULL,
    tokens bigint DEFAULT 0 NOT NULL,
    usd numeric(14,8),
    CONSTRAINT usage_purpose_check CHECK ((purpose = ANY (ARRAY['index'::text, 'query'::text]))),
    CONSTRAINT usage_texts_check CHECK ((texts >= 0)),
    CONSTRAINT usage_tokens_check CHECK ((tokens >= 0))
);

--
-- Name: TABLE usage; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TABLE rag.usage IS 'What was embedded, a UTC day and purpose.';

--
-- Name: COLUMN usage.day; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.usage.day IS 'The UTC day.';

--
-- Name: COLUMN usage.index_id; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.usage.index_id IS 'By which embedder.';

--
-- Name: COLUMN usage.purpose; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.usage.purpose IS 'index: documents. query: questions.';

--
-- Name: COLUMN usage.texts; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.usage.texts IS 'How many texts.';

--
-- Name: COLUMN usage.tokens; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.usage.tokens IS 'How many tokens.';

--
-- Name: COLUMN usage.usd; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON COLUMN rag.usage.usd IS 'US dollars; null where the price is not known.';

--
-- Name: attempt attempt_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.attempt
    ADD CONSTRAINT attempt_pkey PRIMARY KEY (id);

--
-- Name: attempt attempt_task_id_number_key; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.attempt
    ADD CONSTRAINT attempt_task_id_number_key UNIQUE (task_id, number);

--
-- Name: audit_checkpoint audit_checkpoint_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.audit_checkpoint
    ADD CONSTRAINT audit_checkpoint_pkey PRIMARY KEY (id);

--
-- Name: audit_checkpoint audit_checkpoint_prev_mac_key; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.audit_checkpoint
    ADD CONSTRAINT audit_checkpoint_prev_mac_key UNIQUE NULLS NOT DISTINCT (prev_mac);

--
-- Name: audit_checkpoint audit_checkpoint_upto_key; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.audit_checkpoint
    ADD CONSTRAINT audit_checkpoint_upto_key UNIQUE (upto);

--
-- Name: audit audit_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (id);

--
-- Name: audit audit_task_id_seq_key; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.audit
    ADD CONSTRAINT audit_task_id_seq_key UNIQUE (task_id, seq);

--
-- Name: budget_day budget_day_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.budget_day
    ADD CONSTRAINT budget_day_pkey PRIMARY KEY (day, scope);

--
-- Name: budget_event budget_event_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.budget_event
    ADD CONSTRAINT budget_event_pkey PRIMARY KEY (scope, period, starts, unit, level, most);

--
-- Name: budget budget_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.budget
    ADD CONSTRAINT budget_pkey PRIMARY KEY (scope);

--
-- Name: control control_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.control
    ADD CONSTRAINT control_pkey PRIMARY KEY (only_row);

--
-- Name: decision decision_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.decision
    ADD CONSTRAINT decision_pkey PRIMARY KEY (project_id, number);

--
-- Name: decision decision_task_id_key; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.decision
    ADD CONSTRAINT decision_task_id_key UNIQUE (task_id);

--
-- Name: destination destination_name_key; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.destination
    ADD CONSTRAINT destination_name_key UNIQUE (name);

--
-- Name: destination destination_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.destination
    ADD CONSTRAINT destination_pkey PRIMARY KEY (id);

--
-- Name: deviation deviation_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.deviation
    ADD CONSTRAINT deviation_pkey PRIMARY KEY (id);

--
-- Name: id_key id_key_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.id_key
    ADD CONSTRAINT id_key_pkey PRIMARY KEY (singleton);

--
-- Name: identity identity_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.identity
    ADD CONSTRAINT identity_pkey PRIMARY KEY (provider, external_id);

--
-- Name: inbound inbound_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.inbound
    ADD CONSTRAINT inbound_pkey PRIMARY KEY (source, event_id);

--
-- Name: later_trim later_trim_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.later_trim
    ADD CONSTRAINT later_trim_pkey PRIMARY KEY (task_id);

--
-- Name: member member_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.member
    ADD CONSTRAINT member_pkey PRIMARY KEY (project_id, user_id);

--
-- Name: member member_role_check; Type: CHECK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE atlas.member
    ADD CONSTRAINT member_role_check CHECK ((role = ANY (ARRAY['member'::text, 'decider'::text, 'admin'::text]))) NOT VALID;

--
-- Name: model model_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.model
    ADD CONSTRAINT model_pkey PRIMARY KEY (name);

--
-- Name: model_price model_price_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.model_price
    ADD CONSTRAINT model_price_pkey PRIMARY KEY (model, valid_from);

--
-- Name: model_state model_state_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.model_state
    ADD CONSTRAINT model_state_pkey PRIMARY KEY (model);

--
-- Name: notification notification_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.notification
    ADD CONSTRAINT notification_pkey PRIMARY KEY (cause, raised_at);

--
-- Name: open_draft open_draft_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.open_draft
    ADD CONSTRAINT open_draft_pkey PRIMARY KEY (task_id);

--
-- Name: outbox outbox_event_kind_check; Type: CHECK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE atlas.outbox
    ADD CONSTRAINT outbox_event_kind_check CHECK ((event_kind = ANY (ARRAY['message'::text, 'audit_seal'::text, 'notification'::text, 'progress'::text, 'export'::text, 'budget.warning'::text, 'budget.spent'::text, 'decision.accepted'::text, 'decision.rejected'::text, 'decision.superseded'::text]))) NOT VALID;

--
-- Name: outbox outbox_once; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.outbox
    ADD CONSTRAINT outbox_once UNIQUE NULLS NOT DISTINCT (event_id, destination_id);

--
-- Name: CONSTRAINT outbox_once ON outbox; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON CONSTRAINT outbox_once ON atlas.outbox IS 'An event goes to a destination once.';

--
-- Name: outbox outbox_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (id);

--
-- Name: post post_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.post
    ADD CONSTRAINT post_pkey PRIMARY KEY (task_id, part);

--
-- Name: price_factor price_factor_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.price_factor
    ADD CONSTRAINT price_factor_pkey PRIMARY KEY (kind, name);

--
-- Name: project project_name_key; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.project
    ADD CONSTRAINT project_name_key UNIQUE (name);

--
-- Name: project project_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.project
    ADD CONSTRAINT project_pkey PRIMARY KEY (id);

--
-- Name: prompt prompt_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.prompt
    ADD CONSTRAINT prompt_pkey PRIMARY KEY (attempt_id, call);

--
-- Name: prompt_text prompt_text_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.prompt_text
    ADD CONSTRAINT prompt_text_pkey PRIMARY KEY (sha256);

--
-- Name: rate_bucket rate_bucket_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.rate_bucket
    ADD CONSTRAINT rate_bucket_pkey PRIMARY KEY (model, unit);

--
-- Name: rejected_message rejected_message_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.rejected_message
    ADD CONSTRAINT rejected_message_pkey PRIMARY KEY (id);

--
-- Name: reply_part reply_part_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.reply_part
    ADD CONSTRAINT reply_part_pkey PRIMARY KEY (attempt_id, generation, "offset");

--
-- Name: spend spend_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.spend
    ADD CONSTRAINT spend_pkey PRIMARY KEY (id);

--
-- Name: spend_rules spend_rules_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.spend_rules
    ADD CONSTRAINT spend_rules_pkey PRIMARY KEY (only_row);

--
-- Name: task task_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.task
    ADD CONSTRAINT task_pkey PRIMARY KEY (id);

--
-- Name: task task_state_check; Type: CHECK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE atlas.task
    ADD CONSTRAINT task_state_check CHECK ((state = ANY (ARRAY['queued'::text, 'running'::text, 'needs_input'::text, 'completed'::text, 'failed'::text, 'cancelled'::text, 'dead_lettered'::text]))) NOT VALID;

--
-- Name: watch watch_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.watch
    ADD CONSTRAINT watch_pkey PRIMARY KEY (task_id, reader);

--
-- Name: work_item work_item_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.work_item
    ADD CONSTRAINT work_item_pkey PRIMARY KEY (task_id, number);

--
-- Name: worker worker_pkey; Type: CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.worker
    ADD CONSTRAINT worker_pkey PRIMARY KEY (id);

--
-- Name: architect_in architect_in_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.architect_in
    ADD CONSTRAINT architect_in_pkey PRIMARY KEY (id);

--
-- Name: architect_out architect_out_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.architect_out
    ADD CONSTRAINT architect_out_pkey PRIMARY KEY (id);

--
-- Name: cache cache_pkey; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.cache
    ADD CONSTRAINT cache_pkey PRIMARY KEY (key);

--
-- Name: chunk chunk_document_id_seq_key; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.chunk
    ADD CONSTRAINT chunk_document_id_seq_key UNIQUE (document_id, seq);

--
-- Name: chunk chunk_pkey; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.chunk
    ADD CONSTRAINT chunk_pkey PRIMARY KEY (id);

--
-- Name: citation citation_pkey; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.citation
    ADD CONSTRAINT citation_pkey PRIMARY KEY (task_id, passage_id);

--
-- Name: corpus corpus_pkey; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.corpus
    ADD CONSTRAINT corpus_pkey PRIMARY KEY (scope, language);

--
-- Name: document document_pkey; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.document
    ADD CONSTRAINT document_pkey PRIMARY KEY (id);

--
-- Name: document document_project_id_source_key; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.document
    ADD CONSTRAINT document_project_id_source_key UNIQUE NULLS NOT DISTINCT (project_id, source);

--
-- Name: embed_item embed_item_pkey; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.embed_item
    ADD CONSTRAINT embed_item_pkey PRIMARY KEY (job_id, seq);

--
-- Name: embed_job embed_job_in_id_key; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.embed_job
    ADD CONSTRAINT embed_job_in_id_key UNIQUE (in_id);

--
-- Name: embed_job embed_job_pkey; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.embed_job
    ADD CONSTRAINT embed_job_pkey PRIMARY KEY (id);

--
-- Name: embedding_index embedding_index_embedder_model_dimensions_key; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.embedding_index
    ADD CONSTRAINT embedding_index_embedder_model_dimensions_key UNIQUE (embedder, model, dimensions);

--
-- Name: embedding_index embedding_index_pkey; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.embedding_index
    ADD CONSTRAINT embedding_index_pkey PRIMARY KEY (id);

--
-- Name: embedding embedding_pkey; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.embedding
    ADD CONSTRAINT embedding_pkey PRIMARY KEY (index_id, passage_id);

--
-- Name: epoch epoch_project_id_key; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.epoch
    ADD CONSTRAINT epoch_project_id_key UNIQUE NULLS NOT DISTINCT (project_id);

--
-- Name: passage passage_pkey; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.passage
    ADD CONSTRAINT passage_pkey PRIMARY KEY (id);

--
-- Name: passage passage_sha256_key; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.passage
    ADD CONSTRAINT passage_sha256_key UNIQUE (sha256);

--
-- Name: passage_terms passage_terms_passage_id_scope_language_key; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.passage_terms
    ADD CONSTRAINT passage_terms_passage_id_scope_language_key UNIQUE (passage_id, scope, language);

--
-- Name: passage_terms passage_terms_pkey; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.passage_terms
    ADD CONSTRAINT passage_terms_pkey PRIMARY KEY (id);

--
-- Name: ranking ranking_pkey; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.ranking
    ADD CONSTRAINT ranking_pkey PRIMARY KEY (only_row);

--
-- Name: term term_pkey; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.term
    ADD CONSTRAINT term_pkey PRIMARY KEY (id);

--
-- Name: term term_scope_language_lexeme_occurrences_key; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.term
    ADD CONSTRAINT term_scope_language_lexeme_occurrences_key UNIQUE (scope, language, lexeme, occurrences);

--
-- Name: usage usage_pkey; Type: CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.usage
    ADD CONSTRAINT usage_pkey PRIMARY KEY (day, index_id, purpose);

--
-- Name: attempt_one_running; Type: INDEX; Schema: atlas; Owner: -
--

CREATE UNIQUE INDEX attempt_one_running ON atlas.attempt USING btree (task_id) WHERE (state = 'running'::text);

--
-- Name: audit_xact; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX audit_xact ON atlas.audit USING btree (xact);

--
-- Name: budget_day_scope; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX budget_day_scope ON atlas.budget_day USING btree (scope, day);

--
-- Name: deviation_decision; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX deviation_decision ON atlas.deviation USING btree (project_id, number);

--
-- Name: inbound_received; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX inbound_received ON atlas.inbound USING btree (received_at);

--
-- Name: later_trim_due; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX later_trim_due ON atlas.later_trim USING btree (due);

--
-- Name: member_user; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX member_user ON atlas.member USING btree (user_id);

--
-- Name: open_draft_project; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX open_draft_project ON atlas.open_draft USING btree (project_id, made_at);

--
-- Name: outbox_dead; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX outbox_dead ON atlas.outbox USING btree (id) WHERE (state = 'dead'::text);

--
-- Name: outbox_done; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX outbox_done ON atlas.outbox USING btree (created_at) WHERE (state = ANY (ARRAY['sent'::text, 'skipped'::text]));

--
-- Name: outbox_message; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX outbox_message ON atlas.outbox USING btree (out_id) WHERE (out_id IS NOT NULL);

--
-- Name: outbox_payload; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX outbox_payload ON atlas.outbox USING btree (task_id) WHERE (payload IS NOT NULL);

--
-- Name: outbox_pending; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX outbox_pending ON atlas.outbox USING btree (destination_id, "position") WHERE (state = 'pending'::text);

--
-- Name: outbox_task; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX outbox_task ON atlas.outbox USING btree (task_id, destination_id, "position") WHERE (state = ANY (ARRAY['pending'::text, 'dead'::text]));

--
-- Name: prompt_task; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX prompt_task ON atlas.prompt USING btree (task_id);

--
-- Name: reply_part_task; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX reply_part_task ON atlas.reply_part USING btree (task_id);

--
-- Name: spend_call; Type: INDEX; Schema: atlas; Owner: -
--

CREATE UNIQUE INDEX spend_call ON atlas.spend USING btree (attempt_id, call) WHERE (corrects IS NULL);

--
-- Name: spend_corrects; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX spend_corrects ON atlas.spend USING btree (corrects) WHERE (corrects IS NOT NULL);

--
-- Name: spend_day; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX spend_day ON atlas.spend USING btree (day);

--
-- Name: spend_held; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX spend_held ON atlas.spend USING btree (held_until) WHERE (held_until IS NOT NULL);

--
-- Name: spend_left; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX spend_left ON atlas.spend USING btree (left_at) WHERE (left_at IS NOT NULL);

--
-- Name: spend_model; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX spend_model ON atlas.spend USING btree (model, id DESC);

--
-- Name: spend_task; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX spend_task ON atlas.spend USING btree (task_id);

--
-- Name: task_control; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX task_control ON atlas.task USING btree (message_task_id) WHERE (kind = 'control'::text);

--
-- Name: task_dead; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX task_dead ON atlas.task USING btree (in_id) WHERE dead_letter;

--
-- Name: task_project; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX task_project ON atlas.task USING btree (project_id, queued_at DESC);

--
-- Name: task_ready; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX task_ready ON atlas.task USING btree (rank, project_id, sender_key, in_id) WHERE (ready AND (kind = 'chat'::text));

--
-- Name: task_ready_control; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX task_ready_control ON atlas.task USING btree (in_id) WHERE (ready AND (kind = 'control'::text));

--
-- Name: task_recent; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX task_recent ON atlas.task USING btree (queued_at DESC);

--
-- Name: task_sender; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX task_sender ON atlas.task USING btree (sender_key, queued_at DESC);

--
-- Name: task_turn; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX task_turn ON atlas.task USING btree (rank, claim_seq DESC) WHERE ((claim_seq IS NOT NULL) AND (kind = 'chat'::text));

--
-- Name: task_turn_in_project; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX task_turn_in_project ON atlas.task USING btree (rank, project_id, claim_seq DESC) WHERE ((claim_seq IS NOT NULL) AND (kind = 'chat'::text));

--
-- Name: task_unerased; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX task_unerased ON atlas.task USING btree (queued_at) WHERE (erased_at IS NULL);

--
-- Name: task_upstream; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX task_upstream ON atlas.task USING btree (in_id) WHERE (wait_reason = 'upstream'::text);

--
-- Name: task_waiting; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX task_waiting ON atlas.task USING btree (run_after) WHERE (wait_reason IS NOT NULL);

--
-- Name: task_waiting_budget; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX task_waiting_budget ON atlas.task USING btree (wait_scope, in_id) WHERE (wait_scope IS NOT NULL);

--
-- Name: watch_expiry; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX watch_expiry ON atlas.watch USING btree (expires_at);

--
-- Name: watch_user; Type: INDEX; Schema: atlas; Owner: -
--

CREATE INDEX watch_user ON atlas.watch USING btree (user_id);

--
-- Name: architect_in_one_chat; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX architect_in_one_chat ON public.architect_in USING btree (task_id) WHERE (((data ->> 'msg_type'::text) = 'chat'::text) AND ((data ->> 'role'::text) = 'architect'::text));

--
-- Name: architect_in_other_roles; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX architect_in_other_roles ON public.architect_in USING btree (id) WHERE ((data ->> 'role'::text) <> 'architect'::text);

--
-- Name: architect_in_reply_to; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX architect_in_reply_to ON public.architect_in USING btree (((data #>> '{metadata,reply_to}'::text[]))) WHERE ((data #>> '{metadata,reply_to}'::text[]) IS NOT NULL);

--
-- Name: architect_in_task; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX architect_in_task ON public.architect_in USING btree (task_id);

--
-- Name: architect_out_created; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX architect_out_created ON public.architect_out USING brin (created_at);

--
-- Name: architect_out_one_reply; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX architect_out_one_reply ON public.architect_out USING btree (task_id) WHERE (((data ->> 'msg_type'::text) = 'spec'::text) AND ((data #>> '{metadata,status}'::text[]) = 'completed'::text));

--
-- Name: architect_out_one_start; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX architect_out_one_start ON public.architect_out USING btree (task_id) WHERE (((data ->> 'msg_type'::text) = 'spec'::text) AND ((data #>> '{metadata,status}'::text[]) = 'in_progress'::text));

--
-- Name: architect_out_task; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX architect_out_task ON public.architect_out USING btree (task_id, id);

--
-- Name: cache_created; Type: INDEX; Schema: rag; Owner: -
--

CREATE INDEX cache_created ON rag.cache USING btree (created_at);

--
-- Name: cache_task; Type: INDEX; Schema: rag; Owner: -
--

CREATE INDEX cache_task ON rag.cache USING btree (task_id);

--
-- Name: chunk_passage; Type: INDEX; Schema: rag; Owner: -
--

CREATE INDEX chunk_passage ON rag.chunk USING btree (passage_id);

--
-- Name: citation_passage; Type: INDEX; Schema: rag; Owner: -
--

CREATE INDEX citation_passage ON rag.citation USING btree (passage_id);

--
-- Name: document_source; Type: INDEX; Schema: rag; Owner: -
--

CREATE INDEX document_source ON rag.document USING btree (source text_pattern_ops);

--
-- Name: embed_job_due; Type: INDEX; Schema: rag; Owner: -
--

CREATE INDEX embed_job_due ON rag.embed_job USING btree (run_after) WHERE (state = ANY (ARRAY['queued'::text, 'running'::text]));

--
-- Name: embedding_index_building; Type: INDEX; Schema: rag; Owner: -
--

CREATE UNIQUE INDEX embedding_index_building ON rag.embedding_index USING btree (state) WHERE (state = 'building'::text);

--
-- Name: embedding_index_serving; Type: INDEX; Schema: rag; Owner: -
--

CREATE UNIQUE INDEX embedding_index_serving ON rag.embedding_index USING btree (state) WHERE (state = 'serving'::text);

--
-- Name: embedding_passage; Type: INDEX; Schema: rag; Owner: -
--

CREATE INDEX embedding_passage ON rag.embedding USING btree (passage_id);

--
-- Name: passage_terms_terms; Type: INDEX; Schema: rag; Owner: -
--

CREATE INDEX passage_terms_terms ON rag.passage_terms USING gin (terms) WITH (fastupdate=off);

--
-- Name: outbox_status _RETURN; Type: RULE; Schema: atlas; Owner: -
--

CREATE OR REPLACE VIEW atlas.outbox_status WITH (security_invoker='true') AS
 SELECT d.name AS destination,
    d.kind,
    d.enabled,
    d.failures,
    d.open_until,
    d.last_error,
    d.last_sent_at,
    count(o.id) FILTER (WHERE (o.state = 'pending'::text)) AS pending,
    count(o.id) FILTER (WHERE (o.state = 'dead'::text)) AS dead,
    min(o.created_at) FILTER (WHERE (o.state = 'pending'::text)) AS oldest
   FROM (atlas.destination d
     LEFT JOIN atlas.outbox o ON (((o.destination_id = d.id) AND (o.state = ANY (ARRAY['pending'::text, 'dead'::text])))))
  GROUP BY d.id
UNION ALL
 SELECT NULL::text AS destination,
    'kept'::text AS kind,
    false AS enabled,
    0 AS failures,
    NULL::timestamp with time zone AS open_until,
    NULL::text AS last_error,
    NULL::timestamp with time zone AS last_sent_at,
    count(*) AS pending,
    0 AS dead,
    min(o.created_at) AS oldest
   FROM atlas.outbox o
  WHERE ((o.destination_id IS NULL) AND (o.state = 'pending'::text))
 HAVING (count(*) > 0);

--
-- Name: destination adopt_again; Type: TRIGGER; Schema: atlas; Owner: -
--

CREATE TRIGGER adopt_again BEFORE UPDATE OF enabled ON atlas.destination FOR EACH ROW WHEN ((new.enabled AND (NOT old.enabled))) EXECUTE FUNCTION atlas.adopt_again();

--
-- Name: TRIGGER adopt_again ON destination; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TRIGGER adopt_again ON atlas.destination IS 'A destination that is enabled again gets the events that were kept.';

--
-- Name: audit append_only; Type: TRIGGER; Schema: atlas; Owner: -
--

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON atlas.audit FOR EACH STATEMENT EXECUTE FUNCTION atlas.refuse_change();

--
-- Name: TRIGGER append_only ON audit; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TRIGGER append_only ON atlas.audit IS 'Keeps a table append-only, for its owner too.';

--
-- Name: audit_checkpoint append_only; Type: TRIGGER; Schema: atlas; Owner: -
--

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON atlas.audit_checkpoint FOR EACH STATEMENT EXECUTE FUNCTION atlas.refuse_change();

--
-- Name: TRIGGER append_only ON audit_checkpoint; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TRIGGER append_only ON atlas.audit_checkpoint IS 'Keeps a table append-only, for its owner too.';

--
-- Name: task broadcast_cancel; Type: TRIGGER; Schema: atlas; Owner: -
--

CREATE TRIGGER broadcast_cancel AFTER UPDATE OF cancel_requested_at ON atlas.task FOR EACH ROW WHEN (((old.cancel_requested_at IS NULL) AND (new.cancel_requested_at IS NOT NULL))) EXECUTE FUNCTION atlas.broadcast_cancel();

--
-- Name: TRIGGER broadcast_cancel ON task; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TRIGGER broadcast_cancel ON atlas.task IS 'Tells workers over Realtime that a running task was asked to stop.';

--
-- Name: task drop_draft; Type: TRIGGER; Schema: atlas; Owner: -
--

CREATE TRIGGER drop_draft AFTER UPDATE OF erased_at ON atlas.task FOR EACH ROW WHEN ((new.erased_at IS NOT NULL)) EXECUTE FUNCTION atlas.drop_draft();

--
-- Name: TRIGGER drop_draft ON task; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TRIGGER drop_draft ON atlas.task IS 'Drops the draft of a task that was erased or trimmed.';

--
-- Name: task drop_prompts; Type: TRIGGER; Schema: atlas; Owner: -
--

CREATE TRIGGER drop_prompts AFTER UPDATE OF erased_at ON atlas.task FOR EACH ROW WHEN ((new.erased_at IS NOT NULL)) EXECUTE FUNCTION atlas.drop_prompts();

--
-- Name: TRIGGER drop_prompts ON task; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TRIGGER drop_prompts ON atlas.task IS 'Drops the prompts of a task that was erased or trimmed.';

--
-- Name: task forget_asked; Type: TRIGGER; Schema: atlas; Owner: -
--

CREATE TRIGGER forget_asked AFTER UPDATE OF erased_at ON atlas.task FOR EACH ROW WHEN ((new.erased_at IS NOT NULL)) EXECUTE FUNCTION atlas.forget_asked();

--
-- Name: TRIGGER forget_asked ON task; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TRIGGER forget_asked ON atlas.task IS 'Drops what a task asked back when it is erased or trimmed.';

--
-- Name: reply_part number_part; Type: TRIGGER; Schema: atlas; Owner: -
--

CREATE TRIGGER number_part BEFORE INSERT ON atlas.reply_part FOR EACH ROW EXECUTE FUNCTION atlas.number_part();

--
-- Name: TRIGGER number_part ON reply_part; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON TRIGGER number_part ON atlas.reply_part IS 'Numbers the parts of an attempt.';

--
-- Name: architect_out cite_passages; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER cite_passages AFTER INSERT ON public.architect_out REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION rag.cite_passages();

--
-- Name: TRIGGER cite_passages ON architect_out; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TRIGGER cite_passages ON public.architect_out IS 'Keeps the texts that a reply was written from, and names them in the audit.';

--
-- Name: architect_out fill_outbox; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER fill_outbox AFTER INSERT ON public.architect_out REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION atlas.fill_outbox();

--
-- Name: TRIGGER fill_outbox ON architect_out; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TRIGGER fill_outbox ON public.architect_out IS 'Every row of architect_out leaves by the outbox.';

--
-- Name: architect_in keep_message; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER keep_message BEFORE DELETE ON public.architect_in FOR EACH ROW EXECUTE FUNCTION atlas.keep_message();

--
-- Name: TRIGGER keep_message ON architect_in; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TRIGGER keep_message ON public.architect_in IS 'Keeps the message of a task for as long as there is the task.';

--
-- Name: architect_out name_event; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER name_event BEFORE INSERT ON public.architect_out FOR EACH ROW WHEN ((((new.data ->> 'msg_type'::text) = 'spec'::text) AND ((new.data #>> '{metadata,status}'::text[]) = ANY (ARRAY['in_progress'::text, 'completed'::text])))) EXECUTE FUNCTION atlas.name_event();

--
-- Name: TRIGGER name_event ON architect_out; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TRIGGER name_event ON public.architect_out IS 'Gives the start and the reply of a task the ids of their events.';

--
-- Name: architect_out note_drafts; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER note_drafts AFTER INSERT ON public.architect_out REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION atlas.note_drafts();

--
-- Name: TRIGGER note_drafts ON architect_out; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TRIGGER note_drafts ON public.architect_out IS 'Notes records that somebody has to decide on.';

--
-- Name: architect_in queue_docs_added; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER queue_docs_added AFTER INSERT ON public.architect_in REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION rag.queue_docs_added();

--
-- Name: TRIGGER queue_docs_added ON architect_in; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TRIGGER queue_docs_added ON public.architect_in IS 'Makes a job of each docs.added message.';

--
-- Name: architect_in queue_messages; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER queue_messages AFTER INSERT ON public.architect_in REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION atlas.queue_messages();

--
-- Name: TRIGGER queue_messages ON architect_in; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TRIGGER queue_messages ON public.architect_in IS 'Queues new messages for the architect and wakes idle workers, once a statement.';

--
-- Name: architect_in validate_message; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER validate_message BEFORE INSERT ON public.architect_in FOR EACH ROW EXECUTE FUNCTION atlas.validate_message();

--
-- Name: TRIGGER validate_message ON architect_in; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TRIGGER validate_message ON public.architect_in IS 'Validates a message of architect_in, names its sender, refuses a second chat.';

--
-- Name: chunk add_terms; Type: TRIGGER; Schema: rag; Owner: -
--

CREATE TRIGGER add_terms AFTER INSERT ON rag.chunk REFERENCING NEW TABLE AS born FOR EACH STATEMENT EXECUTE FUNCTION rag.add_terms();

--
-- Name: TRIGGER add_terms ON chunk; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TRIGGER add_terms ON rag.chunk IS 'Counts the words of passages that a document shows now.';

--
-- Name: chunk mark_passages; Type: TRIGGER; Schema: rag; Owner: -
--

CREATE TRIGGER mark_passages AFTER DELETE ON rag.chunk REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION rag.mark_passages();

--
-- Name: TRIGGER mark_passages ON chunk; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TRIGGER mark_passages ON rag.chunk IS 'Marks the texts of chunks that went as used until now.';

--
-- Name: chunk remove_terms; Type: TRIGGER; Schema: rag; Owner: -
--

CREATE TRIGGER remove_terms AFTER DELETE ON rag.chunk REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION rag.remove_terms();

--
-- Name: TRIGGER remove_terms ON chunk; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON TRIGGER remove_terms ON rag.chunk IS 'No longer counts the words of passages that no document shows any more.';

--
-- Name: attempt attempt_task_id_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.attempt
    ADD CONSTRAINT attempt_task_id_fkey FOREIGN KEY (task_id) REFERENCES atlas.task(id);

--
-- Name: budget_day budget_day_scope_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.budget_day
    ADD CONSTRAINT budget_day_scope_fkey FOREIGN KEY (scope) REFERENCES atlas.budget(scope) ON DELETE CASCADE;

--
-- Name: budget_event budget_event_scope_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.budget_event
    ADD CONSTRAINT budget_event_scope_fkey FOREIGN KEY (scope) REFERENCES atlas.budget(scope) ON DELETE CASCADE;

--
-- Name: decision decision_project_id_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.decision
    ADD CONSTRAINT decision_project_id_fkey FOREIGN KEY (project_id) REFERENCES atlas.project(id) ON DELETE CASCADE;

--
-- Name: decision decision_project_id_superseded_by_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.decision
    ADD CONSTRAINT decision_project_id_superseded_by_fkey FOREIGN KEY (project_id, superseded_by) REFERENCES atlas.decision(project_id, number) DEFERRABLE INITIALLY DEFERRED;

--
-- Name: deviation deviation_project_id_number_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.deviation
    ADD CONSTRAINT deviation_project_id_number_fkey FOREIGN KEY (project_id, number) REFERENCES atlas.decision(project_id, number) ON DELETE CASCADE;

--
-- Name: member member_project_id_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.member
    ADD CONSTRAINT member_project_id_fkey FOREIGN KEY (project_id) REFERENCES atlas.project(id) ON DELETE CASCADE;

--
-- Name: model_price model_price_model_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.model_price
    ADD CONSTRAINT model_price_model_fkey FOREIGN KEY (model) REFERENCES atlas.model(name) ON DELETE CASCADE;

--
-- Name: model model_successor_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.model
    ADD CONSTRAINT model_successor_fkey FOREIGN KEY (successor) REFERENCES atlas.model(name) DEFERRABLE INITIALLY DEFERRED;

--
-- Name: open_draft open_draft_project_id_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.open_draft
    ADD CONSTRAINT open_draft_project_id_fkey FOREIGN KEY (project_id) REFERENCES atlas.project(id) ON DELETE CASCADE;

--
-- Name: open_draft open_draft_task_id_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.open_draft
    ADD CONSTRAINT open_draft_task_id_fkey FOREIGN KEY (task_id) REFERENCES atlas.task(id) ON DELETE CASCADE;

--
-- Name: outbox outbox_destination_id_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.outbox
    ADD CONSTRAINT outbox_destination_id_fkey FOREIGN KEY (destination_id) REFERENCES atlas.destination(id) ON DELETE CASCADE;

--
-- Name: outbox outbox_out_id_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.outbox
    ADD CONSTRAINT outbox_out_id_fkey FOREIGN KEY (out_id) REFERENCES public.architect_out(id);

--
-- Name: prompt prompt_attempt_id_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.prompt
    ADD CONSTRAINT prompt_attempt_id_fkey FOREIGN KEY (attempt_id) REFERENCES atlas.attempt(id) ON DELETE CASCADE;

--
-- Name: prompt prompt_task_id_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.prompt
    ADD CONSTRAINT prompt_task_id_fkey FOREIGN KEY (task_id) REFERENCES atlas.task(id) ON DELETE CASCADE;

--
-- Name: reply_part reply_part_attempt_id_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.reply_part
    ADD CONSTRAINT reply_part_attempt_id_fkey FOREIGN KEY (attempt_id) REFERENCES atlas.attempt(id);

--
-- Name: reply_part reply_part_task_id_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.reply_part
    ADD CONSTRAINT reply_part_task_id_fkey FOREIGN KEY (task_id) REFERENCES atlas.task(id);

--
-- Name: spend spend_corrects_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.spend
    ADD CONSTRAINT spend_corrects_fkey FOREIGN KEY (corrects) REFERENCES atlas.spend(id);

--
-- Name: task task_project_id_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.task
    ADD CONSTRAINT task_project_id_fkey FOREIGN KEY (project_id) REFERENCES atlas.project(id);

--
-- Name: watch watch_task_id_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.watch
    ADD CONSTRAINT watch_task_id_fkey FOREIGN KEY (task_id) REFERENCES atlas.task(id);

--
-- Name: work_item work_item_task_id_fkey; Type: FK CONSTRAINT; Schema: atlas; Owner: -
--

ALTER TABLE ONLY atlas.work_item
    ADD CONSTRAINT work_item_task_id_fkey FOREIGN KEY (task_id) REFERENCES atlas.task(id) ON DELETE CASCADE;

--
-- Name: chunk chunk_document_id_fkey; Type: FK CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.chunk
    ADD CONSTRAINT chunk_document_id_fkey FOREIGN KEY (document_id) REFERENCES rag.document(id) ON DELETE CASCADE;

--
-- Name: chunk chunk_passage_id_fkey; Type: FK CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.chunk
    ADD CONSTRAINT chunk_passage_id_fkey FOREIGN KEY (passage_id) REFERENCES rag.passage(id);

--
-- Name: citation citation_passage_id_fkey; Type: FK CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.citation
    ADD CONSTRAINT citation_passage_id_fkey FOREIGN KEY (passage_id) REFERENCES rag.passage(id);

--
-- Name: citation citation_task_id_fkey; Type: FK CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.citation
    ADD CONSTRAINT citation_task_id_fkey FOREIGN KEY (task_id) REFERENCES atlas.task(id) ON DELETE CASCADE;

--
-- Name: document document_project_id_fkey; Type: FK CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.document
    ADD CONSTRAINT document_project_id_fkey FOREIGN KEY (project_id) REFERENCES atlas.project(id) ON DELETE CASCADE;

--
-- Name: embed_item embed_item_job_id_fkey; Type: FK CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.embed_item
    ADD CONSTRAINT embed_item_job_id_fkey FOREIGN KEY (job_id) REFERENCES rag.embed_job(id) ON DELETE CASCADE;

--
-- Name: embed_job embed_job_project_id_fkey; Type: FK CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.embed_job
    ADD CONSTRAINT embed_job_project_id_fkey FOREIGN KEY (project_id) REFERENCES atlas.project(id) ON DELETE CASCADE;

--
-- Name: embedding embedding_index_id_fkey; Type: FK CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.embedding
    ADD CONSTRAINT embedding_index_id_fkey FOREIGN KEY (index_id) REFERENCES rag.embedding_index(id) ON DELETE CASCADE;

--
-- Name: embedding embedding_passage_id_fkey; Type: FK CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.embedding
    ADD CONSTRAINT embedding_passage_id_fkey FOREIGN KEY (passage_id) REFERENCES rag.passage(id) ON DELETE CASCADE;

--
-- Name: epoch epoch_project_id_fkey; Type: FK CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.epoch
    ADD CONSTRAINT epoch_project_id_fkey FOREIGN KEY (project_id) REFERENCES atlas.project(id) ON DELETE CASCADE;

--
-- Name: passage_terms passage_terms_passage_id_fkey; Type: FK CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.passage_terms
    ADD CONSTRAINT passage_terms_passage_id_fkey FOREIGN KEY (passage_id) REFERENCES rag.passage(id);

--
-- Name: usage usage_index_id_fkey; Type: FK CONSTRAINT; Schema: rag; Owner: -
--

ALTER TABLE ONLY rag.usage
    ADD CONSTRAINT usage_index_id_fkey FOREIGN KEY (index_id) REFERENCES rag.embedding_index(id) ON DELETE CASCADE;

--
-- Name: attempt; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.attempt ENABLE ROW LEVEL SECURITY;

--
-- Name: audit; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.audit ENABLE ROW LEVEL SECURITY;

--
-- Name: audit_checkpoint; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.audit_checkpoint ENABLE ROW LEVEL SECURITY;

--
-- Name: budget; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.budget ENABLE ROW LEVEL SECURITY;

--
-- Name: budget_day; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.budget_day ENABLE ROW LEVEL SECURITY;

--
-- Name: budget_event; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.budget_event ENABLE ROW LEVEL SECURITY;

--
-- Name: control; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.control ENABLE ROW LEVEL SECURITY;

--
-- Name: decision; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.decision ENABLE ROW LEVEL SECURITY;

--
-- Name: destination; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.destination ENABLE ROW LEVEL SECURITY;

--
-- Name: deviation; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.deviation ENABLE ROW LEVEL SECURITY;

--
-- Name: open_draft drafts follow their task; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "drafts follow their task" ON atlas.open_draft FOR SELECT TO authenticated USING ((EXISTS ( SELECT
   FROM atlas.task t
  WHERE (t.id = open_draft.task_id))));

--
-- Name: POLICY "drafts follow their task" ON open_draft; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "drafts follow their task" ON atlas.open_draft IS 'Row level security: drafts follow their task.';

--
-- Name: price_factor everyone with a login sees the factors; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "everyone with a login sees the factors" ON atlas.price_factor FOR SELECT TO authenticated USING (true);

--
-- Name: POLICY "everyone with a login sees the factors" ON price_factor; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "everyone with a login sees the factors" ON atlas.price_factor IS 'Row level security: everyone with a login sees the factors.';

--
-- Name: model everyone with a login sees the models; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "everyone with a login sees the models" ON atlas.model FOR SELECT TO authenticated USING (true);

--
-- Name: POLICY "everyone with a login sees the models" ON model; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "everyone with a login sees the models" ON atlas.model IS 'Row level security: everyone with a login sees the models.';

--
-- Name: model_price everyone with a login sees the prices; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "everyone with a login sees the prices" ON atlas.model_price FOR SELECT TO authenticated USING (true);

--
-- Name: POLICY "everyone with a login sees the prices" ON model_price; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "everyone with a login sees the prices" ON atlas.model_price IS 'Row level security: everyone with a login sees the prices.';

--
-- Name: id_key; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.id_key ENABLE ROW LEVEL SECURITY;

--
-- Name: identity; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.identity ENABLE ROW LEVEL SECURITY;

--
-- Name: inbound; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.inbound ENABLE ROW LEVEL SECURITY;

--
-- Name: later_trim; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.later_trim ENABLE ROW LEVEL SECURITY;

--
-- Name: member; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.member ENABLE ROW LEVEL SECURITY;

--
-- Name: member members see who else is in their projects; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "members see who else is in their projects" ON atlas.member FOR SELECT TO authenticated USING ((project_id IN ( SELECT atlas.my_projects() AS my_projects)));

--
-- Name: POLICY "members see who else is in their projects" ON member; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "members see who else is in their projects" ON atlas.member IS 'Row level security: members see who else is in their projects.';

--
-- Name: model; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.model ENABLE ROW LEVEL SECURITY;

--
-- Name: model_price; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.model_price ENABLE ROW LEVEL SECURITY;

--
-- Name: model_state; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.model_state ENABLE ROW LEVEL SECURITY;

--
-- Name: notification; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.notification ENABLE ROW LEVEL SECURITY;

--
-- Name: open_draft; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.open_draft ENABLE ROW LEVEL SECURITY;

--
-- Name: outbox; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.outbox ENABLE ROW LEVEL SECURITY;

--
-- Name: deviation people see deviations of their projects; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "people see deviations of their projects" ON atlas.deviation FOR SELECT TO authenticated USING ((project_id IN ( SELECT atlas.my_projects() AS my_projects)));

--
-- Name: POLICY "people see deviations of their projects" ON deviation; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "people see deviations of their projects" ON atlas.deviation IS 'Row level security: people see deviations of their projects.';

--
-- Name: attempt people see the attempts of tasks they see; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "people see the attempts of tasks they see" ON atlas.attempt FOR SELECT TO authenticated USING ((EXISTS ( SELECT
   FROM atlas.task t
  WHERE (t.id = attempt.task_id))));

--
-- Name: POLICY "people see the attempts of tasks they see" ON attempt; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "people see the attempts of tasks they see" ON atlas.attempt IS 'Row level security: people see the attempts of tasks they see.';

--
-- Name: audit people see the audit of tasks they see; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "people see the audit of tasks they see" ON atlas.audit FOR SELECT TO authenticated USING ((EXISTS ( SELECT
   FROM atlas.task t
  WHERE (t.id = audit.task_id))));

--
-- Name: POLICY "people see the audit of tasks they see" ON audit; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "people see the audit of tasks they see" ON atlas.audit IS 'Row level security: people see the audit of tasks they see.';

--
-- Name: post people see the posts of tasks they see; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "people see the posts of tasks they see" ON atlas.post FOR SELECT TO authenticated USING ((EXISTS ( SELECT
   FROM atlas.task t
  WHERE (t.id = post.task_id))));

--
-- Name: POLICY "people see the posts of tasks they see" ON post; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "people see the posts of tasks they see" ON atlas.post IS 'Row level security: people see the posts of tasks they see.';

--
-- Name: reply_part people see the replies of tasks they see; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "people see the replies of tasks they see" ON atlas.reply_part FOR SELECT TO authenticated USING ((EXISTS ( SELECT
   FROM atlas.task t
  WHERE (t.id = reply_part.task_id))));

--
-- Name: POLICY "people see the replies of tasks they see" ON reply_part; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "people see the replies of tasks they see" ON atlas.reply_part IS 'Row level security: people see the replies of tasks they see.';

--
-- Name: budget people see their own and their projects' budgets; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "people see their own and their projects' budgets" ON atlas.budget FOR SELECT TO authenticated USING (((scope = ('sender:'::text || (( SELECT auth.uid() AS uid))::text)) OR (scope IN ( SELECT ('project:'::text || p.p)
   FROM atlas.my_projects() p(p)))));

--
-- Name: POLICY "people see their own and their projects' budgets" ON budget; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "people see their own and their projects' budgets" ON atlas.budget IS 'Row level security: people see their own and their projects'' budgets.';

--
-- Name: budget_day people see their own and their projects' days; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "people see their own and their projects' days" ON atlas.budget_day FOR SELECT TO authenticated USING (((scope = ('sender:'::text || (( SELECT auth.uid() AS uid))::text)) OR (scope IN ( SELECT ('project:'::text || p.p)
   FROM atlas.my_projects() p(p)))));

--
-- Name: POLICY "people see their own and their projects' days" ON budget_day; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "people see their own and their projects' days" ON atlas.budget_day IS 'Row level security: people see their own and their projects'' days.';

--
-- Name: spend people see their own and their projects' spend; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "people see their own and their projects' spend" ON atlas.spend FOR SELECT TO authenticated USING ((scopes && ( SELECT atlas.my_scopes() AS my_scopes)));

--
-- Name: POLICY "people see their own and their projects' spend" ON spend; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "people see their own and their projects' spend" ON atlas.spend IS 'Row level security: people see their own and their projects'' spend, also of tasks that were trimmed.';

--
-- Name: task people see their own and their projects' tasks; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "people see their own and their projects' tasks" ON atlas.task FOR SELECT TO authenticated USING (((sender_key = (( SELECT auth.uid() AS uid))::text) OR (project_id IN ( SELECT atlas.my_projects() AS my_projects))));

--
-- Name: POLICY "people see their own and their projects' tasks" ON task; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "people see their own and their projects' tasks" ON atlas.task IS 'Row level security: people see their own and their projects'' tasks.';

--
-- Name: identity people see their own identities; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "people see their own identities" ON atlas.identity FOR SELECT TO authenticated USING ((user_id = ( SELECT auth.uid() AS uid)));

--
-- Name: POLICY "people see their own identities" ON identity; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "people see their own identities" ON atlas.identity IS 'Row level security: people see their own identities.';

--
-- Name: watch people see their own watches; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "people see their own watches" ON atlas.watch FOR SELECT TO authenticated USING ((user_id = ( SELECT auth.uid() AS uid)));

--
-- Name: POLICY "people see their own watches" ON watch; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "people see their own watches" ON atlas.watch IS 'Row level security: people see their own watches.';

--
-- Name: project people see their projects and the default one; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "people see their projects and the default one" ON atlas.project FOR SELECT TO authenticated USING (((id IN ( SELECT atlas.my_projects() AS my_projects)) OR (id = '00000000-0000-0000-0000-000000000001'::uuid)));

--
-- Name: POLICY "people see their projects and the default one" ON project; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "people see their projects and the default one" ON atlas.project IS 'Row level security: people see their projects and the default one.';

--
-- Name: post; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.post ENABLE ROW LEVEL SECURITY;

--
-- Name: price_factor; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.price_factor ENABLE ROW LEVEL SECURITY;

--
-- Name: project; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.project ENABLE ROW LEVEL SECURITY;

--
-- Name: prompt; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.prompt ENABLE ROW LEVEL SECURITY;

--
-- Name: prompt_text; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.prompt_text ENABLE ROW LEVEL SECURITY;

--
-- Name: rate_bucket; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.rate_bucket ENABLE ROW LEVEL SECURITY;

--
-- Name: decision read_of_my_projects; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY read_of_my_projects ON atlas.decision FOR SELECT TO authenticated USING ((project_id IN ( SELECT atlas.my_projects() AS my_projects)));

--
-- Name: rejected_message; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.rejected_message ENABLE ROW LEVEL SECURITY;

--
-- Name: reply_part; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.reply_part ENABLE ROW LEVEL SECURITY;

--
-- Name: spend; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.spend ENABLE ROW LEVEL SECURITY;

--
-- Name: spend_rules; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.spend_rules ENABLE ROW LEVEL SECURITY;

--
-- Name: task; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.task ENABLE ROW LEVEL SECURITY;

--
-- Name: project the knowledge service reads all of it; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "the knowledge service reads all of it" ON atlas.project FOR SELECT TO atlas_rag USING (true);

--
-- Name: POLICY "the knowledge service reads all of it" ON project; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "the knowledge service reads all of it" ON atlas.project IS 'Row level security: the knowledge service reads all of it.';

--
-- Name: watch; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.watch ENABLE ROW LEVEL SECURITY;

--
-- Name: work_item work items follow their task; Type: POLICY; Schema: atlas; Owner: -
--

CREATE POLICY "work items follow their task" ON atlas.work_item FOR SELECT TO authenticated USING ((EXISTS ( SELECT
   FROM atlas.task t
  WHERE (t.id = work_item.task_id))));

--
-- Name: POLICY "work items follow their task" ON work_item; Type: COMMENT; Schema: atlas; Owner: -
--

COMMENT ON POLICY "work items follow their task" ON atlas.work_item IS 'Row level security: work items follow their task.';

--
-- Name: work_item; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.work_item ENABLE ROW LEVEL SECURITY;

--
-- Name: worker; Type: ROW SECURITY; Schema: atlas; Owner: -
--

ALTER TABLE atlas.worker ENABLE ROW LEVEL SECURITY;

--
-- Name: architect_in; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.architect_in ENABLE ROW LEVEL SECURITY;

--
-- Name: architect_out; Type: ROW SECURITY; Schema: public; Owner: -
--

ALTER TABLE public.architect_out ENABLE ROW LEVEL SECURITY;

--
-- Name: architect_out people read replies to their own and their projects' tasks; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY "people read replies to their own and their projects' tasks" ON public.architect_out FOR SELECT TO authenticated USING (((owner = ( SELECT auth.uid() AS uid)) OR (project_id IN ( SELECT atlas.my_projects() AS my_projects))));

--
-- Name: POLICY "people read replies to their own and their projects' tasks" ON architect_out; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON POLICY "people read replies to their own and their projects' tasks" ON public.architect_out IS 'Row level security: people read replies to their own and their projects'' tasks.';

--
-- Name: architect_in people read what they sent; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY "people read what they sent" ON public.architect_in FOR SELECT TO authenticated USING ((sender = ( SELECT auth.uid() AS uid)));

--
-- Name: POLICY "people read what they sent" ON architect_in; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON POLICY "people read what they sent" ON public.architect_in IS 'Row level security: people read what they sent.';

--
-- Name: architect_in people send their own messages; Type: POLICY; Schema: public; Owner: -
--

CREATE POLICY "people send their own messages" ON public.architect_in FOR INSERT TO authenticated WITH CHECK ((sender = ( SELECT auth.uid() AS uid)));

--
-- Name: POLICY "people send their own messages" ON architect_in; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON POLICY "people send their own messages" ON public.architect_in IS 'Row level security: people send their own messages.';

--
-- Name: cache; Type: ROW SECURITY; Schema: rag; Owner: -
--

ALTER TABLE rag.cache ENABLE ROW LEVEL SECURITY;

--
-- Name: chunk; Type: ROW SECURITY; Schema: rag; Owner: -
--

ALTER TABLE rag.chunk ENABLE ROW LEVEL SECURITY;

--
-- Name: chunk chunks follow their document; Type: POLICY; Schema: rag; Owner: -
--

CREATE POLICY "chunks follow their document" ON rag.chunk FOR SELECT TO authenticated USING ((EXISTS ( SELECT
   FROM rag.document d
  WHERE (d.id = chunk.document_id))));

--
-- Name: POLICY "chunks follow their document" ON chunk; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON POLICY "chunks follow their document" ON rag.chunk IS 'Row level security: chunks follow their document.';

--
-- Name: citation; Type: ROW SECURITY; Schema: rag; Owner: -
--

ALTER TABLE rag.citation ENABLE ROW LEVEL SECURITY;

--
-- Name: corpus; Type: ROW SECURITY; Schema: rag; Owner: -
--

ALTER TABLE rag.corpus ENABLE ROW LEVEL SECURITY;

--
-- Name: document; Type: ROW SECURITY; Schema: rag; Owner: -
--

ALTER TABLE rag.document ENABLE ROW LEVEL SECURITY;

--
-- Name: embed_item; Type: ROW SECURITY; Schema: rag; Owner: -
--

ALTER TABLE rag.embed_item ENABLE ROW LEVEL SECURITY;

--
-- Name: embed_job; Type: ROW SECURITY; Schema: rag; Owner: -
--

ALTER TABLE rag.embed_job ENABLE ROW LEVEL SECURITY;

--
-- Name: embedding; Type: ROW SECURITY; Schema: rag; Owner: -
--

ALTER TABLE rag.embedding ENABLE ROW LEVEL SECURITY;

--
-- Name: embedding_index; Type: ROW SECURITY; Schema: rag; Owner: -
--

ALTER TABLE rag.embedding_index ENABLE ROW LEVEL SECURITY;

--
-- Name: epoch; Type: ROW SECURITY; Schema: rag; Owner: -
--

ALTER TABLE rag.epoch ENABLE ROW LEVEL SECURITY;

--
-- Name: embedding_index everyone with a login sees the embedding indexes; Type: POLICY; Schema: rag; Owner: -
--

CREATE POLICY "everyone with a login sees the embedding indexes" ON rag.embedding_index FOR SELECT TO authenticated USING (true);

--
-- Name: POLICY "everyone with a login sees the embedding indexes" ON embedding_index; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON POLICY "everyone with a login sees the embedding indexes" ON rag.embedding_index IS 'Row level security: everyone with a login sees the embedding indexes.';

--
-- Name: passage; Type: ROW SECURITY; Schema: rag; Owner: -
--

ALTER TABLE rag.passage ENABLE ROW LEVEL SECURITY;

--
-- Name: passage_terms; Type: ROW SECURITY; Schema: rag; Owner: -
--

ALTER TABLE rag.passage_terms ENABLE ROW LEVEL SECURITY;

--
-- Name: passage passages follow their chunks; Type: POLICY; Schema: rag; Owner: -
--

CREATE POLICY "passages follow their chunks" ON rag.passage FOR SELECT TO authenticated USING ((EXISTS ( SELECT
   FROM rag.chunk c
  WHERE (c.passage_id = passage.id))));

--
-- Name: POLICY "passages follow their chunks" ON passage; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON POLICY "passages follow their chunks" ON rag.passage IS 'Row level security: passages follow their chunks.';

--
-- Name: document people see documents of their projects, and shared ones; Type: POLICY; Schema: rag; Owner: -
--

CREATE POLICY "people see documents of their projects, and shared ones" ON rag.document FOR SELECT TO authenticated USING (((project_id IS NULL) OR (project_id IN ( SELECT atlas.my_projects() AS my_projects))));

--
-- Name: POLICY "people see documents of their projects, and shared ones" ON document; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON POLICY "people see documents of their projects, and shared ones" ON rag.document IS 'Row level security: people see documents of their projects, and shared ones.';

--
-- Name: embed_job people see the jobs they asked for; Type: POLICY; Schema: rag; Owner: -
--

CREATE POLICY "people see the jobs they asked for" ON rag.embed_job FOR SELECT TO authenticated USING ((sender = ( SELECT auth.uid() AS uid)));

--
-- Name: POLICY "people see the jobs they asked for" ON embed_job; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON POLICY "people see the jobs they asked for" ON rag.embed_job IS 'Row level security: people see the jobs they asked for.';

--
-- Name: ranking; Type: ROW SECURITY; Schema: rag; Owner: -
--

ALTER TABLE rag.ranking ENABLE ROW LEVEL SECURITY;

--
-- Name: term; Type: ROW SECURITY; Schema: rag; Owner: -
--

ALTER TABLE rag.term ENABLE ROW LEVEL SECURITY;

--
-- Name: chunk the knowledge service reads all of it; Type: POLICY; Schema: rag; Owner: -
--

CREATE POLICY "the knowledge service reads all of it" ON rag.chunk FOR SELECT TO atlas_rag USING (true);

--
-- Name: POLICY "the knowledge service reads all of it" ON chunk; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON POLICY "the knowledge service reads all of it" ON rag.chunk IS 'Row level security: the knowledge service reads all of it.';

--
-- Name: document the knowledge service reads all of it; Type: POLICY; Schema: rag; Owner: -
--

CREATE POLICY "the knowledge service reads all of it" ON rag.document FOR SELECT TO atlas_rag USING (true);

--
-- Name: POLICY "the knowledge service reads all of it" ON document; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON POLICY "the knowledge service reads all of it" ON rag.document IS 'Row level security: the knowledge service reads all of it.';

--
-- Name: embed_item the knowledge service reads all of it; Type: POLICY; Schema: rag; Owner: -
--

CREATE POLICY "the knowledge service reads all of it" ON rag.embed_item FOR SELECT TO atlas_rag USING (true);

--
-- Name: POLICY "the knowledge service reads all of it" ON embed_item; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON POLICY "the knowledge service reads all of it" ON rag.embed_item IS 'Row level security: the knowledge service reads all of it.';

--
-- Name: embed_job the knowledge service reads all of it; Type: POLICY; Schema: rag; Owner: -
--

CREATE POLICY "the knowledge service reads all of it" ON rag.embed_job FOR SELECT TO atlas_rag USING (true);

--
-- Name: POLICY "the knowledge service reads all of it" ON embed_job; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON POLICY "the knowledge service reads all of it" ON rag.embed_job IS 'Row level security: the knowledge service reads all of it.';

--
-- Name: embedding the knowledge service reads all of it; Type: POLICY; Schema: rag; Owner: -
--

CREATE POLICY "the knowledge service reads all of it" ON rag.embedding FOR SELECT TO atlas_rag USING (true);

--
-- Name: POLICY "the knowledge service reads all of it" ON embedding; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON POLICY "the knowledge service reads all of it" ON rag.embedding IS 'Row level security: the knowledge service reads all of it.';

--
-- Name: embedding_index the knowledge service reads all of it; Type: POLICY; Schema: rag; Owner: -
--

CREATE POLICY "the knowledge service reads all of it" ON rag.embedding_index FOR SELECT TO atlas_rag USING (true);

--
-- Name: POLICY "the knowledge service reads all of it" ON embedding_index; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON POLICY "the knowledge service reads all of it" ON rag.embedding_index IS 'Row level security: the knowledge service reads all of it.';

--
-- Name: passage the knowledge service reads all of it; Type: POLICY; Schema: rag; Owner: -
--

CREATE POLICY "the knowledge service reads all of it" ON rag.passage FOR SELECT TO atlas_rag USING (true);

--
-- Name: POLICY "the knowledge service reads all of it" ON passage; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON POLICY "the knowledge service reads all of it" ON rag.passage IS 'Row level security: the knowledge service reads all of it.';

--
-- Name: usage; Type: ROW SECURITY; Schema: rag; Owner: -
--

ALTER TABLE rag.usage ENABLE ROW LEVEL SECURITY;

--
-- Name: embedding vectors follow their passages; Type: POLICY; Schema: rag; Owner: -
--

CREATE POLICY "vectors follow their passages" ON rag.embedding FOR SELECT TO authenticated USING ((EXISTS ( SELECT
   FROM rag.chunk c
  WHERE (c.passage_id = embedding.passage_id))));

--
-- Name: POLICY "vectors follow their passages" ON embedding; Type: COMMENT; Schema: rag; Owner: -
--

COMMENT ON POLICY "vectors follow their passages" ON rag.embedding IS 'Row level security: vectors follow their passages.';

--
-- Name: SCHEMA atlas; Type: ACL; Schema: -; Owner: -
--

GRANT USAGE ON SCHEMA atlas TO authenticated;
GRANT USAGE ON SCHEMA atlas TO service_role;
GRANT USAGE ON SCHEMA atlas TO atlas_worker;
GRANT USAGE ON SCHEMA atlas TO atlas_rag;

--
-- Name: SCHEMA public; Type: ACL; Schema: -; Owner: -
--

GRANT ALL ON SCHEMA public TO postgres;
GRANT USAGE ON SCHEMA public TO anon;
GRANT USAGE ON SCHEMA public TO authenticated;
GRANT USAGE ON SCHEMA public TO service_role;

--
-- Name: SCHEMA rag; Type: ACL; Schema: -; Owner: -
--

GRANT USAGE ON SCHEMA rag TO authenticated;
GRANT USAGE ON SCHEMA rag TO service_role;
GRANT USAGE ON SCHEMA rag TO atlas_worker;
GRANT USAGE ON SCHEMA rag TO atlas_rag;

--
-- Name: FUNCTION record_words(p_title text, p_question text, p_constraints text[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.record_words(p_title text, p_question text, p_constraints text[]) FROM PUBLIC;

--
-- Name: FUNCTION words_of(p_text text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.words_of(p_text text) FROM PUBLIC;

--
-- Name: TABLE decision; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.decision TO authenticated;
GRANT SELECT ON TABLE atlas.decision TO service_role;

--
-- Name: FUNCTION accept(p_task uuid, p_reason text, p_supersedes bigint[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.accept(p_task uuid, p_reason text, p_supersedes bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.accept(p_task uuid, p_reason text, p_supersedes bigint[]) TO authenticated;
GRANT ALL ON FUNCTION atlas.accept(p_task uuid, p_reason text, p_supersedes bigint[]) TO service_role;

--
-- Name: FUNCTION accept_message(p_source text, p_event_id text, p_message jsonb, p_provider text, p_external_id text, p_name text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.accept_message(p_source text, p_event_id text, p_message jsonb, p_provider text, p_external_id text, p_name text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.accept_message(p_source text, p_event_id text, p_message jsonb, p_provider text, p_external_id text, p_name text) TO service_role;

--
-- Name: FUNCTION actor(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.actor() FROM PUBLIC;

--
-- Name: FUNCTION add_member(p_project uuid, p_who text, p_role text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.add_member(p_project uuid, p_who text, p_role text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.add_member(p_project uuid, p_who text, p_role text) TO service_role;

--
-- Name: FUNCTION adopt_again(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.adopt_again() FROM PUBLIC;

--
-- Name: FUNCTION adopt_outbox(p_limit integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.adopt_outbox(p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.adopt_outbox(p_limit integer) TO service_role;
GRANT ALL ON FUNCTION atlas.adopt_outbox(p_limit integer) TO atlas_worker;

--
-- Name: FUNCTION adopt_response(p_response jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.adopt_response(p_response jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.adopt_response(p_response jsonb) TO service_role;

--
-- Name: FUNCTION announce_budget(p_scope text, p_period text, p_unit text, p_level integer, p_most numeric, p_settled numeric); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.announce_budget(p_scope text, p_period text, p_unit text, p_level integer, p_most numeric, p_settled numeric) FROM PUBLIC;

--
-- Name: FUNCTION announce_budgets(p_scopes text[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.announce_budgets(p_scopes text[]) FROM PUBLIC;

--
-- Name: FUNCTION announce_decision(p_decision atlas.decision, p_event text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.announce_decision(p_decision atlas.decision, p_event text) FROM PUBLIC;

--
-- Name: FUNCTION answer_at(p_source text, p_event_id text, p_reply_to text, p_answer text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.answer_at(p_source text, p_event_id text, p_reply_to text, p_answer text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.answer_at(p_source text, p_event_id text, p_reply_to text, p_answer text) TO service_role;

--
-- Name: FUNCTION answer_task(p_task_id uuid, p_answer text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.answer_task(p_task_id uuid, p_answer text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.answer_task(p_task_id uuid, p_answer text) TO authenticated;
GRANT ALL ON FUNCTION atlas.answer_task(p_task_id uuid, p_answer text) TO service_role;

--
-- Name: FUNCTION append_audit(p_task uuid, p_event text, p_detail jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.append_audit(p_task uuid, p_event text, p_detail jsonb) FROM PUBLIC;

--
-- Name: FUNCTION append_audits(p_event text, p_tasks uuid[], p_details jsonb[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.append_audits(p_event text, p_tasks uuid[], p_details jsonb[]) FROM PUBLIC;

--
-- Name: FUNCTION as_timestamp(value text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.as_timestamp(value text) FROM PUBLIC;

--
-- Name: FUNCTION as_uuid(value text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.as_uuid(value text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.as_uuid(value text) TO authenticated;
GRANT ALL ON FUNCTION atlas.as_uuid(value text) TO service_role;

--
-- Name: FUNCTION ask_back(p_attempt_id uuid, p_content text, p_metadata jsonb, p_usages jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.ask_back(p_attempt_id uuid, p_content text, p_metadata jsonb, p_usages jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.ask_back(p_attempt_id uuid, p_content text, p_metadata jsonb, p_usages jsonb) TO service_role;
GRANT ALL ON FUNCTION atlas.ask_back(p_attempt_id uuid, p_content text, p_metadata jsonb, p_usages jsonb) TO atlas_worker;

--
-- Name: FUNCTION attempt_spend(p_attempt uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.attempt_spend(p_attempt uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.attempt_spend(p_attempt uuid) TO atlas_worker;

--
-- Name: FUNCTION audit_digest(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.audit_digest() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.audit_digest() TO service_role;
GRANT ALL ON FUNCTION atlas.audit_digest() TO atlas_worker;

--
-- Name: FUNCTION audit_hash(prev_hash bytea, task_id uuid, seq integer, event text, actor text, at timestamp with time zone, detail jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.audit_hash(prev_hash bytea, task_id uuid, seq integer, event text, actor text, at timestamp with time zone, detail jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.audit_hash(prev_hash bytea, task_id uuid, seq integer, event text, actor text, at timestamp with time zone, detail jsonb) TO service_role;

--
-- Name: FUNCTION begin_post(p_task_id uuid, p_part text, p_event_id uuid, p_address text, p_lease interval); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.begin_post(p_task_id uuid, p_part text, p_event_id uuid, p_address text, p_lease interval) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.begin_post(p_task_id uuid, p_part text, p_event_id uuid, p_address text, p_lease interval) TO service_role;

--
-- Name: FUNCTION bounded(p_value interval, p_least interval, p_most interval); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.bounded(p_value interval, p_least interval, p_most interval) FROM PUBLIC;

--
-- Name: FUNCTION breaker_open_until(p_failures integer, p_first double precision, p_longest double precision, p_asked double precision); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.breaker_open_until(p_failures integer, p_first double precision, p_longest double precision, p_asked double precision) FROM PUBLIC;

--
-- Name: FUNCTION broadcast_cancel(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.broadcast_cancel() FROM PUBLIC;

--
-- Name: FUNCTION broadcast_interval(p_rate double precision); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.broadcast_interval(p_rate double precision) FROM PUBLIC;

--
-- Name: FUNCTION broadcast_parts(p_attempts uuid[], p_rate double precision); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.broadcast_parts(p_attempts uuid[], p_rate double precision) FROM PUBLIC;

--
-- Name: FUNCTION caller_role(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.caller_role() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.caller_role() TO authenticated;
GRANT ALL ON FUNCTION atlas.caller_role() TO service_role;
GRANT ALL ON FUNCTION atlas.caller_role() TO atlas_worker;

--
-- Name: FUNCTION cancel_copy(p_task uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.cancel_copy(p_task uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.cancel_copy(p_task uuid) TO service_role;

--
-- Name: FUNCTION cancel_task(p_task_id uuid, p_attempt_id uuid, p_usages jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.cancel_task(p_task_id uuid, p_attempt_id uuid, p_usages jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.cancel_task(p_task_id uuid, p_attempt_id uuid, p_usages jsonb) TO authenticated;
GRANT ALL ON FUNCTION atlas.cancel_task(p_task_id uuid, p_attempt_id uuid, p_usages jsonb) TO service_role;
GRANT ALL ON FUNCTION atlas.cancel_task(p_task_id uuid, p_attempt_id uuid, p_usages jsonb) TO atlas_worker;

--
-- Name: FUNCTION check_control(message jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.check_control(message jsonb) FROM PUBLIC;

--
-- Name: FUNCTION check_ledger(p_since date); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.check_ledger(p_since date) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.check_ledger(p_since date) TO service_role;
GRANT ALL ON FUNCTION atlas.check_ledger(p_since date) TO atlas_worker;

--
-- Name: FUNCTION check_limits(p_scope text, p_limits jsonb, p_state text, p_thing text, p_prefix text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.check_limits(p_scope text, p_limits jsonb, p_state text, p_thing text, p_prefix text) FROM PUBLIC;

--
-- Name: FUNCTION check_message(message jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.check_message(message jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.check_message(message jsonb) TO service_role;

--
-- Name: FUNCTION check_metadata(metadata jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.check_metadata(metadata jsonb) FROM PUBLIC;

--
-- Name: FUNCTION claim_outbox(p_lease_owner uuid, p_destination uuid, p_limit integer, p_lease interval); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.claim_outbox(p_lease_owner uuid, p_destination uuid, p_limit integer, p_lease interval) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.claim_outbox(p_lease_owner uuid, p_destination uuid, p_limit integer, p_lease interval) TO service_role;
GRANT ALL ON FUNCTION atlas.claim_outbox(p_lease_owner uuid, p_destination uuid, p_limit integer, p_lease interval) TO atlas_worker;

--
-- Name: FUNCTION claim_tasks(p_worker_id uuid, p_chats integer, p_controls integer, p_lease interval); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.claim_tasks(p_worker_id uuid, p_chats integer, p_controls integer, p_lease interval) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.claim_tasks(p_worker_id uuid, p_chats integer, p_controls integer, p_lease interval) TO service_role;
GRANT ALL ON FUNCTION atlas.claim_tasks(p_worker_id uuid, p_chats integer, p_controls integer, p_lease interval) TO atlas_worker;

--
-- Name: FUNCTION complete_tasks(p_items jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.complete_tasks(p_items jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.complete_tasks(p_items jsonb) TO service_role;
GRANT ALL ON FUNCTION atlas.complete_tasks(p_items jsonb) TO atlas_worker;

--
-- Name: FUNCTION continue_audit(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.continue_audit() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.continue_audit() TO service_role;

--
-- Name: FUNCTION control_command(message jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.control_command(message jsonb) FROM PUBLIC;

--
-- Name: TABLE model_price; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.model_price TO authenticated;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE atlas.model_price TO service_role;

--
-- Name: FUNCTION cost(price atlas.model_price, input bigint, cached bigint, output bigint, cache_write bigint, factor numeric); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.cost(price atlas.model_price, input bigint, cached bigint, output bigint, cache_write bigint, factor numeric) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.cost(price atlas.model_price, input bigint, cached bigint, output bigint, cache_write bigint, factor numeric) TO service_role;
GRANT ALL ON FUNCTION atlas.cost(price atlas.model_price, input bigint, cached bigint, output bigint, cache_write bigint, factor numeric) TO atlas_worker;

--
-- Name: FUNCTION create_project(p_name text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.create_project(p_name text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.create_project(p_name text) TO service_role;

--
-- Name: FUNCTION decide(p_task uuid, p_status text, p_verb text, p_reason text, p_supersedes bigint[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.decide(p_task uuid, p_status text, p_verb text, p_reason text, p_supersedes bigint[]) FROM PUBLIC;

--
-- Name: FUNCTION decision_chunks(p_decision atlas.decision); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.decision_chunks(p_decision atlas.decision) FROM PUBLIC;

--
-- Name: FUNCTION decision_of(p_task uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.decision_of(p_task uuid) FROM PUBLIC;

--
-- Name: FUNCTION defer_upstream(p_message text, p_limit integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.defer_upstream(p_message text, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.defer_upstream(p_message text, p_limit integer) TO service_role;
GRANT ALL ON FUNCTION atlas.defer_upstream(p_message text, p_limit integer) TO atlas_worker;

--
-- Name: FUNCTION derive_id(p_name text, p_count integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.derive_id(p_name text, p_count integer) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.derive_id(p_name text, p_count integer) TO service_role;

--
-- Name: FUNCTION distance(p_one text, p_other text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.distance(p_one text, p_other text) FROM PUBLIC;

--
-- Name: TABLE task; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.task TO authenticated;
GRANT SELECT ON TABLE atlas.task TO service_role;

--
-- Name: FUNCTION draft(p_task uuid, p_verb text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.draft(p_task uuid, p_verb text) FROM PUBLIC;

--
-- Name: FUNCTION drop_documents(p_project uuid, p_sources text[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.drop_documents(p_project uuid, p_sources text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.drop_documents(p_project uuid, p_sources text[]) TO authenticated;
GRANT ALL ON FUNCTION atlas.drop_documents(p_project uuid, p_sources text[]) TO service_role;

--
-- Name: FUNCTION drop_draft(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.drop_draft() FROM PUBLIC;

--
-- Name: FUNCTION drop_post(p_task_id uuid, p_part text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.drop_post(p_task_id uuid, p_part text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.drop_post(p_task_id uuid, p_part text) TO service_role;

--
-- Name: FUNCTION drop_prompts(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.drop_prompts() FROM PUBLIC;

--
-- Name: FUNCTION due_again(p_task atlas.task, p_kind text, p_retry_after interval); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.due_again(p_task atlas.task, p_kind text, p_retry_after interval) FROM PUBLIC;

--
-- Name: FUNCTION new_id(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.new_id() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.new_id() TO authenticated;
GRANT ALL ON FUNCTION atlas.new_id() TO service_role;

--
-- Name: FUNCTION emit(p_kind text, p_payload jsonb, p_task_id uuid, p_event_id uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.emit(p_kind text, p_payload jsonb, p_task_id uuid, p_event_id uuid) FROM PUBLIC;

--
-- Name: FUNCTION end_holds(p_limit integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.end_holds(p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.end_holds(p_limit integer) TO service_role;
GRANT ALL ON FUNCTION atlas.end_holds(p_limit integer) TO atlas_worker;

--
-- Name: FUNCTION end_task(p_task atlas.task, p_state text, p_code text, p_message text, p_usages jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.end_task(p_task atlas.task, p_state text, p_code text, p_message text, p_usages jsonb) FROM PUBLIC;

--
-- Name: FUNCTION ended_xacts(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.ended_xacts() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.ended_xacts() TO service_role;

--
-- Name: FUNCTION erase(p_task_id uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.erase(p_task_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.erase(p_task_id uuid) TO service_role;

--
-- Name: FUNCTION erase_decisions(p_tasks uuid[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.erase_decisions(p_tasks uuid[]) FROM PUBLIC;

--
-- Name: FUNCTION erase_others(p_sender_key text, p_limit integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.erase_others(p_sender_key text, p_limit integer) FROM PUBLIC;

--
-- Name: FUNCTION erase_sender(p_sender_key text, p_after timestamp with time zone, p_limit integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.erase_sender(p_sender_key text, p_after timestamp with time zone, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.erase_sender(p_sender_key text, p_after timestamp with time zone, p_limit integer) TO service_role;

--
-- Name: FUNCTION erase_texts(p_tasks uuid[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.erase_texts(p_tasks uuid[]) FROM PUBLIC;

--
-- Name: FUNCTION escalate(p_task_id uuid, p_code text, p_message text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.escalate(p_task_id uuid, p_code text, p_message text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.escalate(p_task_id uuid, p_code text, p_message text) TO service_role;
GRANT ALL ON FUNCTION atlas.escalate(p_task_id uuid, p_code text, p_message text) TO atlas_worker;

--
-- Name: FUNCTION event_of(p_task uuid, p_status text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.event_of(p_task uuid, p_status text) FROM PUBLIC;

--
-- Name: FUNCTION extend_leases(p_worker_id uuid, p_attempts uuid[], p_lease interval); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.extend_leases(p_worker_id uuid, p_attempts uuid[], p_lease interval) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.extend_leases(p_worker_id uuid, p_attempts uuid[], p_lease interval) TO service_role;
GRANT ALL ON FUNCTION atlas.extend_leases(p_worker_id uuid, p_attempts uuid[], p_lease interval) TO atlas_worker;

--
-- Name: FUNCTION extend_post(p_task_id uuid, p_part text, p_lease interval); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.extend_post(p_task_id uuid, p_part text, p_lease interval) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.extend_post(p_task_id uuid, p_part text, p_lease interval) TO service_role;

--
-- Name: FUNCTION fail_task(p_attempt_id uuid, p_code text, p_message text, p_kind text, p_retry_after interval, p_usages jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.fail_task(p_attempt_id uuid, p_code text, p_message text, p_kind text, p_retry_after interval, p_usages jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.fail_task(p_attempt_id uuid, p_code text, p_message text, p_kind text, p_retry_after interval, p_usages jsonb) TO service_role;
GRANT ALL ON FUNCTION atlas.fail_task(p_attempt_id uuid, p_code text, p_message text, p_kind text, p_retry_after interval, p_usages jsonb) TO atlas_worker;

--
-- Name: FUNCTION fill_outbox(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.fill_outbox() FROM PUBLIC;

--
-- Name: FUNCTION find_task(p_text text, p_state text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.find_task(p_text text, p_state text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.find_task(p_text text, p_state text) TO authenticated;
GRANT ALL ON FUNCTION atlas.find_task(p_text text, p_state text) TO service_role;

--
-- Name: FUNCTION finish_post(p_task_id uuid, p_part text, p_external_id text, p_url text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.finish_post(p_task_id uuid, p_part text, p_external_id text, p_url text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.finish_post(p_task_id uuid, p_part text, p_external_id text, p_url text) TO service_role;

--
-- Name: FUNCTION flush_cache(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.flush_cache() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.flush_cache() TO service_role;
GRANT ALL ON FUNCTION atlas.flush_cache() TO atlas_worker;

--
-- Name: FUNCTION forget_asked(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.forget_asked() FROM PUBLIC;

--
-- Name: FUNCTION get_asked(p_task_id uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.get_asked(p_task_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.get_asked(p_task_id uuid) TO service_role;
GRANT ALL ON FUNCTION atlas.get_asked(p_task_id uuid) TO atlas_worker;

--
-- Name: FUNCTION get_budgets(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.get_budgets() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.get_budgets() TO service_role;
GRANT ALL ON FUNCTION atlas.get_budgets() TO atlas_worker;

--
-- Name: FUNCTION get_delivery(p_task_id uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.get_delivery(p_task_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.get_delivery(p_task_id uuid) TO service_role;

--
-- Name: FUNCTION get_prompt(p_task uuid, p_for uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.get_prompt(p_task uuid, p_for uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.get_prompt(p_task uuid, p_for uuid) TO service_role;
GRANT ALL ON FUNCTION atlas.get_prompt(p_task uuid, p_for uuid) TO atlas_worker;

--
-- Name: FUNCTION get_reply(p_task_id uuid, p_for uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.get_reply(p_task_id uuid, p_for uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.get_reply(p_task_id uuid, p_for uuid) TO service_role;
GRANT ALL ON FUNCTION atlas.get_reply(p_task_id uuid, p_for uuid) TO atlas_worker;

--
-- Name: FUNCTION get_task(p_task_id uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.get_task(p_task_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.get_task(p_task_id uuid) TO authenticated;
GRANT ALL ON FUNCTION atlas.get_task(p_task_id uuid) TO service_role;

--
-- Name: FUNCTION get_thread(p_task_id uuid, p_for uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.get_thread(p_task_id uuid, p_for uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.get_thread(p_task_id uuid, p_for uuid) TO service_role;
GRANT ALL ON FUNCTION atlas.get_thread(p_task_id uuid, p_for uuid) TO atlas_worker;

--
-- Name: FUNCTION go_on_with(p_task atlas.task); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.go_on_with(p_task atlas.task) FROM PUBLIC;

--
-- Name: FUNCTION grouped(value numeric); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.grouped(value numeric) FROM PUBLIC;

--
-- Name: FUNCTION has_work(p_chats boolean); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.has_work(p_chats boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.has_work(p_chats boolean) TO service_role;
GRANT ALL ON FUNCTION atlas.has_work(p_chats boolean) TO atlas_worker;

--
-- Name: FUNCTION hear_issue(p_address text, p_number text, p_state text, p_login text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.hear_issue(p_address text, p_number text, p_state text, p_login text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.hear_issue(p_address text, p_number text, p_state text, p_login text) TO service_role;

--
-- Name: FUNCTION hear_pull(p_address text, p_number text, p_merged boolean, p_login text, p_url text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.hear_pull(p_address text, p_number text, p_merged boolean, p_login text, p_url text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.hear_pull(p_address text, p_number text, p_merged boolean, p_login text, p_url text) TO service_role;

--
-- Name: FUNCTION import_decisions(p_project uuid, p_records jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.import_decisions(p_project uuid, p_records jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.import_decisions(p_project uuid, p_records jsonb) TO authenticated;
GRANT ALL ON FUNCTION atlas.import_decisions(p_project uuid, p_records jsonb) TO service_role;

--
-- Name: FUNCTION in_context(p_payload jsonb, p_asked jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.in_context(p_payload jsonb, p_asked jsonb) FROM PUBLIC;

--
-- Name: FUNCTION index_decision(p_decision atlas.decision); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.index_decision(p_decision atlas.decision) FROM PUBLIC;

--
-- Name: FUNCTION index_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea, p_chunks jsonb, p_commit text, p_repository text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.index_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea, p_chunks jsonb, p_commit text, p_repository text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.index_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea, p_chunks jsonb, p_commit text, p_repository text) TO authenticated;
GRANT ALL ON FUNCTION atlas.index_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea, p_chunks jsonb, p_commit text, p_repository text) TO service_role;

--
-- Name: FUNCTION inherit_responses(p_tasks uuid[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.inherit_responses(p_tasks uuid[]) FROM PUBLIC;

--
-- Name: FUNCTION inherited_response(p_task atlas.task); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.inherited_response(p_task atlas.task) FROM PUBLIC;

--
-- Name: FUNCTION is_filter(filter jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.is_filter(filter jsonb) FROM PUBLIC;

--
-- Name: FUNCTION is_leaving(p_task uuid, p_message_task uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.is_leaving(p_task uuid, p_message_task uuid) FROM PUBLIC;

--
-- Name: FUNCTION is_service(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.is_service() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.is_service() TO authenticated;
GRANT ALL ON FUNCTION atlas.is_service() TO service_role;
GRANT ALL ON FUNCTION atlas.is_service() TO atlas_worker;

--
-- Name: FUNCTION keep_late_text(p_attempt_id uuid, p_task atlas.task, p_text text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.keep_late_text(p_attempt_id uuid, p_task atlas.task, p_text text) FROM PUBLIC;

--
-- Name: FUNCTION keep_message(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.keep_message() FROM PUBLIC;

--
-- Name: FUNCTION keep_prompts(p_items jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.keep_prompts(p_items jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.keep_prompts(p_items jsonb) TO service_role;
GRANT ALL ON FUNCTION atlas.keep_prompts(p_items jsonb) TO atlas_worker;

--
-- Name: FUNCTION known_documents(p_project uuid, p_sources text[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.known_documents(p_project uuid, p_sources text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.known_documents(p_project uuid, p_sources text[]) TO authenticated;
GRANT ALL ON FUNCTION atlas.known_documents(p_project uuid, p_sources text[]) TO service_role;

--
-- Name: FUNCTION last_task_at(p_reply_to text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.last_task_at(p_reply_to text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.last_task_at(p_reply_to text) TO service_role;

--
-- Name: FUNCTION lease_rate(p_model text, p_requests bigint, p_tokens bigint); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.lease_rate(p_model text, p_requests bigint, p_tokens bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.lease_rate(p_model text, p_requests bigint, p_tokens bigint) TO service_role;
GRANT ALL ON FUNCTION atlas.lease_rate(p_model text, p_requests bigint, p_tokens bigint) TO atlas_worker;

--
-- Name: FUNCTION list_destinations(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.list_destinations() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.list_destinations() TO service_role;
GRANT ALL ON FUNCTION atlas.list_destinations() TO atlas_worker;

--
-- Name: FUNCTION list_members(p_project uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.list_members(p_project uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.list_members(p_project uuid) TO service_role;

--
-- Name: FUNCTION list_models(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.list_models() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.list_models() TO service_role;
GRANT ALL ON FUNCTION atlas.list_models() TO atlas_worker;

--
-- Name: FUNCTION list_repositories(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.list_repositories() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.list_repositories() TO authenticated;
GRANT ALL ON FUNCTION atlas.list_repositories() TO service_role;

--
-- Name: FUNCTION lock_days(p_days date[], p_scopes text[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.lock_days(p_days date[], p_scopes text[]) FROM PUBLIC;

--
-- Name: FUNCTION mark_worker(p_worker_id uuid, p_state text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.mark_worker(p_worker_id uuid, p_state text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.mark_worker(p_worker_id uuid, p_state text) TO service_role;
GRANT ALL ON FUNCTION atlas.mark_worker(p_worker_id uuid, p_state text) TO atlas_worker;

--
-- Name: FUNCTION matches(filter jsonb, event_kind text, data jsonb, sender text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.matches(filter jsonb, event_kind text, data jsonb, sender text) FROM PUBLIC;

--
-- Name: FUNCTION measure_models(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.measure_models() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.measure_models() TO service_role;
GRANT ALL ON FUNCTION atlas.measure_models() TO atlas_worker;

--
-- Name: FUNCTION message_sha256(p_data jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.message_sha256(p_data jsonb) FROM PUBLIC;

--
-- Name: FUNCTION my_projects(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.my_projects() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.my_projects() TO authenticated;
GRANT ALL ON FUNCTION atlas.my_projects() TO service_role;

--
-- Name: FUNCTION my_scopes(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.my_scopes() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.my_scopes() TO authenticated;
GRANT ALL ON FUNCTION atlas.my_scopes() TO service_role;

--
-- Name: FUNCTION name_event(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.name_event() FROM PUBLIC;

--
-- Name: FUNCTION names_of(p_users uuid[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.names_of(p_users uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.names_of(p_users uuid[]) TO authenticated;
GRANT ALL ON FUNCTION atlas.names_of(p_users uuid[]) TO service_role;

--
-- Name: FUNCTION nearest(p_word text, p_known text[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.nearest(p_word text, p_known text[]) FROM PUBLIC;

--
-- Name: FUNCTION next_decision(p_project uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.next_decision(p_project uuid) FROM PUBLIC;

--
-- Name: FUNCTION next_due(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.next_due() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.next_due() TO service_role;
GRANT ALL ON FUNCTION atlas.next_due() TO atlas_worker;

--
-- Name: FUNCTION next_tasks(p_most integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.next_tasks(p_most integer) FROM PUBLIC;

--
-- Name: FUNCTION note_drafts(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.note_drafts() FROM PUBLIC;

--
-- Name: FUNCTION number_part(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.number_part() FROM PUBLIC;

--
-- Name: FUNCTION open_day(p_scope text, p_day date); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.open_day(p_scope text, p_day date) FROM PUBLIC;

--
-- Name: FUNCTION owns_task(task uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.owns_task(task uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.owns_task(task uuid) TO authenticated;
GRANT ALL ON FUNCTION atlas.owns_task(task uuid) TO service_role;

--
-- Name: FUNCTION pause(p_reason text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.pause(p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.pause(p_reason text) TO service_role;
GRANT ALL ON FUNCTION atlas.pause(p_reason text) TO atlas_worker;

--
-- Name: FUNCTION planned_items(p_task uuid, p_verb text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.planned_items(p_task uuid, p_verb text) FROM PUBLIC;

--
-- Name: FUNCTION price_factor_of(p_tier text, p_window text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.price_factor_of(p_tier text, p_window text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.price_factor_of(p_tier text, p_window text) TO service_role;
GRANT ALL ON FUNCTION atlas.price_factor_of(p_tier text, p_window text) TO atlas_worker;

--
-- Name: FUNCTION price_on(model_name text, day date); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.price_on(model_name text, day date) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.price_on(model_name text, day date) TO service_role;
GRANT ALL ON FUNCTION atlas.price_on(model_name text, day date) TO atlas_worker;

--
-- Name: FUNCTION project_of(sender uuid, named text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.project_of(sender uuid, named text) FROM PUBLIC;

--
-- Name: FUNCTION prompt_turns(p_body jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.prompt_turns(p_body jsonb) FROM PUBLIC;

--
-- Name: FUNCTION protocols(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.protocols() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.protocols() TO service_role;
GRANT ALL ON FUNCTION atlas.protocols() TO atlas_worker;
GRANT ALL ON FUNCTION atlas.protocols() TO atlas_rag;

--
-- Name: FUNCTION provide_topic(p_target text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.provide_topic(p_target text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.provide_topic(p_target text) TO service_role;
GRANT ALL ON FUNCTION atlas.provide_topic(p_target text) TO atlas_worker;

--
-- Name: FUNCTION queue_messages(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.queue_messages() FROM PUBLIC;

--
-- Name: FUNCTION queue_metrics(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.queue_metrics() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.queue_metrics() TO service_role;
GRANT ALL ON FUNCTION atlas.queue_metrics() TO atlas_worker;

--
-- Name: FUNCTION quote_task(p_project uuid, p_window text, p_tier text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.quote_task(p_project uuid, p_window text, p_tier text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.quote_task(p_project uuid, p_window text, p_tier text) TO authenticated;
GRANT ALL ON FUNCTION atlas.quote_task(p_project uuid, p_window text, p_tier text) TO service_role;

--
-- Name: FUNCTION raise_lost(p_attempt_id uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.raise_lost(p_attempt_id uuid) FROM PUBLIC;

--
-- Name: FUNCTION raise_notifications(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.raise_notifications() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.raise_notifications() TO service_role;
GRANT ALL ON FUNCTION atlas.raise_notifications() TO atlas_worker;

--
-- Name: FUNCTION read_first(p_task uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.read_first(p_task uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.read_first(p_task uuid) TO service_role;
GRANT ALL ON FUNCTION atlas.read_first(p_task uuid) TO atlas_worker;

--
-- Name: FUNCTION read_parts(p_task_id uuid, p_attempt integer, p_generation integer, p_offset integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.read_parts(p_task_id uuid, p_attempt integer, p_generation integer, p_offset integer) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.read_parts(p_task_id uuid, p_attempt integer, p_generation integer, p_offset integer) TO authenticated;
GRANT ALL ON FUNCTION atlas.read_parts(p_task_id uuid, p_attempt integer, p_generation integer, p_offset integer) TO service_role;

--
-- Name: FUNCTION read_prompts(p_task uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.read_prompts(p_task uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.read_prompts(p_task uuid) TO authenticated;
GRANT ALL ON FUNCTION atlas.read_prompts(p_task uuid) TO service_role;

--
-- Name: FUNCTION read_source(p_sha256 text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.read_source(p_sha256 text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.read_source(p_sha256 text) TO authenticated;
GRANT ALL ON FUNCTION atlas.read_source(p_sha256 text) TO service_role;

--
-- Name: FUNCTION ready_projects(p_rank integer, p_most integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.ready_projects(p_rank integer, p_most integer) FROM PUBLIC;

--
-- Name: FUNCTION ready_senders(p_rank integer, p_project uuid, p_most integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.ready_senders(p_rank integer, p_project uuid, p_most integer) FROM PUBLIC;

--
-- Name: FUNCTION ready_tasks(p_rank integer, p_project uuid, p_most integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.ready_tasks(p_rank integer, p_project uuid, p_most integer) FROM PUBLIC;

--
-- Name: FUNCTION record_destination(p_destination uuid, p_ok boolean, p_error text, p_seconds double precision); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.record_destination(p_destination uuid, p_ok boolean, p_error text, p_seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.record_destination(p_destination uuid, p_ok boolean, p_error text, p_seconds double precision) TO service_role;
GRANT ALL ON FUNCTION atlas.record_destination(p_destination uuid, p_ok boolean, p_error text, p_seconds double precision) TO atlas_worker;

--
-- Name: FUNCTION record_model(p_model text, p_outcome text, p_error text, p_trial boolean); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.record_model(p_model text, p_outcome text, p_error text, p_trial boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.record_model(p_model text, p_outcome text, p_error text, p_trial boolean) TO service_role;
GRANT ALL ON FUNCTION atlas.record_model(p_model text, p_outcome text, p_error text, p_trial boolean) TO atlas_worker;

--
-- Name: FUNCTION record_probe(p_model text, p_ok boolean, p_error text, p_shutdown_at date); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.record_probe(p_model text, p_ok boolean, p_error text, p_shutdown_at date) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.record_probe(p_model text, p_ok boolean, p_error text, p_shutdown_at date) TO service_role;
GRANT ALL ON FUNCTION atlas.record_probe(p_model text, p_ok boolean, p_error text, p_shutdown_at date) TO atlas_worker;

--
-- Name: FUNCTION record_progress(p_items jsonb, p_rate double precision); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.record_progress(p_items jsonb, p_rate double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.record_progress(p_items jsonb, p_rate double precision) TO service_role;
GRANT ALL ON FUNCTION atlas.record_progress(p_items jsonb, p_rate double precision) TO atlas_worker;

--
-- Name: FUNCTION record_rate(p_model text, p_limits jsonb, p_retry_after interval); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.record_rate(p_model text, p_limits jsonb, p_retry_after interval) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.record_rate(p_model text, p_limits jsonb, p_retry_after interval) TO service_role;
GRANT ALL ON FUNCTION atlas.record_rate(p_model text, p_limits jsonb, p_retry_after interval) TO atlas_worker;

--
-- Name: FUNCTION record_usage(p_items jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.record_usage(p_items jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.record_usage(p_items jsonb) TO service_role;
GRANT ALL ON FUNCTION atlas.record_usage(p_items jsonb) TO atlas_worker;

--
-- Name: FUNCTION refuse(field text, problem text, fix text, state text, thing text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.refuse(field text, problem text, fix text, state text, thing text) FROM PUBLIC;

--
-- Name: FUNCTION refuse_change(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.refuse_change() FROM PUBLIC;

--
-- Name: FUNCTION register_worker(p_worker_id uuid, p_name text, p_version text, p_concurrency integer, p_models text[], p_protocol integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.register_worker(p_worker_id uuid, p_name text, p_version text, p_concurrency integer, p_models text[], p_protocol integer) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.register_worker(p_worker_id uuid, p_name text, p_version text, p_concurrency integer, p_models text[], p_protocol integer) TO service_role;
GRANT ALL ON FUNCTION atlas.register_worker(p_worker_id uuid, p_name text, p_version text, p_concurrency integer, p_models text[], p_protocol integer) TO atlas_worker;

--
-- Name: FUNCTION reject(p_task uuid, p_reason text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.reject(p_task uuid, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.reject(p_task uuid, p_reason text) TO authenticated;
GRANT ALL ON FUNCTION atlas.reject(p_task uuid, p_reason text) TO service_role;

--
-- Name: FUNCTION reject_message(p_source text, p_event_id text, p_payload jsonb, p_reason text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.reject_message(p_source text, p_event_id text, p_payload jsonb, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.reject_message(p_source text, p_event_id text, p_payload jsonb, p_reason text) TO service_role;

--
-- Name: FUNCTION release_expired(p_limit integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.release_expired(p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.release_expired(p_limit integer) TO service_role;
GRANT ALL ON FUNCTION atlas.release_expired(p_limit integer) TO atlas_worker;

--
-- Name: FUNCTION release_task(p_task atlas.task, p_reason text, p_until timestamp with time zone, p_state text, p_code text, p_message text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.release_task(p_task atlas.task, p_reason text, p_until timestamp with time zone, p_state text, p_code text, p_message text) FROM PUBLIC;

--
-- Name: FUNCTION remove_member(p_project uuid, p_who text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.remove_member(p_project uuid, p_who text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.remove_member(p_project uuid, p_who text) TO service_role;

--
-- Name: FUNCTION renew_audit_key(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.renew_audit_key() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.renew_audit_key() TO service_role;

--
-- Name: FUNCTION replay_outbox(p_task_id uuid, p_since timestamp with time zone, p_until timestamp with time zone, p_destination text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.replay_outbox(p_task_id uuid, p_since timestamp with time zone, p_until timestamp with time zone, p_destination text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.replay_outbox(p_task_id uuid, p_since timestamp with time zone, p_until timestamp with time zone, p_destination text) TO service_role;

--
-- Name: FUNCTION reply(p_task atlas.task, p_type text, p_content text, p_metadata jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.reply(p_task atlas.task, p_type text, p_content text, p_metadata jsonb) FROM PUBLIC;

--
-- Name: FUNCTION reply_metadata(p_parent uuid, p_metadata jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.reply_metadata(p_parent uuid, p_metadata jsonb) FROM PUBLIC;

--
-- Name: FUNCTION report_progress(p_every interval); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.report_progress(p_every interval) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.report_progress(p_every interval) TO service_role;
GRANT ALL ON FUNCTION atlas.report_progress(p_every interval) TO atlas_worker;

--
-- Name: FUNCTION report_work_item(p_task uuid, p_number integer, p_state text, p_commit text, p_note text, p_deviations jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.report_work_item(p_task uuid, p_number integer, p_state text, p_commit text, p_note text, p_deviations jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.report_work_item(p_task uuid, p_number integer, p_state text, p_commit text, p_note text, p_deviations jsonb) TO authenticated;
GRANT ALL ON FUNCTION atlas.report_work_item(p_task uuid, p_number integer, p_state text, p_commit text, p_note text, p_deviations jsonb) TO service_role;

--
-- Name: FUNCTION request_export(p_task_id uuid, p_what text, p_repository text, p_reply_to text, p_event_id uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.request_export(p_task_id uuid, p_what text, p_repository text, p_reply_to text, p_event_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.request_export(p_task_id uuid, p_what text, p_repository text, p_reply_to text, p_event_id uuid) TO service_role;

--
-- Name: FUNCTION require_decider(p_project uuid, p_verb text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.require_decider(p_project uuid, p_verb text) FROM PUBLIC;

--
-- Name: FUNCTION require_member(p_project uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.require_member(p_project uuid) FROM PUBLIC;

--
-- Name: FUNCTION require_protocol(p_oldest integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.require_protocol(p_oldest integer) FROM PUBLIC;

--
-- Name: FUNCTION reserve_one(p_task atlas.task, p_call integer, p_model text, p_input bigint, p_output bigint, p_tier text, p_window text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.reserve_one(p_task atlas.task, p_call integer, p_model text, p_input bigint, p_output bigint, p_tier text, p_window text) FROM PUBLIC;

--
-- Name: FUNCTION reserve_tokens(p_requests jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.reserve_tokens(p_requests jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.reserve_tokens(p_requests jsonb) TO service_role;
GRANT ALL ON FUNCTION atlas.reserve_tokens(p_requests jsonb) TO atlas_worker;

--
-- Name: FUNCTION resume(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.resume() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.resume() TO service_role;
GRANT ALL ON FUNCTION atlas.resume() TO atlas_worker;

--
-- Name: FUNCTION retry_outbox(p_ids bigint[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.retry_outbox(p_ids bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.retry_outbox(p_ids bigint[]) TO service_role;

--
-- Name: FUNCTION retry_task(p_task_id uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.retry_task(p_task_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.retry_task(p_task_id uuid) TO authenticated;
GRANT ALL ON FUNCTION atlas.retry_task(p_task_id uuid) TO service_role;

--
-- Name: FUNCTION routes(event_kind text, data jsonb, sender text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.routes(event_kind text, data jsonb, sender text) FROM PUBLIC;

--
-- Name: FUNCTION scopes_of(project uuid, sender text, model text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.scopes_of(project uuid, sender text, model text) FROM PUBLIC;

--
-- Name: FUNCTION seal_audit(p_upto xid8, p_rows bigint, p_digest bytea, p_prev_mac bytea, p_mac bytea, p_proof bytea, p_next_check bytea); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.seal_audit(p_upto xid8, p_rows bigint, p_digest bytea, p_prev_mac bytea, p_mac bytea, p_proof bytea, p_next_check bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.seal_audit(p_upto xid8, p_rows bigint, p_digest bytea, p_prev_mac bytea, p_mac bytea, p_proof bytea, p_next_check bytea) TO service_role;
GRANT ALL ON FUNCTION atlas.seal_audit(p_upto xid8, p_rows bigint, p_digest bytea, p_prev_mac bytea, p_mac bytea, p_proof bytea, p_next_check bytea) TO atlas_worker;

--
-- Name: FUNCTION search_knowledge(p_query text, p_top_k integer, p_project uuid, p_collapse boolean); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.search_knowledge(p_query text, p_top_k integer, p_project uuid, p_collapse boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.search_knowledge(p_query text, p_top_k integer, p_project uuid, p_collapse boolean) TO authenticated;
GRANT ALL ON FUNCTION atlas.search_knowledge(p_query text, p_top_k integer, p_project uuid, p_collapse boolean) TO service_role;

--
-- Name: TABLE architect_in; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.architect_in TO authenticated;
GRANT SELECT ON TABLE public.architect_in TO service_role;

--
-- Name: COLUMN architect_in.data; Type: ACL; Schema: public; Owner: -
--

GRANT INSERT(data) ON TABLE public.architect_in TO authenticated;
GRANT INSERT(data) ON TABLE public.architect_in TO service_role;

--
-- Name: COLUMN architect_in.sender; Type: ACL; Schema: public; Owner: -
--

GRANT INSERT(sender) ON TABLE public.architect_in TO authenticated;
GRANT INSERT(sender) ON TABLE public.architect_in TO service_role;

--
-- Name: FUNCTION sender_of(p_message public.architect_in); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.sender_of(p_message public.architect_in) FROM PUBLIC;

--
-- Name: TABLE budget; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.budget TO authenticated;
GRANT SELECT ON TABLE atlas.budget TO service_role;

--
-- Name: FUNCTION set_budget(p_scope text, p_limits jsonb, p_set_by text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.set_budget(p_scope text, p_limits jsonb, p_set_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.set_budget(p_scope text, p_limits jsonb, p_set_by text) TO authenticated;
GRANT ALL ON FUNCTION atlas.set_budget(p_scope text, p_limits jsonb, p_set_by text) TO service_role;
GRANT ALL ON FUNCTION atlas.set_budget(p_scope text, p_limits jsonb, p_set_by text) TO atlas_worker;

--
-- Name: FUNCTION set_retention(p_tasks interval, p_texts interval); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.set_retention(p_tasks interval, p_texts interval) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.set_retention(p_tasks interval, p_texts interval) TO service_role;

--
-- Name: FUNCTION set_spend_rules(p_rules jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.set_spend_rules(p_rules jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.set_spend_rules(p_rules jsonb) TO service_role;
GRANT ALL ON FUNCTION atlas.set_spend_rules(p_rules jsonb) TO atlas_worker;

--
-- Name: FUNCTION settle_attempts(p_attempts uuid[], p_usages jsonb, p_event text, p_details jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.settle_attempts(p_attempts uuid[], p_usages jsonb, p_event text, p_details jsonb) FROM PUBLIC;

--
-- Name: FUNCTION settle_call(p_spend_id bigint, p_usage jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.settle_call(p_spend_id bigint, p_usage jsonb) FROM PUBLIC;

--
-- Name: FUNCTION settle_in(p_days date[], p_scopes text[], p_items jsonb, p_event text, p_details jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.settle_in(p_days date[], p_scopes text[], p_items jsonb, p_event text, p_details jsonb) FROM PUBLIC;

--
-- Name: FUNCTION settle_outbox(p_lease_owner uuid, p_sent bigint[], p_rejected jsonb, p_failed jsonb, p_released bigint[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.settle_outbox(p_lease_owner uuid, p_sent bigint[], p_rejected jsonb, p_failed jsonb, p_released bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.settle_outbox(p_lease_owner uuid, p_sent bigint[], p_rejected jsonb, p_failed jsonb, p_released bigint[]) TO service_role;
GRANT ALL ON FUNCTION atlas.settle_outbox(p_lease_owner uuid, p_sent bigint[], p_rejected jsonb, p_failed jsonb, p_released bigint[]) TO atlas_worker;

--
-- Name: FUNCTION settle_spends(p_items jsonb, p_days date[], p_scopes text[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.settle_spends(p_items jsonb, p_days date[], p_scopes text[]) FROM PUBLIC;

--
-- Name: FUNCTION share_of(p_project uuid, p_sender text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.share_of(p_project uuid, p_sender text) FROM PUBLIC;

--
-- Name: FUNCTION skip_outbox(p_ids bigint[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.skip_outbox(p_ids bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.skip_outbox(p_ids bigint[]) TO service_role;

--
-- Name: FUNCTION stale_documents(p_project uuid, p_under text[], p_keep text[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.stale_documents(p_project uuid, p_under text[], p_keep text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.stale_documents(p_project uuid, p_under text[], p_keep text[]) TO authenticated;
GRANT ALL ON FUNCTION atlas.stale_documents(p_project uuid, p_under text[], p_keep text[]) TO service_role;

--
-- Name: FUNCTION uid(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.uid() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.uid() TO authenticated;
GRANT ALL ON FUNCTION atlas.uid() TO service_role;

--
-- Name: FUNCTION submit_task(data jsonb, sender uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.submit_task(data jsonb, sender uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.submit_task(data jsonb, sender uuid) TO authenticated;
GRANT ALL ON FUNCTION atlas.submit_task(data jsonb, sender uuid) TO service_role;

--
-- Name: FUNCTION supersede(p_project uuid, p_number integer, p_by integer, p_reason text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.supersede(p_project uuid, p_number integer, p_by integer, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.supersede(p_project uuid, p_number integer, p_by integer, p_reason text) TO authenticated;
GRANT ALL ON FUNCTION atlas.supersede(p_project uuid, p_number integer, p_by integer, p_reason text) TO service_role;

--
-- Name: FUNCTION take_orphans(p_limit integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.take_orphans(p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.take_orphans(p_limit integer) TO service_role;
GRANT ALL ON FUNCTION atlas.take_orphans(p_limit integer) TO atlas_worker;

--
-- Name: FUNCTION take_probes(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.take_probes() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.take_probes() TO service_role;
GRANT ALL ON FUNCTION atlas.take_probes() TO atlas_worker;

--
-- Name: FUNCTION take_trial(p_model text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.take_trial(p_model text) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.take_trial(p_model text) TO service_role;
GRANT ALL ON FUNCTION atlas.take_trial(p_model text) TO atlas_worker;

--
-- Name: TABLE work_item; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.work_item TO authenticated;
GRANT SELECT ON TABLE atlas.work_item TO service_role;

--
-- Name: FUNCTION take_work_item(p_task uuid, p_number integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.take_work_item(p_task uuid, p_number integer) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.take_work_item(p_task uuid, p_number integer) TO authenticated;
GRANT ALL ON FUNCTION atlas.take_work_item(p_task uuid, p_number integer) TO service_role;

--
-- Name: FUNCTION task_progress(p_task_id uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.task_progress(p_task_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.task_progress(p_task_id uuid) TO authenticated;
GRANT ALL ON FUNCTION atlas.task_progress(p_task_id uuid) TO service_role;

--
-- Name: FUNCTION task_state(p_task_id uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.task_state(p_task_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.task_state(p_task_id uuid) TO authenticated;
GRANT ALL ON FUNCTION atlas.task_state(p_task_id uuid) TO service_role;

--
-- Name: FUNCTION texts_of(p_list jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.texts_of(p_list jsonb) FROM PUBLIC;

--
-- Name: FUNCTION today(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.today() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.today() TO authenticated;
GRANT ALL ON FUNCTION atlas.today() TO service_role;
GRANT ALL ON FUNCTION atlas.today() TO atlas_worker;

--
-- Name: FUNCTION trim_history(p_limit integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.trim_history(p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.trim_history(p_limit integer) TO service_role;
GRANT ALL ON FUNCTION atlas.trim_history(p_limit integer) TO atlas_worker;

--
-- Name: FUNCTION trim_inbound(p_keep interval); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.trim_inbound(p_keep interval) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.trim_inbound(p_keep interval) TO service_role;
GRANT ALL ON FUNCTION atlas.trim_inbound(p_keep interval) TO atlas_worker;

--
-- Name: FUNCTION trim_messages(p_keep interval); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.trim_messages(p_keep interval) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.trim_messages(p_keep interval) TO service_role;
GRANT ALL ON FUNCTION atlas.trim_messages(p_keep interval) TO atlas_worker;

--
-- Name: FUNCTION trim_outbox(p_keep interval, p_limit integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.trim_outbox(p_keep interval, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.trim_outbox(p_keep interval, p_limit integer) TO service_role;
GRANT ALL ON FUNCTION atlas.trim_outbox(p_keep interval, p_limit integer) TO atlas_worker;

--
-- Name: FUNCTION trim_parts(p_before timestamp with time zone, p_limit integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.trim_parts(p_before timestamp with time zone, p_limit integer) FROM PUBLIC;

--
-- Name: FUNCTION trim_prompt_texts(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.trim_prompt_texts() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.trim_prompt_texts() TO service_role;
GRANT ALL ON FUNCTION atlas.trim_prompt_texts() TO atlas_worker;

--
-- Name: FUNCTION trim_tasks(p_before timestamp with time zone, p_limit integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.trim_tasks(p_before timestamp with time zone, p_limit integer) FROM PUBLIC;

--
-- Name: FUNCTION trim_texts(p_before timestamp with time zone, p_limit integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.trim_texts(p_before timestamp with time zone, p_limit integer) FROM PUBLIC;

--
-- Name: FUNCTION user_of(p_who text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.user_of(p_who text) FROM PUBLIC;

--
-- Name: FUNCTION validate_message(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.validate_message() FROM PUBLIC;

--
-- Name: FUNCTION verify_audit(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.verify_audit() FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.verify_audit() TO service_role;

--
-- Name: FUNCTION wait_for_budget(p_task atlas.task, p_answer jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.wait_for_budget(p_task atlas.task, p_answer jsonb) FROM PUBLIC;

--
-- Name: FUNCTION wait_for_holds(p_tasks uuid[]); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.wait_for_holds(p_tasks uuid[]) FROM PUBLIC;

--
-- Name: FUNCTION wake_upstream(p_limit integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.wake_upstream(p_limit integer) FROM PUBLIC;

--
-- Name: FUNCTION wake_waiting(p_scopes text[], p_limit integer, p_all boolean); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.wake_waiting(p_scopes text[], p_limit integer, p_all boolean) FROM PUBLIC;

--
-- Name: FUNCTION wake_workers(p_also_busy boolean, p_queued integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.wake_workers(p_also_busy boolean, p_queued integer) FROM PUBLIC;

--
-- Name: FUNCTION wants(wanted jsonb, value text); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.wants(wanted jsonb, value text) FROM PUBLIC;

--
-- Name: FUNCTION watch_audit(p_every interval, p_rows integer); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.watch_audit(p_every interval, p_rows integer) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.watch_audit(p_every interval, p_rows integer) TO service_role;
GRANT ALL ON FUNCTION atlas.watch_audit(p_every interval, p_rows integer) TO atlas_worker;

--
-- Name: FUNCTION watch_ledger(p_every interval); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.watch_ledger(p_every interval) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.watch_ledger(p_every interval) TO service_role;
GRANT ALL ON FUNCTION atlas.watch_ledger(p_every interval) TO atlas_worker;

--
-- Name: FUNCTION watch_task(p_task_id uuid, p_reader uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.watch_task(p_task_id uuid, p_reader uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.watch_task(p_task_id uuid, p_reader uuid) TO authenticated;
GRANT ALL ON FUNCTION atlas.watch_task(p_task_id uuid, p_reader uuid) TO service_role;

--
-- Name: FUNCTION without_texts(p_data jsonb); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.without_texts(p_data jsonb) FROM PUBLIC;

--
-- Name: FUNCTION work_items(p_task uuid); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.work_items(p_task uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.work_items(p_task uuid) TO authenticated;
GRANT ALL ON FUNCTION atlas.work_items(p_task uuid) TO service_role;

--
-- Name: FUNCTION worst_cost(price atlas.model_price, input bigint, output bigint, factor numeric); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.worst_cost(price atlas.model_price, input bigint, output bigint, factor numeric) FROM PUBLIC;
GRANT ALL ON FUNCTION atlas.worst_cost(price atlas.model_price, input bigint, output bigint, factor numeric) TO service_role;
GRANT ALL ON FUNCTION atlas.worst_cost(price atlas.model_price, input bigint, output bigint, factor numeric) TO atlas_worker;

--
-- Name: FUNCTION xact_base(); Type: ACL; Schema: atlas; Owner: -
--

REVOKE ALL ON FUNCTION atlas.xact_base() FROM PUBLIC;

--
-- Name: FUNCTION add_job(p_items jsonb, p_project uuid, p_sender uuid); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.add_job(p_items jsonb, p_project uuid, p_sender uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.add_job(p_items jsonb, p_project uuid, p_sender uuid) TO service_role;
GRANT ALL ON FUNCTION rag.add_job(p_items jsonb, p_project uuid, p_sender uuid) TO atlas_rag;

--
-- Name: FUNCTION add_terms(); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.add_terms() FROM PUBLIC;

--
-- Name: FUNCTION advance_epoch(p_project uuid); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.advance_epoch(p_project uuid) FROM PUBLIC;

--
-- Name: FUNCTION advance_epochs(); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.advance_epochs() FROM PUBLIC;
GRANT ALL ON FUNCTION rag.advance_epochs() TO service_role;
GRANT ALL ON FUNCTION rag.advance_epochs() TO atlas_rag;

--
-- Name: FUNCTION cache_key(p_query text, p_settings text, p_projects uuid[]); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.cache_key(p_query text, p_settings text, p_projects uuid[]) FROM PUBLIC;

--
-- Name: FUNCTION candidates(p_query text, p_vector text, p_index integer, p_top_k integer, p_project uuid, p_collapse boolean, p_threshold real, p_prefix text, p_kind text); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.candidates(p_query text, p_vector text, p_index integer, p_top_k integer, p_project uuid, p_collapse boolean, p_threshold real, p_prefix text, p_kind text) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.candidates(p_query text, p_vector text, p_index integer, p_top_k integer, p_project uuid, p_collapse boolean, p_threshold real, p_prefix text, p_kind text) TO authenticated;
GRANT ALL ON FUNCTION rag.candidates(p_query text, p_vector text, p_index integer, p_top_k integer, p_project uuid, p_collapse boolean, p_threshold real, p_prefix text, p_kind text) TO service_role;
GRANT ALL ON FUNCTION rag.candidates(p_query text, p_vector text, p_index integer, p_top_k integer, p_project uuid, p_collapse boolean, p_threshold real, p_prefix text, p_kind text) TO atlas_rag;

--
-- Name: FUNCTION cite_passages(); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.cite_passages() FROM PUBLIC;

--
-- Name: FUNCTION claim_index(p_index integer, p_owner uuid, p_lease interval); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.claim_index(p_index integer, p_owner uuid, p_lease interval) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.claim_index(p_index integer, p_owner uuid, p_lease interval) TO service_role;
GRANT ALL ON FUNCTION rag.claim_index(p_index integer, p_owner uuid, p_lease interval) TO atlas_rag;

--
-- Name: TABLE embed_job; Type: ACL; Schema: rag; Owner: -
--

GRANT SELECT ON TABLE rag.embed_job TO atlas_rag;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE rag.embed_job TO service_role;
GRANT SELECT ON TABLE rag.embed_job TO authenticated;

--
-- Name: FUNCTION claim_job(p_owner uuid, p_lease interval); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.claim_job(p_owner uuid, p_lease interval) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.claim_job(p_owner uuid, p_lease interval) TO service_role;
GRANT ALL ON FUNCTION rag.claim_job(p_owner uuid, p_lease interval) TO atlas_rag;

--
-- Name: FUNCTION collect_passages(); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.collect_passages() FROM PUBLIC;
GRANT ALL ON FUNCTION rag.collect_passages() TO service_role;
GRANT ALL ON FUNCTION rag.collect_passages() TO atlas_rag;

--
-- Name: TABLE embedding_index; Type: ACL; Schema: rag; Owner: -
--

GRANT SELECT ON TABLE rag.embedding_index TO atlas_rag;
GRANT SELECT ON TABLE rag.embedding_index TO authenticated;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE rag.embedding_index TO service_role;

--
-- Name: FUNCTION create_vector_index(p_index rag.embedding_index); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.create_vector_index(p_index rag.embedding_index) FROM PUBLIC;

--
-- Name: FUNCTION drop_documents(p_project uuid, p_sources text[]); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.drop_documents(p_project uuid, p_sources text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.drop_documents(p_project uuid, p_sources text[]) TO service_role;
GRANT ALL ON FUNCTION rag.drop_documents(p_project uuid, p_sources text[]) TO atlas_rag;

--
-- Name: FUNCTION embedding_indexes(); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.embedding_indexes() FROM PUBLIC;
GRANT ALL ON FUNCTION rag.embedding_indexes() TO service_role;
GRANT ALL ON FUNCTION rag.embedding_indexes() TO atlas_rag;
GRANT ALL ON FUNCTION rag.embedding_indexes() TO atlas_worker;

--
-- Name: FUNCTION end_job(p_job uuid, p_owner uuid, p_state text, p_error text, p_wait interval, p_errors text[]); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.end_job(p_job uuid, p_owner uuid, p_state text, p_error text, p_wait interval, p_errors text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.end_job(p_job uuid, p_owner uuid, p_state text, p_error text, p_wait interval, p_errors text[]) TO service_role;
GRANT ALL ON FUNCTION rag.end_job(p_job uuid, p_owner uuid, p_state text, p_error text, p_wait interval, p_errors text[]) TO atlas_rag;

--
-- Name: FUNCTION extend_job(p_job uuid, p_owner uuid, p_lease interval, p_total integer, p_done integer); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.extend_job(p_job uuid, p_owner uuid, p_lease interval, p_total integer, p_done integer) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.extend_job(p_job uuid, p_owner uuid, p_lease interval, p_total integer, p_done integer) TO service_role;
GRANT ALL ON FUNCTION rag.extend_job(p_job uuid, p_owner uuid, p_lease interval, p_total integer, p_done integer) TO atlas_rag;

--
-- Name: FUNCTION few_passages(p_projects uuid[], p_prefix text, p_kind text); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.few_passages(p_projects uuid[], p_prefix text, p_kind text) FROM PUBLIC;

--
-- Name: FUNCTION find(p_query text, p_vector text, p_index integer, p_many integer, p_projects uuid[], p_prefix text, p_kind text); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.find(p_query text, p_vector text, p_index integer, p_many integer, p_projects uuid[], p_prefix text, p_kind text) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.find(p_query text, p_vector text, p_index integer, p_many integer, p_projects uuid[], p_prefix text, p_kind text) TO service_role;

--
-- Name: FUNCTION find_vectors(p_index rag.embedding_index, p_vector text, p_many integer, p_few bigint[], p_projects uuid[], p_prefix text, p_kind text); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.find_vectors(p_index rag.embedding_index, p_vector text, p_many integer, p_few bigint[], p_projects uuid[], p_prefix text, p_kind text) FROM PUBLIC;

--
-- Name: FUNCTION find_words(p_terms rag.weighed_term[], p_many integer, p_few bigint[], p_projects uuid[], p_prefix text, p_kind text); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.find_words(p_terms rag.weighed_term[], p_many integer, p_few bigint[], p_projects uuid[], p_prefix text, p_kind text) FROM PUBLIC;

--
-- Name: FUNCTION finish_item(p_job uuid, p_owner uuid, p_seq integer, p_error text); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.finish_item(p_job uuid, p_owner uuid, p_seq integer, p_error text) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.finish_item(p_job uuid, p_owner uuid, p_seq integer, p_error text) TO service_role;
GRANT ALL ON FUNCTION rag.finish_item(p_job uuid, p_owner uuid, p_seq integer, p_error text) TO atlas_rag;

--
-- Name: FUNCTION forget_repository(p_project uuid, p_name text); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.forget_repository(p_project uuid, p_name text) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.forget_repository(p_project uuid, p_name text) TO service_role;
GRANT ALL ON FUNCTION rag.forget_repository(p_project uuid, p_name text) TO atlas_rag;

--
-- Name: FUNCTION hits(p_query text, p_vector text, p_index integer, p_top_k integer, p_projects uuid[], p_collapse boolean, p_threshold real, p_prefix text, p_kind text); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.hits(p_query text, p_vector text, p_index integer, p_top_k integer, p_projects uuid[], p_collapse boolean, p_threshold real, p_prefix text, p_kind text) FROM PUBLIC;

--
-- Name: FUNCTION hold_job(p_job uuid, p_owner uuid); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.hold_job(p_job uuid, p_owner uuid) FROM PUBLIC;

--
-- Name: FUNCTION index_epoch(p_projects uuid[]); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.index_epoch(p_projects uuid[]) FROM PUBLIC;

--
-- Name: FUNCTION index_status(); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.index_status() FROM PUBLIC;
GRANT ALL ON FUNCTION rag.index_status() TO service_role;
GRANT ALL ON FUNCTION rag.index_status() TO atlas_rag;

--
-- Name: FUNCTION known_documents(p_project uuid, p_sources text[]); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.known_documents(p_project uuid, p_sources text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.known_documents(p_project uuid, p_sources text[]) TO service_role;
GRANT ALL ON FUNCTION rag.known_documents(p_project uuid, p_sources text[]) TO atlas_rag;

--
-- Name: FUNCTION known_vectors(p_index integer, p_hashes bytea[]); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.known_vectors(p_index integer, p_hashes bytea[]) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.known_vectors(p_index integer, p_hashes bytea[]) TO service_role;
GRANT ALL ON FUNCTION rag.known_vectors(p_index integer, p_hashes bytea[]) TO atlas_rag;

--
-- Name: FUNCTION language_of(p_kind text, p_text text); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.language_of(p_kind text, p_text text) FROM PUBLIC;

--
-- Name: FUNCTION lock_terms(p_scope uuid); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.lock_terms(p_scope uuid) FROM PUBLIC;

--
-- Name: FUNCTION mark_passages(); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.mark_passages() FROM PUBLIC;

--
-- Name: FUNCTION missing_vectors(p_index integer, p_after bigint, p_limit integer); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.missing_vectors(p_index integer, p_after bigint, p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.missing_vectors(p_index integer, p_after bigint, p_limit integer) TO service_role;
GRANT ALL ON FUNCTION rag.missing_vectors(p_index integer, p_after bigint, p_limit integer) TO atlas_rag;

--
-- Name: FUNCTION open_index(p_embedder text, p_model text, p_dimensions integer, p_usd numeric, p_revive boolean); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.open_index(p_embedder text, p_model text, p_dimensions integer, p_usd numeric, p_revive boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.open_index(p_embedder text, p_model text, p_dimensions integer, p_usd numeric, p_revive boolean) TO service_role;
GRANT ALL ON FUNCTION rag.open_index(p_embedder text, p_model text, p_dimensions integer, p_usd numeric, p_revive boolean) TO atlas_rag;

--
-- Name: FUNCTION passage_hash(p_heading text, p_text text); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.passage_hash(p_heading text, p_text text) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.passage_hash(p_heading text, p_text text) TO service_role;

--
-- Name: FUNCTION projects_of(p_task uuid); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.projects_of(p_task uuid) FROM PUBLIC;

--
-- Name: FUNCTION put_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea, p_chunks jsonb, p_commit text, p_repository text); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.put_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea, p_chunks jsonb, p_commit text, p_repository text) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.put_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea, p_chunks jsonb, p_commit text, p_repository text) TO service_role;
GRANT ALL ON FUNCTION rag.put_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea, p_chunks jsonb, p_commit text, p_repository text) TO atlas_rag;

--
-- Name: FUNCTION put_passages(p_chunks jsonb); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.put_passages(p_chunks jsonb) FROM PUBLIC;

--
-- Name: FUNCTION put_vectors(p_index integer, p_passages jsonb, p_vectors text[]); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.put_vectors(p_index integer, p_passages jsonb, p_vectors text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.put_vectors(p_index integer, p_passages jsonb, p_vectors text[]) TO service_role;
GRANT ALL ON FUNCTION rag.put_vectors(p_index integer, p_passages jsonb, p_vectors text[]) TO atlas_rag;

--
-- Name: FUNCTION queue_docs_added(); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.queue_docs_added() FROM PUBLIC;

--
-- Name: FUNCTION rarest_weight(p_projects uuid[]); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.rarest_weight(p_projects uuid[]) FROM PUBLIC;

--
-- Name: FUNCTION recall(p_tasks uuid[], p_queries text[], p_settings text); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.recall(p_tasks uuid[], p_queries text[], p_settings text) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.recall(p_tasks uuid[], p_queries text[], p_settings text) TO service_role;
GRANT ALL ON FUNCTION rag.recall(p_tasks uuid[], p_queries text[], p_settings text) TO atlas_worker;

--
-- Name: FUNCTION record_repository(p_repository text, p_ref text, p_project uuid); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.record_repository(p_repository text, p_ref text, p_project uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.record_repository(p_repository text, p_ref text, p_project uuid) TO service_role;
GRANT ALL ON FUNCTION rag.record_repository(p_repository text, p_ref text, p_project uuid) TO atlas_rag;

--
-- Name: FUNCTION record_usage(p_index integer, p_purpose text, p_texts bigint, p_tokens bigint); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.record_usage(p_index integer, p_purpose text, p_texts bigint, p_tokens bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.record_usage(p_index integer, p_purpose text, p_texts bigint, p_tokens bigint) TO service_role;
GRANT ALL ON FUNCTION rag.record_usage(p_index integer, p_purpose text, p_texts bigint, p_tokens bigint) TO atlas_rag;
GRANT ALL ON FUNCTION rag.record_usage(p_index integer, p_purpose text, p_texts bigint, p_tokens bigint) TO atlas_worker;

--
-- Name: FUNCTION refresh_all(); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.refresh_all() FROM PUBLIC;
GRANT ALL ON FUNCTION rag.refresh_all() TO service_role;
GRANT ALL ON FUNCTION rag.refresh_all() TO atlas_rag;

--
-- Name: FUNCTION remember(p_task uuid, p_query text, p_settings text, p_epoch text, p_chunks jsonb); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.remember(p_task uuid, p_query text, p_settings text, p_epoch text, p_chunks jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.remember(p_task uuid, p_query text, p_settings text, p_epoch text, p_chunks jsonb) TO service_role;
GRANT ALL ON FUNCTION rag.remember(p_task uuid, p_query text, p_settings text, p_epoch text, p_chunks jsonb) TO atlas_worker;

--
-- Name: FUNCTION remove_terms(); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.remove_terms() FROM PUBLIC;

--
-- Name: FUNCTION retire_index(p_index integer); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.retire_index(p_index integer) FROM PUBLIC;

--
-- Name: FUNCTION scope_of(p_project uuid); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.scope_of(p_project uuid) FROM PUBLIC;

--
-- Name: FUNCTION scopes_of(p_projects uuid[]); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.scopes_of(p_projects uuid[]) FROM PUBLIC;

--
-- Name: FUNCTION score_vectors(p_index rag.embedding_index, p_vector text, p_passages bigint[]); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.score_vectors(p_index rag.embedding_index, p_vector text, p_passages bigint[]) FROM PUBLIC;

--
-- Name: FUNCTION score_words(p_terms rag.weighed_term[], p_passages bigint[]); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.score_words(p_terms rag.weighed_term[], p_passages bigint[]) FROM PUBLIC;

--
-- Name: FUNCTION search(p_query text, p_top_k integer, p_project uuid, p_collapse boolean, p_vector text, p_index integer, p_threshold real, p_prefix text, p_kind text); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.search(p_query text, p_top_k integer, p_project uuid, p_collapse boolean, p_vector text, p_index integer, p_threshold real, p_prefix text, p_kind text) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.search(p_query text, p_top_k integer, p_project uuid, p_collapse boolean, p_vector text, p_index integer, p_threshold real, p_prefix text, p_kind text) TO authenticated;
GRANT ALL ON FUNCTION rag.search(p_query text, p_top_k integer, p_project uuid, p_collapse boolean, p_vector text, p_index integer, p_threshold real, p_prefix text, p_kind text) TO service_role;
GRANT ALL ON FUNCTION rag.search(p_query text, p_top_k integer, p_project uuid, p_collapse boolean, p_vector text, p_index integer, p_threshold real, p_prefix text, p_kind text) TO atlas_rag;

--
-- Name: FUNCTION search_task(p_task uuid, p_query text, p_top_k integer, p_collapse boolean, p_vector text, p_index integer, p_threshold real); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.search_task(p_task uuid, p_query text, p_top_k integer, p_collapse boolean, p_vector text, p_index integer, p_threshold real) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.search_task(p_task uuid, p_query text, p_top_k integer, p_collapse boolean, p_vector text, p_index integer, p_threshold real) TO service_role;
GRANT ALL ON FUNCTION rag.search_task(p_task uuid, p_query text, p_top_k integer, p_collapse boolean, p_vector text, p_index integer, p_threshold real) TO atlas_rag;
GRANT ALL ON FUNCTION rag.search_task(p_task uuid, p_query text, p_top_k integer, p_collapse boolean, p_vector text, p_index integer, p_threshold real) TO atlas_worker;

--
-- Name: FUNCTION serve_index(p_index integer); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.serve_index(p_index integer) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.serve_index(p_index integer) TO service_role;
GRANT ALL ON FUNCTION rag.serve_index(p_index integer) TO atlas_rag;

--
-- Name: FUNCTION set_ranking(p_k1 real, p_b real, p_words_threshold real, p_vector_weight real); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.set_ranking(p_k1 real, p_b real, p_words_threshold real, p_vector_weight real) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.set_ranking(p_k1 real, p_b real, p_words_threshold real, p_vector_weight real) TO service_role;

--
-- Name: FUNCTION set_threshold(p_index integer, p_threshold real); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.set_threshold(p_index integer, p_threshold real) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.set_threshold(p_index integer, p_threshold real) TO service_role;

--
-- Name: FUNCTION stale_documents(p_project uuid, p_under text[], p_keep text[]); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.stale_documents(p_project uuid, p_under text[], p_keep text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.stale_documents(p_project uuid, p_under text[], p_keep text[]) TO service_role;
GRANT ALL ON FUNCTION rag.stale_documents(p_project uuid, p_under text[], p_keep text[]) TO atlas_rag;

--
-- Name: FUNCTION terms_of(p_language text, p_text text); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.terms_of(p_language text, p_text text) FROM PUBLIC;
GRANT ALL ON FUNCTION rag.terms_of(p_language text, p_text text) TO service_role;

--
-- Name: FUNCTION weigh_terms(p_query text, p_projects uuid[]); Type: ACL; Schema: rag; Owner: -
--

REVOKE ALL ON FUNCTION rag.weigh_terms(p_query text, p_projects uuid[]) FROM PUBLIC;

--
-- Name: TABLE attempt; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.attempt TO authenticated;
GRANT SELECT ON TABLE atlas.attempt TO service_role;

--
-- Name: TABLE audit; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.audit TO authenticated;
GRANT SELECT ON TABLE atlas.audit TO service_role;

--
-- Name: TABLE audit_checkpoint; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.audit_checkpoint TO service_role;

--
-- Name: TABLE budget_day; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.budget_day TO authenticated;
GRANT SELECT ON TABLE atlas.budget_day TO service_role;

--
-- Name: TABLE budget_event; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.budget_event TO service_role;

--
-- Name: TABLE budget_now; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.budget_now TO authenticated;
GRANT SELECT ON TABLE atlas.budget_now TO service_role;

--
-- Name: TABLE control; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.control TO service_role;

--
-- Name: TABLE dead_letters; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.dead_letters TO authenticated;
GRANT SELECT ON TABLE atlas.dead_letters TO service_role;

--
-- Name: TABLE project; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.project TO atlas_rag;
GRANT SELECT ON TABLE atlas.project TO authenticated;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE atlas.project TO service_role;

--
-- Name: TABLE decisions; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.decisions TO authenticated;
GRANT SELECT ON TABLE atlas.decisions TO service_role;

--
-- Name: TABLE destination; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE atlas.destination TO service_role;

--
-- Name: TABLE deviation; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.deviation TO authenticated;
GRANT SELECT ON TABLE atlas.deviation TO service_role;

--
-- Name: TABLE identity; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.identity TO authenticated;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE atlas.identity TO service_role;

--
-- Name: TABLE inbound; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.inbound TO service_role;

--
-- Name: TABLE later_trim; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.later_trim TO service_role;

--
-- Name: TABLE member; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.member TO authenticated;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE atlas.member TO service_role;

--
-- Name: TABLE model; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.model TO authenticated;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE atlas.model TO service_role;

--
-- Name: TABLE model_state; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE atlas.model_state TO service_role;

--
-- Name: TABLE notification; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.notification TO service_role;

--
-- Name: TABLE open_draft; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.open_draft TO authenticated;
GRANT SELECT ON TABLE atlas.open_draft TO service_role;

--
-- Name: TABLE outbox; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.outbox TO service_role;

--
-- Name: TABLE outbox_status; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.outbox_status TO service_role;

--
-- Name: TABLE post; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.post TO authenticated;
GRANT SELECT ON TABLE atlas.post TO service_role;

--
-- Name: TABLE price_factor; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.price_factor TO authenticated;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE atlas.price_factor TO service_role;

--
-- Name: TABLE prompt; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.prompt TO service_role;

--
-- Name: TABLE prompt_text; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.prompt_text TO service_role;

--
-- Name: TABLE queue_status; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.queue_status TO authenticated;
GRANT SELECT ON TABLE atlas.queue_status TO service_role;

--
-- Name: TABLE rate_bucket; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.rate_bucket TO service_role;

--
-- Name: TABLE rejected_message; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT,INSERT,DELETE ON TABLE atlas.rejected_message TO service_role;

--
-- Name: TABLE reply_part; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.reply_part TO authenticated;
GRANT SELECT ON TABLE atlas.reply_part TO service_role;

--
-- Name: TABLE spend; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.spend TO authenticated;
GRANT SELECT ON TABLE atlas.spend TO service_role;

--
-- Name: TABLE spend_by_day; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.spend_by_day TO authenticated;
GRANT SELECT ON TABLE atlas.spend_by_day TO service_role;

--
-- Name: TABLE spend_by_decision; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.spend_by_decision TO authenticated;
GRANT SELECT ON TABLE atlas.spend_by_decision TO service_role;

--
-- Name: TABLE spend_by_model; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.spend_by_model TO authenticated;
GRANT SELECT ON TABLE atlas.spend_by_model TO service_role;

--
-- Name: TABLE spend_by_project; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.spend_by_project TO authenticated;
GRANT SELECT ON TABLE atlas.spend_by_project TO service_role;

--
-- Name: TABLE spend_by_sender; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.spend_by_sender TO authenticated;
GRANT SELECT ON TABLE atlas.spend_by_sender TO service_role;

--
-- Name: TABLE spend_rules; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.spend_rules TO service_role;

--
-- Name: TABLE task_history; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.task_history TO authenticated;
GRANT SELECT ON TABLE atlas.task_history TO service_role;

--
-- Name: TABLE watch; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.watch TO authenticated;
GRANT SELECT ON TABLE atlas.watch TO service_role;

--
-- Name: TABLE worker; Type: ACL; Schema: atlas; Owner: -
--

GRANT SELECT ON TABLE atlas.worker TO service_role;

--
-- Name: TABLE architect_out; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.architect_out TO authenticated;
GRANT SELECT ON TABLE public.architect_out TO service_role;

--
-- Name: TABLE cache; Type: ACL; Schema: rag; Owner: -
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE rag.cache TO service_role;

--
-- Name: TABLE chunk; Type: ACL; Schema: rag; Owner: -
--

GRANT SELECT ON TABLE rag.chunk TO atlas_rag;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE rag.chunk TO service_role;
GRANT SELECT ON TABLE rag.chunk TO authenticated;

--
-- Name: TABLE citation; Type: ACL; Schema: rag; Owner: -
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE rag.citation TO service_role;

--
-- Name: TABLE corpus; Type: ACL; Schema: rag; Owner: -
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE rag.corpus TO service_role;

--
-- Name: TABLE document; Type: ACL; Schema: rag; Owner: -
--

GRANT SELECT ON TABLE rag.document TO atlas_rag;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE rag.document TO service_role;
GRANT SELECT ON TABLE rag.document TO authenticated;

--
-- Name: TABLE embed_item; Type: ACL; Schema: rag; Owner: -
--

GRANT SELECT ON TABLE rag.embed_item TO atlas_rag;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE rag.embed_item TO service_role;

--
-- Name: TABLE embedding; Type: ACL; Schema: rag; Owner: -
--

GRANT SELECT ON TABLE rag.embedding TO atlas_rag;
GRANT SELECT ON TABLE rag.embedding TO authenticated;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE rag.embedding TO service_role;

--
-- Name: TABLE epoch; Type: ACL; Schema: rag; Owner: -
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE rag.epoch TO service_role;

--
-- Name: TABLE passage; Type: ACL; Schema: rag; Owner: -
--

GRANT SELECT ON TABLE rag.passage TO atlas_rag;
GRANT SELECT ON TABLE rag.passage TO authenticated;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE rag.passage TO service_role;

--
-- Name: TABLE passage_terms; Type: ACL; Schema: rag; Owner: -
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE rag.passage_terms TO service_role;

--
-- Name: TABLE ranking; Type: ACL; Schema: rag; Owner: -
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE rag.ranking TO service_role;

--
-- Name: TABLE term; Type: ACL; Schema: rag; Owner: -
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE rag.term TO service_role;

--
-- Name: TABLE usage; Type: ACL; Schema: rag; Owner: -
--

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE rag.usage TO service_role;

--
-- PostgreSQL database dump complete
--

-- on realtime.messages: people follow the tasks they may read, SELECT to {authenticated} using ((( SELECT realtime.topic() AS topic) ~~ 'task:%'::text) AND ( SELECT atlas.owns_task(atlas.as_uuid(substr(realtime.topic(), 6))) AS owns_task)) with check
