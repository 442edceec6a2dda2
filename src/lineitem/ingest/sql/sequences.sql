-- name: producers
-- Keys of those of these sources that are known.
select source, producer_key from ingest.producer where namespace_key = %(namespace_key)s and source = any(%(sources)s)

-- name: add_producers
-- Sources that send a sequence for the first time, perhaps to two batches at once; in one order for all, lest two deadlock.
insert into ingest.producer (namespace_key, source)
select %(namespace_key)s, x.source from unnest(%(sources)s::text[]) with ordinality as x(source, n) order by x.n
on conflict (namespace_key, source) do nothing

-- name: lock_producers
-- One batch after the other adds to a producer; in one order for all.
select producer_key from ingest.producer where producer_key = any(%(keys)s::int[]) order by producer_key for no key update

-- name: add_steps
-- What a batch saw of each producer, behind what was seen before.
with seen as (
  select producer_key, accepted::int8multirange, repeated::int8multirange, set_aside::int8multirange, doubled::int8multirange,
    unreadable
  from unnest(%(keys)s::int[], %(accepted)s::text[], %(repeated)s::text[], %(set_aside)s::text[], %(doubled)s::text[],
    %(unreadable)s::int[]) as x(producer_key, accepted, repeated, set_aside, doubled, unreadable)
), moved as (
  update ingest.producer p set steps = p.steps + 1,
    low = least(p.low, lower(s.accepted + s.repeated + s.set_aside)),
    high = greatest(p.high, upper(s.accepted + s.repeated + s.set_aside) - 1), unreadable = p.unreadable + s.unreadable
  from seen s where p.producer_key = s.producer_key returning p.producer_key, p.steps, p.low, p.high
)
insert into ingest.sequence_step (producer_key, number, namespace_key, lane, batch, recorded_us, low, high, accepted, repeated,
  set_aside, doubled, unreadable)
select m.producer_key, m.steps, %(namespace_key)s, %(lane)s, %(batch)s, %(recorded_us)s, m.low, m.high, s.accepted, s.repeated,
  s.set_aside, s.doubled, s.unreadable
from moved m join seen s using (producer_key)

-- name: add_blocks
-- The same joined with what was seen before; a number that was accepted before and is again belongs to two events.
insert into ingest.sequence_block as b (producer_key, block, namespace_key, accepted, repeated, set_aside, reused)
select producer_key, block, %(namespace_key)s, accepted::int8multirange, repeated::int8multirange, set_aside::int8multirange,
  doubled::int8multirange
from unnest(%(keys)s::int[], %(blocks)s::bigint[], %(accepted)s::text[], %(repeated)s::text[], %(set_aside)s::text[],
  %(doubled)s::text[]) as x(producer_key, block, accepted, repeated, set_aside, doubled)
on conflict (producer_key, block) do update set accepted = b.accepted + excluded.accepted, repeated = b.repeated + excluded.repeated,
  set_aside = b.set_aside + excluded.set_aside, reused = b.reused + excluded.reused + b.accepted * excluded.accepted
where not (b.accepted @> excluded.accepted and b.repeated @> excluded.repeated and b.set_aside @> excluded.set_aside
  and b.reused @> (excluded.reused + b.accepted * excluded.accepted))

-- name: producer
-- One producer.
select producer_key, steps, low, high, unreadable,
  (select coalesce(sum(upper(r) - lower(r)), 0)::bigint from ingest.sequence_block b,
    unnest(b.accepted + b.repeated + b.set_aside) as r where b.producer_key = p.producer_key)
from ingest.producer p where namespace_key = %(namespace_key)s and source = %(source)s

-- name: namespaces
-- Namespaces that have producers.
select distinct namespace_key from ingest.producer order by namespace_key

-- name: sources
-- The first producers of a namespace, by source.
select source from ingest.producer where namespace_key = %(namespace_key)s order by source limit %(limit)s

-- name: tally
-- How many producers a namespace has, and how many records of theirs have a sequence that is no number.
select count(*), coalesce(sum(unreadable), 0)::bigint from ingest.producer where namespace_key = %(namespace_key)s

-- name: totals
-- How many runs and numbers are in each state; see producer_numbers.
with every as (
  select x.state, unnest(x.numbers) as r
  from ingest.producer_numbers p left join unnest(%(waived_sources)s::text[], %(waived)s::text[]) as w(source, numbers) using (source)
  cross join lateral (values
    ('missing', p.missing - coalesce(w.numbers::int8multirange, '{}')), ('waived', p.missing * w.numbers::int8multirange),
    ('set_aside', p.set_aside), ('sequence_reused', p.reused)) as x(state, numbers)
  where p.namespace_key = %(namespace_key)s and (%(source)s::text is null or p.source = %(source)s)
)
select state, count(*), sum(upper(r) - lower(r)) from every group by state

-- name: runs
-- Numbers of producers that are not simply there, those noticed first at the top: with the instant when both ends had been
-- reached or passed.
with every as (
  select p.producer_key, p.source, x.state, unnest(x.numbers) as r
  from ingest.producer_numbers p left join unnest(%(waived_sources)s::text[], %(waived)s::text[]) as w(source, numbers) using (source)
  cross join lateral (values
    ('missing', p.missing - coalesce(w.numbers::int8multirange, '{}')), ('waived', p.missing * w.numbers::int8multirange),
    ('set_aside', p.set_aside), ('sequence_reused', p.reused)) as x(state, numbers)
  where p.namespace_key = %(namespace_key)s and (%(source)s::text is null or p.source = %(source)s) and x.state = any(%(states)s)
), noticed as materialized (
  select e.source, e.state, lower(e.r) as first, upper(e.r) - 1 as last, greatest(
    (select s.recorded_us from ingest.sequence_step s where s.producer_key = e.producer_key and s.high >= upper(e.r) - 1
     order by s.high, s.number limit 1),
    (select s.recorded_us from ingest.sequence_step s where s.producer_key = e.producer_key and s.low <= lower(e.r)
     order by s.low desc, s.number limit 1)) as noticed_us
  from every e where upper(e.r) > %(first)s and lower(e.r) <= %(last)s
)
select source, state, first, last, noticed_us from noticed where noticed_us <= %(until_us)s
order by noticed_us, source, first, state limit %(limit)s
