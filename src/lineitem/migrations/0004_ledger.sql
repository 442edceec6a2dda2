-- The ledger: lanes of hash-chained batches, their line items, and the running usage they add up to.
set local role lineitem_owner;

-- The head of each lane. Lane 0 is for what people and billing do; 1..n take usage.
create table ledger.lane (
  lane           smallint primary key,
  batch          bigint not null default 0,
  hash           bytea not null                     -- of the head; 32 zero bytes before the first batch
);

create table ledger.batch (
  lane           smallint not null references ledger.lane,
  batch          bigint not null,
  namespace_key  int not null references catalog.namespace,
  kind           smallint not null,                 -- ledger.chain.BatchKind
  partition_key  int,
  position_start bigint not null,
  position_end   bigint not null,
  received       bigint not null,
  itemized       bigint not null,
  pending        bigint not null,                   -- negative where a batch itemizes what waited
  duplicate      bigint not null,
  dead_lettered  bigint not null,
  not_billable   bigint not null,
  line_items     int not null,
  facts          int not null,
  sums           text not null,                     -- canonical JSON {currency: amount in nano-units as text}
  event_time_min bigint not null,                   -- microseconds since the epoch; 0 and 0 without events
  event_time_max bigint not null,
  catalog_revision bigint not null,
  segment        text not null,                     -- name of the raw segment, '' without one
  records_digest bytea not null,                    -- over the raw records in order
  accepted_digest bytea not null,                   -- over the identities it accepted
  set_aside_digest bytea not null,                  -- over the dead letters it made
  root           bytea not null,                    -- RFC 6962 Merkle root over line items, then facts
  previous       bytea not null,
  hash           bytea not null,
  hash_version   smallint not null,
  engine_version text not null,
  recorded_us    bigint not null,                   -- microseconds since the epoch
  primary key (lane, batch),
  constraint conservation check (received = itemized + pending + duplicate + dead_lettered + not_billable)
);

create table ledger.line_item (
  id             uuid not null,
  event_key      uuid,
  batch          bigint not null,
  quantity       bigint,                            -- at the meter's scale; null when only quantity_wide holds it
  amount_nano    bigint,
  event_time     timestamptz not null,              -- of the event, or the start of its window
  seq            int not null,
  account_key    int not null,
  price_version_key int not null,
  tag_set_key    int not null,
  namespace_key  int not null,
  service_month  int not null,                      -- core.period.Month.index, in the account's zone
  posting_month  int not null,
  lane           smallint not null,
  kind           smallint not null,                 -- ledger.rows.Kind
  event_id       text,
  quantity_wide  numeric(38),
  amount_wide    numeric(38),
  person         bytea                              -- personal fields, encrypted under a per-subject key; null in leaf version 1
) partition by list (posting_month);
-- Rows of a batch are stored sorted by account, so a few pages per range find one account without a b-tree per row.
create index line_item_brin on ledger.line_item using brin (batch, account_key)
  with (pages_per_range = 16, autosummarize = on);

-- Correcting is reversing plus replacing. These guard money and so are not partitioned by time (a unique constraint there
-- would have to contain the month, and two months could reverse one row).
create table ledger.lineage (
  root           uuid primary key,
  namespace_key  int not null,
  head           uuid not null unique
);
create table ledger.supersession (
  supersedes     uuid primary key,
  line_item      uuid not null unique,
  root           uuid not null references ledger.lineage,
  namespace_key  int not null,
  lane           smallint not null,
  batch          bigint not null
);

-- What people and billing did (a publish, an invoice, a period closed, an event retracted), as hashed canonical JSON.
create table ledger.fact (
  lane           smallint not null,
  batch          bigint not null,
  seq            int not null,
  namespace_key  int not null,
  kind           text not null,
  body           text not null,
  primary key (lane, batch, seq)
);

-- Running usage of one target: an account, the content of a price, a service period. posted = sum of its line items.
create table ledger.accumulator (
  account_key    int not null,
  price_key      int not null,
  namespace_key  int not null,
  service_month  int not null,
  period_start   timestamptz not null,
  period_end     timestamptz not null,
  events         bigint not null,
  quantity       numeric(38) not null,              -- fold over every accepted event, at the meter's scale
  posted_quantity numeric(38) not null,             -- the part of it that line items stand for
  posted_nano    numeric(38) not null,
  last_event_us  bigint not null,
  fold_time_us   bigint,                            -- `latest`: time and identity of the reading that counts
  fold_key       uuid,
  primary key (account_key, price_key, period_start)
) with (fillfactor = 60);

-- Distinct members seen by a `unique` fold.
create table ledger.fold_member (
  account_key    int not null,
  price_key      int not null,
  period_start   timestamptz not null,
  member         uuid not null,
  namespace_key  int not null,
  primary key (account_key, price_key, period_start, member)
);

-- Windows that have not ended yet: their usage is accepted but not itemized.
create table ledger.pending (
  account_key    int not null,
  price_key      int not null,
  period_start   timestamptz not null,
  window_start   timestamptz not null,
  window_end     timestamptz not null,
  tag_set_key    int not null,
  price_version_key int not null,
  namespace_key  int not null,
  quantity       numeric(38) not null,
  events         bigint not null,                   -- events that wait for this window longest
  primary key (account_key, price_key, period_start, window_start, tag_set_key, price_version_key)
);
create index on ledger.pending (window_end);

-- Posting periods somebody has touched; a month without a row is open.
create table ledger.period (
  namespace_key  int not null references catalog.namespace,
  month          int not null,
  state          text not null check (state in ('open', 'closing', 'closed')),
  primary key (namespace_key, month)
);

grant select, insert on all tables in schema ledger to lineitem_post;
grant update (batch, hash) on ledger.lane to lineitem_post;
grant update (head) on ledger.lineage to lineitem_post;
grant update (events, quantity, posted_quantity, posted_nano, last_event_us, fold_time_us, fold_key)
  on ledger.accumulator to lineitem_post;
grant delete on ledger.fold_member to lineitem_post;
grant update (quantity, events), delete on ledger.pending to lineitem_post;
grant update (state) on ledger.period to lineitem_post;

call ledger.make_append_only('ledger.batch');
call ledger.make_append_only('ledger.line_item');
call ledger.make_append_only('ledger.supersession');
call ledger.make_append_only('ledger.fact');
call ledger.isolate_namespace('ledger.batch');
call ledger.isolate_namespace('ledger.line_item');
call ledger.isolate_namespace('ledger.lineage');
call ledger.isolate_namespace('ledger.supersession');
call ledger.isolate_namespace('ledger.fact');
call ledger.isolate_namespace('ledger.accumulator');
call ledger.isolate_namespace('ledger.fold_member');
call ledger.isolate_namespace('ledger.pending');
call ledger.isolate_namespace('ledger.period');

-- A month's partition on demand. Attached, not created in place: CREATE ... PARTITION OF would lock out running batches.
create function ledger.ensure_month(wanted int) returns void
language plpgsql security definer set search_path = ledger, pg_temp as $$
declare
  name text := format('line_item_%s_%s', wanted / 12, lpad((wanted % 12 + 1)::text, 2, '0'));
begin
  if to_regclass('ledger.' || name) is not null then
    return;
  end if;
  perform pg_advisory_xact_lock(hashtext('lineitem.ensure_month'), wanted);
  -- Asked of the table: to_regclass may still remember from before the wait that there is none.
  if exists (select from pg_class where oid in (select inhrelid from pg_inherits where inhparent = 'ledger.line_item'::regclass)
             and relname = name) then
    return;
  end if;
  execute format('create table ledger.%I (like ledger.line_item including defaults including constraints)', name);
  execute format('alter table ledger.%I add constraint month check (posting_month = %s)', name, wanted);
  execute format('create trigger append_only_truncate before truncate on ledger.%I
                  for each statement execute function ledger.refuse_change()', name);
  execute format('alter table ledger.%I enable always trigger append_only_truncate', name);
  execute format('alter table ledger.%I enable row level security', name);
  execute format('alter table ledger.line_item attach partition ledger.%I for values in (%s)', name, wanted);
  execute format('alter table ledger.%I enable always trigger append_only', name);
  execute format('grant select, insert on ledger.%I to lineitem_post', name);
end $$;
revoke execute on function ledger.ensure_month(int) from public;
grant execute on function ledger.ensure_month(int) to lineitem_post;

-- BRIN ranges filled since the last call become searchable; run after large batches instead of waiting for autovacuum.
create function ledger.summarize_ranges() returns void
language sql security definer set search_path = ledger, pg_temp as $$
  select brin_summarize_new_values(i.indexrelid)
  from pg_index i join pg_inherits h on h.inhrelid = i.indexrelid
  where h.inhparent = 'ledger.line_item_brin'::regclass;
$$;
revoke execute on function ledger.summarize_ranges() from public;
grant execute on function ledger.summarize_ranges() to lineitem_post;
