-- name: choose
-- Dead letters to act on: those of some keys, or the open ones of a code or of all, those of one code together.
select dead_letter_key, reason, state, raw_bytes from ingest.letter
where namespace_key = %(namespace_key)s and (%(keys)s::bigint[] is null or dead_letter_key = any(%(keys)s::bigint[]))
  and (%(keys)s::bigint[] is not null or state = 'open') and (%(reason)s::smallint is null or reason = %(reason)s::smallint)
order by reason, dead_letter_key limit %(limit)s

-- name: due
-- Open dead letters that have rested long enough, of codes for which the catalog in force is newer than the last look, or of
-- codes for which it does not matter.
select dead_letter_key, reason, state, raw_bytes from ingest.letter
where namespace_key = %(namespace_key)s and state = 'open'
  and ((reason = any(%(reasons)s::smallint[]) and revision < %(revision)s) or reason = any(%(whenever)s::smallint[]))
  and (last_attempt_us is null or last_attempt_us
    + least(%(first_us)s::bigint * (1::bigint << least(attempts - 1, 20)), %(longest_us)s::bigint) <= %(now_us)s)
order by attempts, reason, dead_letter_key limit %(limit)s

-- name: load
-- Dead letters whole, in the order they were asked for.
select l.dead_letter_key, l.fingerprint, l.state, l.reason, l.acts, l.stream, l.position, l.raw, l.raw_bytes,
  l.lane, l.batch, l.ordinal
from unnest(%(keys)s::bigint[]) with ordinality as w(key, n)
join ingest.letter l on l.dead_letter_key = w.key and l.namespace_key = %(namespace_key)s order by w.n

-- name: fixes
-- The patches recorded for some dead letters, oldest first.
select dead_letter_key, patch, note, actor, acted_us from ingest.letter_act
where dead_letter_key = any(%(keys)s::bigint[]) and act = 'fix' order by dead_letter_key, number

-- name: moved
-- How many of these dead letters somebody has acted on since they were loaded.
select count(*) from unnest(%(keys)s::bigint[], %(acts)s::int[]) as w(key, acts)
where w.acts <> (select count(*) from ingest.letter_act x where x.dead_letter_key = w.key)

-- name: add_act
-- What was done with one dead letter.
insert into ingest.letter_act (dead_letter_key, number, namespace_key, act, outcome, event_key, reason, detail, patch, note, actor,
  acted_us, revision, lane, batch, ordinal)
values (%(key)s, %(number)s, %(namespace_key)s, %(act)s, %(outcome)s, %(event_key)s, %(reason)s, %(detail)s, %(patch)s, %(note)s,
  %(actor)s, %(acted_us)s, %(revision)s, %(lane)s, %(batch)s, %(ordinal)s)

-- name: add_sighting_of
-- A record that was set aside again: the dead letter it belongs to is known.
insert into ingest.dead_letter_sighting (lane, batch, ordinal, dead_letter_key, namespace_key)
values (%(lane)s, %(batch)s, %(ordinal)s, %(key)s, %(namespace_key)s)
