-- name: foreign_rows
-- Rows that name another namespace than what they belong to; line items and accepted events are looked at elsewhere.
select 'a fact', x.lane, x.batch from ledger.fact x left join ledger.batch o using (lane, batch)
where x.namespace_key is distinct from o.namespace_key
union all
select 'a dead letter', x.lane, x.batch from ingest.dead_letter x left join ledger.batch o using (lane, batch)
where x.namespace_key is distinct from o.namespace_key
union all
select 'a dead letter seen', x.lane, x.batch from ingest.dead_letter_sighting x left join ledger.batch o using (lane, batch)
where x.namespace_key is distinct from o.namespace_key
union all
select 'running usage', null, null from ledger.accumulator x left join catalog.account o using (account_key)
where x.namespace_key is distinct from o.namespace_key
union all
select 'waiting usage', null, null from ledger.pending x left join catalog.account o using (account_key)
where x.namespace_key is distinct from o.namespace_key
union all
select 'a distinct member', null, null from ledger.fold_member x left join catalog.account o using (account_key)
where x.namespace_key is distinct from o.namespace_key
union all
select 'a free event', null, null from ledger.allowance_member x left join catalog.account o using (account_key)
where x.namespace_key is distinct from o.namespace_key
union all
select 'carried units', null, null from ledger.carried_units x left join catalog.account o using (account_key)
where x.namespace_key is distinct from o.namespace_key
union all
select 'a reading', null, null from ledger.level x left join catalog.account o using (account_key)
where x.namespace_key is distinct from o.namespace_key
union all
select 'a price version', null, null from catalog.price_version x left join catalog.price o using (price_key)
where x.namespace_key is distinct from o.namespace_key
limit 100

-- name: misplaced_letters
-- Dead letters that do not stand where a batch first saw them.
select d.lane, d.batch from ingest.dead_letter d
left join ingest.dead_letter_sighting s using (lane, batch, ordinal, dead_letter_key)
left join ledger.batch b using (lane, batch) left join ingest.partition p using (partition_key)
where s.dead_letter_key is null or p.stream is distinct from d.stream
  or d.position < b.position_start or d.position >= b.position_end or length(d.raw) <> least(d.raw_bytes, %(kept)s)
  or d.first_seen_at <> timestamptz 'epoch' + b.recorded_us * interval '1 microsecond'
  or d.revision is distinct from b.catalog_revision

-- name: letters
-- What a dead letter's fingerprint is made of.
select n.namespace, d.stream, d.position, d.reason, d.event_key, d.digest, d.raw, d.raw_bytes, d.fingerprint, d.lane, d.batch
from ingest.dead_letter d left join catalog.namespace n using (namespace_key)

-- name: letter_acts
-- What is kept of what was done with dead letters, one row for each letter that a fact names.
select x.lane, x.batch, x.ordinal, encode(uuid_send(d.fingerprint), 'hex'), x.number, x.act, x.outcome,
  encode(uuid_send(x.event_key), 'hex'), x.reason, x.detail, x.patch, x.note, x.actor, x.acted_us, x.revision,
  n.namespace, d.namespace_key = x.namespace_key
from ingest.letter_act x left join ingest.dead_letter d using (dead_letter_key)
left join catalog.namespace n on n.namespace_key = x.namespace_key

-- name: letter_origins
-- What the envelopes of letters that were tried again must hold.
select encode(uuid_send(d.fingerprint), 'hex'), d.stream, d.position, d.raw_bytes, sha256(d.raw) from ingest.dead_letter d
join catalog.namespace n using (namespace_key) where n.namespace = %(namespace)s
  and exists (select from ingest.letter_act x where x.dead_letter_key = d.dead_letter_key and x.act = 'replay')

-- name: letters_by_batch
-- What the raw segments must say of the dead letters of a namespace.
select d.lane, d.batch, d.ordinal, d.position, d.raw_bytes, sha256(d.raw), d.event_key, d.digest from ingest.dead_letter d
join catalog.namespace n using (namespace_key) where n.namespace = %(namespace)s

-- name: released
-- Batches that read records that had waited, by the partition they read.
select b.partition_key, b.position_start, b.position_end, b.records_digest from ledger.batch b
join ingest.partition p using (partition_key) join catalog.namespace n on n.namespace_key = b.namespace_key
where n.namespace = %(namespace)s and p.stream = %(stream)s

-- name: retractions
-- Every retraction as it is stored.
select r.key, n.namespace, r.reason, r.lane, r.batch from ingest.retraction r
left join catalog.namespace n using (namespace_key)

-- name: service_periods
-- The service periods there is running usage for.
select distinct c.timezone, a.service_month, (extract(epoch from a.period_start) * 1000000)::bigint,
  (extract(epoch from a.period_end) * 1000000)::bigint
from ledger.accumulator a join catalog.account c using (account_key)

-- name: odd_windows
-- Waiting windows of a length or start that no price has, under another price's version, or outside any service period.
select c.account, p.price from ledger.pending w left join catalog.account c on c.account_key = w.account_key
left join catalog.price p on p.price_key = w.price_key
left join catalog.price_version v on v.price_version_key = w.price_version_key
left join catalog.tag_set t on t.tag_set_key = w.tag_set_key
left join ledger.accumulator a on (a.account_key, a.price_key, a.period_start) = (w.account_key, w.price_key, w.period_start)
where v.price_key is distinct from w.price_key or t.tag_set_key is null or a.account_key is null
  or extract(epoch from w.window_end - w.window_start) not in (60, 3600, 86400)
  or mod(extract(epoch from w.window_start), nullif(extract(epoch from w.window_end - w.window_start), 0)) <> 0
  or w.window_end <= w.period_start or w.window_start >= a.period_end
limit 100

-- name: windows_waiting
-- Waiting windows of a namespace: price, account and service month, version, window start, tags.
select w.price_key, w.account_key::bigint << 20 | a.service_month, w.price_version_key,
  (extract(epoch from w.window_start) * 1000000)::bigint, t.tags
from ledger.pending w join catalog.namespace n using (namespace_key)
join ledger.accumulator a using (account_key, price_key, period_start) join catalog.tag_set t using (tag_set_key)
where n.namespace = %(namespace)s

-- name: members
-- Distinct members of a namespace's targets: price, account and service month, member.
select m.price_key, m.account_key::bigint << 20 | a.service_month, m.member from ledger.fold_member m
join ledger.accumulator a using (account_key, price_key, period_start)
join catalog.namespace n on n.namespace_key = a.namespace_key where n.namespace = %(namespace)s

-- name: free_events
-- Events in the allowances of a namespace's targets: price, account and service month, identity, time, value.
select m.price_key, m.account_key::bigint << 20 | a.service_month, m.member, m.time_us, m.value
from ledger.allowance_member m join ledger.accumulator a using (account_key, price_key, period_start)
join catalog.namespace n on n.namespace_key = a.namespace_key where n.namespace = %(namespace)s

-- name: stray_members
-- Distinct members and free events of no target.
select count(*) from (select account_key, price_key, period_start, false as free from ledger.fold_member
  union all select account_key, price_key, period_start, true from ledger.allowance_member) m
left join ledger.accumulator a using (account_key, price_key, period_start)
where a.account_key is null or m.free and a.charge is null

-- name: sequence_steps
-- What batches saw of producers' sequence numbers, a batch's rows together and in the order of the sources' code points.
select s.lane, s.batch, s.namespace_key, s.recorded_us, p.source, s.accepted::text, s.repeated::text, s.set_aside::text,
  s.doubled::text, s.unreadable
from ingest.sequence_step s left join ingest.producer p using (producer_key) order by s.lane, s.batch, p.source collate "C"

-- name: odd_steps
-- Steps that do not stand behind the ones before: their number, or the lowest and highest number seen so far.
select lane, batch from (
  select s.lane, s.batch, s.number <> row_number() over w or s.low is distinct from min(lower(s.whole)) over w
    or s.high is distinct from max(upper(s.whole)) over w - 1 or count(*) over (partition by s.producer_key, s.number) > 1 as odd
  from (select *, accepted + repeated + set_aside as whole from ingest.sequence_step) s
  window w as (partition by s.producer_key order by s.number rows unbounded preceding)
) x where odd order by lane, batch limit 100

-- name: odd_producers
-- Producers of whom something else is kept than follows from their steps. Where accepted ranges, in the order of their starts,
-- begin before the ones before them end, numbers were accepted twice.
with stepped as (
  select producer_key, count(*) as steps, max(high) as high, min(low) as low, sum(unreadable) as unreadable,
    range_agg(accepted) as accepted, range_agg(repeated) as repeated, range_agg(set_aside) as set_aside, range_agg(doubled) as doubled,
    array_agg(distinct namespace_key) as namespaces
  from ingest.sequence_step group by producer_key
), twice as (
  select producer_key, range_agg(int8range(lower(r), least(upper(r), reached))) filter (where lower(r) < reached) as numbers from (
    select producer_key, r, max(upper(r)) over (partition by producer_key order by lower(r) rows between unbounded preceding
      and 1 preceding) as reached from ingest.sequence_step cross join lateral unnest(accepted) as r) x group by producer_key
), blocked as (
  select producer_key, range_agg(accepted) as accepted, range_agg(repeated) as repeated, range_agg(set_aside) as set_aside,
    range_agg(reused) as reused, array_agg(distinct namespace_key) as namespaces,
    bool_and((lower(accepted + repeated + set_aside) >> 16, (upper(accepted + repeated + set_aside) - 1) >> 16)
      is not distinct from (block, block)) as placed
  from ingest.sequence_block group by producer_key
)
select p.source, case when p.steps is distinct from s.steps or (p.low, p.high, p.unreadable) is distinct from (s.low, s.high, s.unreadable)
    or s.namespaces is distinct from array[p.namespace_key] then 'what is kept' else 'the union' end
from ingest.producer p full join stepped s using (producer_key) left join twice t using (producer_key)
full join blocked b using (producer_key)
where p.steps is distinct from s.steps or (p.low, p.high, p.unreadable) is distinct from (s.low, s.high, s.unreadable)
  or s.namespaces is distinct from array[p.namespace_key] or coalesce(b.namespaces, array[p.namespace_key]) <> array[p.namespace_key]
  or coalesce(b.accepted, '{}') <> s.accepted or coalesce(b.repeated, '{}') <> s.repeated or coalesce(b.set_aside, '{}') <> s.set_aside
  or coalesce(b.reused, '{}') <> s.doubled + coalesce(t.numbers, '{}') or not coalesce(b.placed, true)
order by p.source limit 100

-- name: sequence_facts
-- What batches of a namespace recorded of sequence numbers.
select f.lane, f.batch, f.body from ledger.fact f join catalog.namespace n using (namespace_key) where f.kind = 'sequences' and n.namespace = %(namespace)s

-- name: set_aside_ordinals
-- Records that batches of a namespace set aside.
select s.lane, s.batch, array_agg(s.ordinal) from ingest.dead_letter_sighting s join catalog.namespace n using (namespace_key)
where n.namespace = %(namespace)s group by s.lane, s.batch
