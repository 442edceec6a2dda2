-- name: lanes
-- Heads of all lanes.
select lane, batch, hash from ledger.lane order by lane

-- name: lock_lane
-- A batch holds its lane while it commits, so that a lane's batches are numbered without gaps in commit order.
select batch, hash from ledger.lane where lane = %(lane)s for update

-- name: move_lane
-- The new head.
update ledger.lane set batch = %(batch)s, hash = %(hash)s where lane = %(lane)s

-- name: add_batch
-- One link of the chain.
insert into ledger.batch (lane, batch, namespace_key, kind, partition_key, position_start, position_end, received, itemized,
  pending, duplicate, dead_lettered, not_billable, line_items, facts, sums, event_time_min, event_time_max,
  catalog_revision, segment, records_digest, accepted_digest, set_aside_digest, root, previous, hash, hash_version, engine_version, recorded_us)
values (%(lane)s, %(batch)s, %(namespace_key)s, %(kind)s, %(partition_key)s, %(position_start)s, %(position_end)s,
  %(received)s, %(itemized)s, %(pending)s, %(duplicate)s, %(dead_lettered)s, %(not_billable)s, %(line_items)s, %(facts)s,
  %(sums)s, %(event_time_min)s, %(event_time_max)s, %(catalog_revision)s, %(segment)s, %(records_digest)s, %(accepted_digest)s,
  %(set_aside_digest)s, %(root)s,
  %(previous)s, %(hash)s, %(hash_version)s, %(engine_version)s, %(recorded_us)s)

-- name: copy_line_items
-- Straight into the final table; wide numbers and rare columns stay null.
copy ledger.line_item (id, event_key, batch, quantity, amount_nano, event_time, seq, account_key, price_version_key,
  tag_set_key, namespace_key, service_month, posting_month, lane, kind, event_id) from stdin (format binary)

-- name: add_wide_line_item
-- A row whose numbers pass int64.
insert into ledger.line_item (id, event_key, batch, event_time, seq, account_key, price_version_key, tag_set_key,
  namespace_key, service_month, posting_month, lane, kind, event_id, quantity_wide, amount_wide)
values (%s, %s, %s, timestamptz 'epoch' + %s * interval '1 microsecond', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)

-- name: add_fact
-- What people and billing did.
insert into ledger.fact (lane, batch, seq, namespace_key, kind, body)
values (%(lane)s, %(batch)s, %(seq)s, %(namespace_key)s, %(kind)s, %(body)s)

-- name: ensure_month
-- A month's partition on demand.
select ledger.ensure_month(%(month)s)

-- name: months
-- Posting months that have a partition.
select substring(c.relname from 'line_item_(\d+)_')::int * 12 + substring(c.relname from '_(\d+)$')::int - 1
from pg_inherits h join pg_class c on c.oid = h.inhrelid where h.inhparent = 'ledger.line_item'::regclass order by 1

-- name: summarize_ranges
-- Make the rows of large batches searchable at once.
select ledger.summarize_ranges()

-- name: share_period
-- Shared by ingest, exclusive only to flip to closing: row locks starve behind many writers.
select pg_advisory_xact_lock_shared(%(namespace_key)s, %(month)s)

-- name: lock_period
-- Waits for the batches that still post to the month.
select pg_advisory_xact_lock(%(namespace_key)s, %(month)s)

-- name: closed_months
-- Months that take no more usage.
select month from ledger.period where namespace_key = %(namespace_key)s and state <> 'open' order by month

-- name: period_state
-- State of one month; no row means open.
select state from ledger.period where namespace_key = %(namespace_key)s and month = %(month)s

-- name: set_period_state
-- Open, closing or closed.
insert into ledger.period (namespace_key, month, state) values (%(namespace_key)s, %(month)s, %(state)s)
on conflict (namespace_key, month) do update set state = excluded.state

-- name: lock_accumulators
-- Those a batch touches, locked in key order; packed in one value, 81 bytes each, 0 for what does not fit int64.
with locked as (
  select w.n, a.* from unnest(%(accounts)s::int[], %(starts)s::bigint[]) with ordinality as w(account_key, start_us, n)
  join ledger.accumulator a on a.account_key = w.account_key and a.price_key = %(price_key)s
    and a.period_start = timestamptz 'epoch' + w.start_us * interval '1 microsecond'
  order by a.account_key, a.price_key, a.period_start for update of a
), narrow as (
  select *, greatest(abs(quantity), abs(posted_quantity), abs(posted_nano)) > 9223372036854775807 as wide from locked
)
select coalesce(string_agg(int8send(n) || boolsend(wide) || int8send(events)
  || int8send(case when wide then 0 else quantity end::bigint)
  || int8send(case when wide then 0 else posted_quantity end::bigint)
  || int8send(case when wide then 0 else posted_nano end::bigint)
  || int8send(last_event_us) || int8send(coalesce(fold_time_us, 0))
  || uuid_send(coalesce(fold_key, '00000000-0000-0000-0000-000000000000')) || int8send(coalesce(settled, -1)), ''::bytea), ''::bytea) from narrow

-- name: wide_accumulators
-- The numbers of locked targets where one passes int64.
select w.n, a.quantity, a.posted_quantity, a.posted_nano
from unnest(%(accounts)s::int[], %(starts)s::bigint[]) with ordinality as w(account_key, start_us, n)
join ledger.accumulator a on a.account_key = w.account_key and a.price_key = %(price_key)s
  and a.period_start = timestamptz 'epoch' + w.start_us * interval '1 microsecond'

-- name: add_accumulators
-- Targets touched for the first time.
insert into ledger.accumulator (account_key, price_key, namespace_key, service_month, period_start, period_end, events,
  quantity, posted_quantity, posted_nano, last_event_us)
select w.account_key, %(price_key)s, %(namespace_key)s, w.month,
  timestamptz 'epoch' + w.start_us * interval '1 microsecond', timestamptz 'epoch' + w.end_us * interval '1 microsecond',
  0, 0, 0, 0, 0
from unnest(%(accounts)s::int[], %(months)s::int[], %(starts)s::bigint[], %(ends)s::bigint[])
  as w(account_key, month, start_us, end_us)
order by w.account_key, w.start_us on conflict (account_key, price_key, period_start) do nothing

-- name: update_accumulators
-- What the batch made of them.
update ledger.accumulator a set events = w.events, quantity = w.quantity, posted_quantity = w.posted_quantity,
  posted_nano = w.posted_nano, last_event_us = w.last_event_us
from unnest(%(accounts)s::int[], %(starts)s::bigint[], %(events)s::bigint[], %(quantities)s::numeric[],
  %(posted_quantities)s::numeric[], %(posted)s::numeric[], %(last)s::bigint[])
  as w(account_key, start_us, events, quantity, posted_quantity, posted_nano, last_event_us)
where a.account_key = w.account_key and a.price_key = %(price_key)s
  and a.period_start = timestamptz 'epoch' + w.start_us * interval '1 microsecond'

-- name: update_readings
-- `latest`: which reading counts.
update ledger.accumulator a set fold_time_us = w.fold_time_us, fold_key = w.fold_key
from unnest(%(accounts)s::int[], %(starts)s::bigint[], %(fold_times)s::bigint[], %(fold_keys)s::uuid[])
  as w(account_key, start_us, fold_time_us, fold_key)
where a.account_key = w.account_key and a.price_key = %(price_key)s
  and a.period_start = timestamptz 'epoch' + w.start_us * interval '1 microsecond'

-- name: known_members
-- Which members of these targets were seen before.
select w.n from unnest(%(accounts)s::int[], %(starts)s::bigint[], %(members)s::uuid[]) with ordinality
  as w(account_key, start_us, member, n)
join ledger.fold_member m on m.account_key = w.account_key and m.price_key = %(price_key)s
  and m.period_start = timestamptz 'epoch' + w.start_us * interval '1 microsecond' and m.member = w.member

-- name: add_members
-- New distinct members; the accumulator's lock keeps others out.
insert into ledger.fold_member (account_key, price_key, period_start, member, namespace_key)
select w.account_key, %(price_key)s, timestamptz 'epoch' + w.start_us * interval '1 microsecond', w.member,
  %(namespace_key)s
from unnest(%(accounts)s::int[], %(starts)s::bigint[], %(members)s::uuid[]) as w(account_key, start_us, member)

-- name: clear_members
-- Before a target is folded again.
delete from ledger.fold_member where account_key = %(account_key)s and price_key = %(price_key)s
  and period_start = timestamptz 'epoch' + %(start_us)s * interval '1 microsecond'

-- name: add_pending
-- Usage that waits for its window.
insert into ledger.pending (account_key, price_key, period_start, window_start, window_end, tag_set_key,
  price_version_key, namespace_key, quantity, charge, events)
values (%(account_key)s, %(price_key)s, timestamptz 'epoch' + %(start_us)s * interval '1 microsecond',
  timestamptz 'epoch' + %(window_start_us)s * interval '1 microsecond',
  timestamptz 'epoch' + %(window_end_us)s * interval '1 microsecond', %(tag_set_key)s, %(price_version_key)s,
  %(namespace_key)s, %(quantity)s, %(charge)s, %(events)s)
on conflict (account_key, price_key, period_start, window_start, tag_set_key, price_version_key)
do update set quantity = ledger.pending.quantity + excluded.quantity,
  charge = ledger.pending.charge + excluded.charge, events = ledger.pending.events + excluded.events

-- name: take_ended_windows
-- Pending windows that have ended leave the waiting list; the caller itemizes them in the same transaction.
delete from ledger.pending where namespace_key = %(namespace_key)s
  and window_end <= timestamptz 'epoch' + %(now_us)s * interval '1 microsecond'
returning account_key, price_key, (extract(epoch from period_start) * 1000000)::bigint,
  (extract(epoch from window_start) * 1000000)::bigint, tag_set_key, price_version_key, quantity, events, charge

-- name: take_waiting
-- Windows of one target that wait, ended or not: a retraction posts them with the difference.
delete from ledger.pending where account_key = %(account_key)s and price_key = %(price_key)s
  and period_start = timestamptz 'epoch' + %(start_us)s * interval '1 microsecond' returning events

-- name: has_ended_windows
-- Whether there is anything to flush.
select exists (select from ledger.pending where namespace_key = %(namespace_key)s
  and window_end <= timestamptz 'epoch' + %(now_us)s * interval '1 microsecond')

-- name: months_that_wait
-- Service months of the windows about to be flushed.
select distinct a.service_month from ledger.pending p join ledger.accumulator a using (account_key, price_key, period_start)
where p.namespace_key = %(namespace_key)s
  and p.window_end <= timestamptz 'epoch' + %(now_us)s * interval '1 microsecond'

-- name: service_months
-- Service month and end of targets.
select a.account_key, a.price_key, (extract(epoch from a.period_start) * 1000000)::bigint, a.service_month,
  (extract(epoch from a.period_end) * 1000000)::bigint
from unnest(%(accounts)s::int[], %(prices)s::int[], %(starts)s::bigint[]) as w(account_key, price_key, start_us)
join ledger.accumulator a on a.account_key = w.account_key and a.price_key = w.price_key
  and a.period_start = timestamptz 'epoch' + w.start_us * interval '1 microsecond'

-- name: usage_so_far
-- The last rated event of each pricebook, the one its accounts have included, whatever prices it; of each of its meters; and
-- of each account.
with used as (
  select c.account, c.pricebook as has, p.pricebook as priced_by, p.meter, max(a.last_event_us) as last_event_us
  from ledger.accumulator a join catalog.price p using (price_key) join catalog.account c using (account_key)
  where a.namespace_key = %(namespace_key)s group by 1, 2, 3, 4
)
select 'pricebook', book, max(last_event_us), meter
from used, unnest(array[has, priced_by]) as book where book is not null group by book, meter
union all select 'account', account, max(last_event_us), '' from used group by account

-- name: publish_facts
-- Who published a revision, and when; nobody knows of those before names were kept.
select (f.body::jsonb ->> 'revision')::bigint, f.body::jsonb ->> 'by', b.recorded_us
from ledger.fact f join ledger.batch b using (lane, batch) where f.namespace_key = %(namespace_key)s and f.kind in ('publish', 'canary')

-- name: month_by_book
-- What the prices of each pricebook metered in a service month.
select p.pricebook, p.price, p.unit, p.scale, sum(a.quantity) from ledger.accumulator a
join catalog.price p using (price_key) where a.namespace_key = %(namespace_key)s and a.service_month = %(month)s
group by 1, 2, 3, 4

-- name: month_by_account
-- What some accounts used in a service month, whatever pricebook priced it.
select c.account, p.price, p.unit, p.scale, sum(a.quantity) from ledger.accumulator a
join catalog.price p using (price_key) join catalog.account c using (account_key)
where a.namespace_key = %(namespace_key)s and a.service_month = %(month)s and c.account = any(%(accounts)s)
group by 1, 2, 3, 4

-- name: months_used
-- Service months from one on in which accounts of a pricebook have usage, whatever priced it.
select c.account, array_agg(distinct a.service_month) from ledger.accumulator a join catalog.account c using (account_key)
where a.namespace_key = %(namespace_key)s and c.pricebook = %(pricebook)s and a.service_month >= %(month)s group by 1

-- name: accounts_with_usage
-- Accounts whose pricebook and zone are fixed by rated usage.
select distinct c.account, c.pricebook, c.timezone from ledger.accumulator a join catalog.account c using (account_key)
where a.namespace_key = %(namespace_key)s and c.account = any(%(accounts)s)

-- name: batches
-- The chain, in order.
select lane, batch, n.namespace, b.namespace_key, kind, partition_key, position_start, position_end, received, itemized, pending, duplicate,
  dead_lettered, not_billable, line_items, facts, sums, event_time_min, event_time_max, catalog_revision, segment,
  records_digest, accepted_digest, set_aside_digest, root, engine_version, recorded_us, previous, hash, hash_version
from ledger.batch b left join catalog.namespace n using (namespace_key) order by lane, batch

-- name: facts
-- What people and billing did, in order; of one kind, or everything.
select lane, batch, seq, kind, body from ledger.fact where %(kind)s::text is null or kind = %(kind)s order by lane, batch, seq

-- name: copy_out_line_items
-- Every line item of every month, in physical order; wide and rare columns come apart.
copy (select lane, batch, seq, id, account_key, price_version_key, tag_set_key, namespace_key, service_month, posting_month,
  kind, quantity, amount_nano, event_time, coalesce(event_key, '00000000-0000-0000-0000-000000000000'), event_id
  from ledger.line_item where quantity is not null and amount_nano is not null) to stdout (format binary)

-- name: odd_line_items
-- Rows that do not have the plain shape: wide numbers, or something the leaf encoding does not know.
select lane, batch, seq, id, account_key, price_version_key, tag_set_key, namespace_key, service_month, posting_month, kind,
  quantity_wide, amount_wide, (extract(epoch from event_time) * 1000000)::bigint, event_key, event_id,
  person is not null or quantity is not null or amount_nano is not null or quantity_wide is null or amount_wide is null
from ledger.line_item where quantity is null or amount_nano is null or quantity_wide is not null or amount_wide is not null
  or person is not null or (event_key is null) <> (event_id is null)
order by lane, batch, seq

-- name: unbalanced_targets
-- Running usage that is not the sum of its line items, or not what waits plus what is posted.
with posted as (
  select l.account_key, v.price_key, l.service_month, sum(coalesce(l.quantity_wide, l.quantity)) as quantity,
    sum(coalesce(l.amount_wide, l.amount_nano)) as amount
  from ledger.line_item l join catalog.price_version v using (price_version_key) group by 1, 2, 3
), waiting as (
  select account_key, price_key, period_start, sum(quantity) as quantity, sum(charge) as charge from ledger.pending
  group by 1, 2, 3
), kept as (
  select a.account_key, a.price_key, a.service_month, sum(a.posted_quantity) as posted_quantity,
    sum(a.posted_nano) as posted_nano, sum(a.quantity) as quantity, sum(coalesce(w.quantity, 0)) as waiting,
    coalesce(sum(a.charge), 0) as charge, sum(coalesce(a.posted_charge, 0) + coalesce(w.charge, 0)) as counted_charge
  from ledger.accumulator a left join waiting w using (account_key, price_key, period_start) group by 1, 2, 3
  union all select account_key, price_key, service_month, 0, -drawn_nano, 0, 0, 0, 0 from ledger.credit_draw
)
select c.account, p.price, coalesce(k.service_month, d.service_month), k.posted_nano, d.amount, k.posted_quantity, d.quantity,
  k.quantity, k.waiting
from kept k full join posted d using (account_key, price_key, service_month)
left join catalog.account c using (account_key) left join catalog.price p using (price_key)
where coalesce(k.posted_nano, 0) <> coalesce(d.amount, 0) or coalesce(k.posted_quantity, 0) <> coalesce(d.quantity, 0)
  or k.quantity is distinct from k.posted_quantity + k.waiting or k.charge is distinct from k.counted_charge
limit 100

-- name: pending_events
-- Events that wait: for the end of a window, or with a reading until its month is settled.
select (select coalesce(sum(events), 0) from ledger.pending)::bigint
  + (select count(*) from (select distinct namespace_key, key from ledger.level where waiting) w)

-- name: periods
-- State of every touched month.
select n.namespace, p.month, p.state from ledger.period p join catalog.namespace n using (namespace_key)

-- name: usage_batches
-- Batches that read records, with what is needed to decode them again.
select b.lane, b.batch, b.segment, b.records_digest, b.accepted_digest, b.recorded_us, b.catalog_revision,
  b.position_start, b.position_end, b.partition_key, b.namespace_key
from ledger.batch b join catalog.namespace n using (namespace_key)
where n.namespace = %(namespace)s and b.segment <> ''
  and (%(since_us)s::bigint is null or b.event_time_max >= %(since_us)s)
  and (%(until_us)s::bigint is null or b.event_time_min < %(until_us)s)
  and (%(partitions)s::int[] is null or b.partition_key = any(%(partitions)s::int[]))
order by b.lane, b.batch

-- name: accumulators
-- Running usage of a namespace.
select a.price_key, a.account_key::bigint << 20 | a.service_month, a.events, a.quantity, a.posted_quantity, a.posted_nano,
  a.last_event_us, a.fold_time_us, a.fold_key, a.charge, a.posted_charge, coalesce(a.settled, -1),
  a.service_month, (extract(epoch from a.period_start) * 1000000)::bigint,
  (extract(epoch from a.period_end) * 1000000)::bigint
from ledger.accumulator a join catalog.namespace n using (namespace_key) where n.namespace = %(namespace)s

-- name: period_sums
-- What a posting month holds, per currency.
select p.currency, count(*), sum(coalesce(l.amount_wide, l.amount_nano))::text from ledger.line_item l
join catalog.price_version v using (price_version_key) join catalog.price p using (price_key)
where l.namespace_key = %(namespace_key)s and l.posting_month = %(month)s group by p.currency order by p.currency

-- name: last_event_before
-- The latest event of batches rated under an older revision than one; of all, where it is null.
select max(event_time_max) from ledger.batch where namespace_key = %(namespace_key)s and received > 0
  and (%(revision)s::bigint is null or catalog_revision < %(revision)s)
