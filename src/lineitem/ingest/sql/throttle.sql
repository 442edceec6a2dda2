-- name: in_force
-- The newest change of each switch of a namespace where it sets something that has not run out.
select number, what, name, per_second from (
  select distinct on (number) * from ingest.throttle where namespace_key = %(namespace_key)s order by number, change desc
) newest
where act = 'set' and (until_us is null or until_us > %(now_us)s) order by number

-- name: newest
-- Every switch there ever was, as its newest change left it.
select distinct on (number) number, change, act, what, name, per_second, until_us, note, actor, acted_us from ingest.throttle
where namespace_key = %(namespace_key)s order by number, change desc

-- name: add_change
-- Somebody set or cleared a switch.
insert into ingest.throttle (namespace_key, number, change, act, what, name, per_second, until_us, note, actor, acted_us,
  lane, batch)
values (%(namespace_key)s, %(number)s, %(change)s, %(act)s, %(what)s, %(name)s, %(per_second)s, %(until_us)s, %(note)s,
  %(actor)s, %(acted_us)s, %(lane)s, %(batch)s)

-- name: changes
-- Every change of every switch.
select x.lane, x.batch, n.namespace, x.number, x.change, x.act, x.what, x.name, x.per_second, x.until_us, x.note, x.actor,
  x.acted_us
from ingest.throttle x left join catalog.namespace n using (namespace_key)

-- name: lock_pace
-- How far a limit is used up; the row stays locked until the transaction ends.
insert into ingest.throttle_pace as p (namespace_key, number, free_us) values (%(namespace_key)s, %(number)s, 0)
on conflict (namespace_key, number) do update set free_us = p.free_us returning free_us

-- name: set_pace
-- What was let through is used up.
update ingest.throttle_pace set free_us = %(free_us)s where namespace_key = %(namespace_key)s and number = %(number)s
