-- name: letters
-- Dead letters of a namespace, newest first, with how often each was seen.
select l.dead_letter_key, l.reason, l.detail, l.stream, l.position, l.first_seen_at, l.raw, l.raw_bytes,
  (select count(*) from ingest.dead_letter_sighting s where s.dead_letter_key = l.dead_letter_key) - l.failures,
  l.state, l.first_reason, l.attempts, l.fixes, l.last_attempt_us
from ingest.letter l where l.namespace_key = %(namespace_key)s and (%(state)s::text is null or l.state = %(state)s::text)
  and (%(reason)s::smallint is null or l.reason = %(reason)s::smallint)
  and (%(since)s::timestamptz is null or l.first_seen_at >= %(since)s::timestamptz)
order by l.dead_letter_key desc limit %(limit)s

-- name: letter
-- One dead letter whole.
select l.dead_letter_key, l.reason, l.detail, l.stream, l.position, l.first_seen_at, l.raw, l.raw_bytes,
  (select count(*) from ingest.dead_letter_sighting s where s.dead_letter_key = l.dead_letter_key) - l.failures,
  l.state, l.first_reason, l.attempts, l.fixes, l.last_attempt_us, l.fingerprint, l.event_key, l.digest, l.lane, l.batch, l.ordinal
from ingest.letter l where l.namespace_key = %(namespace_key)s and l.dead_letter_key = %(key)s

-- name: latest_sighting
-- Where a dead letter was seen last.
select s.lane, s.batch, s.ordinal from ingest.dead_letter_sighting s where s.dead_letter_key = %(key)s
order by s.batch desc, s.lane desc, s.ordinal desc limit 1

-- name: first_acceptance
-- The accepted event that has a dead letter's identity.
select i.lane, i.batch, i.ordinal from ingest.identity i where i.key = %(event_key)s and i.namespace_key = %(namespace_key)s

-- name: acts
-- What was done with a dead letter, in order.
select number, act, outcome, event_key, reason, detail, patch, note, actor, acted_us, revision, lane, batch, ordinal
from ingest.letter_act where dead_letter_key = %(key)s order by number

-- name: groups
-- Dead letters by the code they have now: how many, records they stand for, oldest and newest, one of them as an example.
select l.reason, count(*), sum((select count(*) from ingest.dead_letter_sighting s where s.dead_letter_key = l.dead_letter_key)
    - l.failures)::bigint,
  min(l.first_seen_at), min(l.dead_letter_key), (array_agg(l.detail order by l.dead_letter_key))[1], sum(l.attempts)::bigint
from ingest.letter l where l.namespace_key = %(namespace_key)s and (%(state)s::text is null or l.state = %(state)s::text)
  and (%(reason)s::smallint is null or l.reason = %(reason)s::smallint)
  and (%(since)s::timestamptz is null or l.first_seen_at >= %(since)s::timestamptz)
group by l.reason

-- name: last_batches
-- The newest batch of each lane in which a code's letters were seen, replays left aside.
select l.reason, s.lane, max(s.batch) from ingest.letter l join ingest.dead_letter_sighting s using (dead_letter_key)
where l.namespace_key = %(namespace_key)s and (%(state)s::text is null or l.state = %(state)s::text)
  and (%(reason)s::smallint is null or l.reason = %(reason)s::smallint)
  and (%(since)s::timestamptz is null or l.first_seen_at >= %(since)s::timestamptz)
  and not exists (select from ingest.letter_act x where x.dead_letter_key = s.dead_letter_key
    and (x.lane, x.batch, x.ordinal) = (s.lane, s.batch, s.ordinal))
group by l.reason, s.lane

-- name: states
-- How many dead letters a namespace has in each state.
select l.state, count(*) from ingest.letter l where l.namespace_key = %(namespace_key)s group by l.state

-- name: depth
-- Open dead letters of the whole ledger by code, and since when the oldest waits.
select l.reason, count(*), min(l.first_seen_at) from ingest.letter l where l.state = 'open' group by l.reason order by 2 desc, 1

-- name: any_settled
-- Whether anybody has settled a dead letter of a namespace.
select exists (select from ingest.letter where namespace_key = %(namespace_key)s and state <> 'open')

-- name: settled
-- Identity and digest of settled dead letters among these keys.
select event_key, digest from ingest.letter
where namespace_key = %(namespace_key)s and event_key = any(%(keys)s) and digest is not null and state <> 'open'
