-- name: letters
-- Dead letters of a namespace, newest first, with how often each was seen.
select d.dead_letter_key, d.reason, d.detail, d.stream, d.position, d.first_seen_at, d.raw, d.raw_bytes,
  (select count(*) from ingest.dead_letter_sighting s where s.dead_letter_key = d.dead_letter_key)
from ingest.dead_letter d where d.namespace_key = %(namespace_key)s order by d.dead_letter_key desc limit %(limit)s

-- name: letter
-- One dead letter whole.
select d.dead_letter_key, d.reason, d.detail, d.stream, d.position, d.first_seen_at, d.raw, d.raw_bytes,
  (select count(*) from ingest.dead_letter_sighting s where s.dead_letter_key = d.dead_letter_key),
  d.fingerprint, d.event_key, d.digest, d.lane, d.batch, d.ordinal
from ingest.dead_letter d where d.namespace_key = %(namespace_key)s and d.dead_letter_key = %(key)s

-- name: latest_sighting
-- Where a dead letter was seen last.
select s.lane, s.batch, s.ordinal from ingest.dead_letter_sighting s where s.dead_letter_key = %(key)s
order by s.batch desc, s.lane desc, s.ordinal desc limit 1

-- name: first_acceptance
-- The accepted event that has a dead letter's identity.
select i.lane, i.batch, i.ordinal from ingest.identity i where i.key = %(event_key)s and i.namespace_key = %(namespace_key)s

-- name: reasons
-- How many dead letters and records each reason has.
select d.reason, count(distinct d.dead_letter_key), count(*) from ingest.dead_letter d
join ingest.dead_letter_sighting s using (dead_letter_key) where d.namespace_key = %(namespace_key)s group by d.reason
