-- name: add_readings
-- Events that set a level; the event's identity keeps it from standing twice.
insert into ledger.level (namespace_key, account_key, meter, time_us, key, value, waiting, seen)
select %(namespace_key)s, w.account_key, %(meter)s, w.time_us, w.key, w.value, true, false
from unnest(%(accounts)s::int[], %(times)s::bigint[], %(keys)s::uuid[], %(values)s::numeric[])
  as w(account_key, time_us, key, value)

-- name: drop_readings
-- Retracted events' readings; how many of the events still waited, and how many readings settled months have counted.
with gone as (
  delete from ledger.level l
  using unnest(%(accounts)s::int[], %(meters)s::text[], %(times)s::bigint[], %(keys)s::uuid[])
    as w(account_key, meter, time_us, key)
  where l.namespace_key = %(namespace_key)s and l.account_key = w.account_key and l.meter = w.meter
    and l.time_us = w.time_us and l.key = w.key
  returning l.key, l.waiting, l.seen
)
select count(distinct key) filter (where waiting), count(*) filter (where seen) from gone

-- name: pairs
-- Every account and meter with a reading, without reading all of them: from each pair the index leads to the next.
with recursive pair as (
  (select account_key, meter from ledger.level
   where namespace_key = %(namespace_key)s and account_key between %(low)s and %(high)s
   order by account_key, meter limit 1)
  union all
  select next.account_key, next.meter from pair cross join lateral (
    select l.account_key, l.meter from ledger.level l
    where l.namespace_key = %(namespace_key)s and l.account_key <= %(high)s
      and (l.account_key, l.meter) > (pair.account_key, pair.meter)
    order by l.account_key, l.meter limit 1
  ) next
)
select account_key, meter from pair

-- name: pair_states
-- The first and the last reading of pairs, and the first one that months settled after it do not count.
select w.n - 1, f.time_us, l.time_us, l.value, d.time_us
from unnest(%(accounts)s::int[], %(meters)s::text[]) with ordinality as w(account_key, meter, n)
cross join lateral (select time_us from ledger.level x where x.namespace_key = %(namespace_key)s
  and x.account_key = w.account_key and x.meter = w.meter order by time_us, key limit 1) f
cross join lateral (select time_us, value from ledger.level x where x.namespace_key = %(namespace_key)s
  and x.account_key = w.account_key and x.meter = w.meter order by time_us desc, key desc limit 1) l
left join lateral (select time_us from ledger.level x where x.namespace_key = %(namespace_key)s
  and x.account_key = w.account_key and x.meter = w.meter and not x.seen order by time_us limit 1) d on true

-- name: readings
-- The readings of pairs in a span of time, and the one before it, in order.
select w.n - 1, l.time_us, l.key, l.value, l.waiting, l.seen
from unnest(%(accounts)s::int[], %(meters)s::text[], %(sinces)s::bigint[], %(untils)s::bigint[])
  with ordinality as w(account_key, meter, since_us, until_us, n)
cross join lateral (
  (select time_us, key, value, waiting, seen from ledger.level x where x.namespace_key = %(namespace_key)s
     and x.account_key = w.account_key and x.meter = w.meter and x.time_us < w.since_us
   order by time_us desc, key desc limit 1)
  union all
  select time_us, key, value, waiting, seen from ledger.level x where x.namespace_key = %(namespace_key)s
    and x.account_key = w.account_key and x.meter = w.meter and x.time_us >= w.since_us and x.time_us < w.until_us
) l
order by w.n, l.time_us, l.key

-- name: settled_levels
-- Settled targets of some accounts under prices of levels.
select a.account_key, a.price_key, a.service_month, a.settled, a.last_event_us
from ledger.accumulator a
where a.account_key = any(%(accounts)s) and a.price_key = any(%(prices)s) and a.settled is not null

-- name: months_settled
-- Months settled under prices of levels, of one account or of all in a namespace.
select distinct a.service_month from ledger.accumulator a join catalog.price p using (price_key)
where a.namespace_key = %(namespace_key)s and a.account_key between %(low)s and %(high)s and a.settled is not null
  and p.meter = any(%(meters)s)

-- name: settle_levels
-- Targets that are settled now: what they count and owe takes the place of what they did.
update ledger.accumulator a set settled = w.settled, quantity = w.quantity, posted_quantity = w.quantity,
  posted_nano = w.posted_nano, last_event_us = greatest(a.last_event_us, w.since_us)
from unnest(%(accounts)s::int[], %(starts)s::bigint[], %(settled)s::bigint[], %(quantities)s::numeric[],
  %(posted)s::numeric[], %(since)s::bigint[]) as w(account_key, start_us, settled, quantity, posted_nano, since_us)
where a.account_key = w.account_key and a.price_key = %(price_key)s
  and a.period_start = timestamptz 'epoch' + w.start_us * interval '1 microsecond'

-- name: count_readings
-- Readings that settled months count now, those of them whose own month is settled too.
update ledger.level l set seen = true, waiting = l.waiting and not w.settled
from unnest(%(accounts)s::int[], %(meters)s::text[], %(times)s::bigint[], %(keys)s::uuid[], %(settled)s::bool[])
  as w(account_key, meter, time_us, key, settled)
where l.namespace_key = %(namespace_key)s and l.account_key = w.account_key and l.meter = w.meter
  and l.time_us = w.time_us and l.key = w.key

-- name: no_longer_waiting
-- Of some events, how many have no reading that waits, under no other meter either.
select count(distinct w.key) from unnest(%(accounts)s::int[], %(keys)s::uuid[]) as w(account_key, key)
where not exists (select from ledger.level l where l.namespace_key = %(namespace_key)s
  and l.account_key = w.account_key and l.key = w.key and l.waiting)

-- name: all_readings
-- Every reading of a namespace.
select l.account_key, l.meter, l.time_us, l.key, l.value, l.seen
from ledger.level l join catalog.namespace n using (namespace_key) where n.namespace = %(namespace)s

-- name: settle_facts
-- What settled targets, in order, and the catalog's revision it was done under.
select f.body, b.catalog_revision from ledger.fact f join ledger.batch b using (lane, batch)
join catalog.namespace n on n.namespace_key = f.namespace_key
where n.namespace = %(namespace)s and f.kind = 'settle' order by f.lane, f.batch, f.seq

-- name: seen
-- How many readings of each namespace settled months count.
select n.namespace, count(*) from ledger.level l join catalog.namespace n using (namespace_key) where l.seen group by 1
