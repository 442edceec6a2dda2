-- name: latest_pass
-- The last time this file was read under this stream.
select partition_key, pass, lane, next, completed_at is not null, format, settings from ingest.partition
where namespace_key = %(namespace_key)s and stream = %(stream)s and content = %(content)s
order by pass desc limit 1

-- name: add_pass
-- A file is read once more, from its beginning.
insert into ingest.partition (namespace_key, stream, content, pass, lane, format, settings)
values (%(namespace_key)s, %(stream)s, %(content)s, %(pass)s, %(lane)s, %(format)s, %(settings)s)
returning partition_key

-- name: add_stream
-- A stream's partition is read for the first time, perhaps by two processes at once.
insert into ingest.partition (namespace_key, stream, content, pass, lane, format, settings)
values (%(namespace_key)s, %(stream)s, %(content)s, %(pass)s, %(lane)s, %(format)s, %(settings)s)
on conflict (namespace_key, stream, content, pass) do nothing

-- name: streams
-- Streams whose names begin alike.
select stream from ingest.partition
where namespace_key = %(namespace_key)s and content = %(content)s and starts_with(stream, %(prefix)s) order by stream

-- name: stream_positions
-- Every stream of a namespace and how far it is in the ledger, those read first before later ones.
select stream, next from ingest.partition
where namespace_key = %(namespace_key)s and content = %(content)s order by partition_key

-- name: wait_partition
-- One process reads a file at a time; the lock falls with the session.
select pg_advisory_lock(hashtextextended(%(name)s, 7263))

-- name: unlock_partition
-- Done with this file.
select pg_advisory_unlock(hashtextextended(%(name)s, 7263))

-- name: advance_position
-- Compare and set: touches one row, or another process has been here and the batch is abandoned.
update ingest.partition set next = %(end)s where partition_key = %(partition_key)s and next = %(start)s

-- name: complete_pass
-- The file has been read to its end.
update ingest.partition set completed_at = %(now)s where partition_key = %(partition_key)s and completed_at is null

-- name: partitions
-- Where every batch came from, or some of them.
select partition_key, namespace_key, stream, content, pass, lane, format, settings, next from ingest.partition
where %(keys)s::int[] is null or partition_key = any(%(keys)s::int[])

-- name: known_identities
-- Which of these keys were accepted before: keys and digests packed in one value, 32 bytes a pair.
select coalesce(string_agg(uuid_send(key) || uuid_send(digest), ''::bytea), ''::bytea) from ingest.identity
where key = any(%(keys)s)

-- name: places
-- Where these keys were accepted: key, digest, lane, batch, ordinal packed in one value, 46 bytes each.
select coalesce(string_agg(uuid_send(key) || uuid_send(digest) || int2send(lane) || int8send(batch) || int4send(ordinal),
  ''::bytea), ''::bytea) from ingest.identity where key = any(%(keys)s)

-- name: copy_identities
-- The unique index is the net under the look-up above.
copy ingest.identity (key, digest, batch, ordinal, namespace_key, lane) from stdin (format binary)

-- name: retracted
-- Retracted events among these keys, packed, 16 bytes each.
select coalesce(string_agg(uuid_send(key), ''::bytea), ''::bytea) from ingest.retraction where key = any(%(keys)s)

-- name: has_retractions
-- Whether any event of a namespace was retracted.
select exists (select from ingest.retraction where namespace_key = %(namespace_key)s)

-- name: count_retractions
-- How many events of a namespace were retracted, with those of reverted backfills.
select (select count(*) from ingest.retraction where namespace_key = %(namespace_key)s)
  + (select count(*) from ingest.reverted_event where namespace_key = %(namespace_key)s)

-- name: retraction_reason
-- Why an event was retracted.
select reason from ingest.retraction where key = %(key)s

-- name: add_retraction
-- Usage that did not happen.
insert into ingest.retraction (key, namespace_key, reason, lane, batch)
values (%(key)s, %(namespace_key)s, %(reason)s, %(lane)s, %(batch)s)

-- name: add_dead_letter
-- Collapsed by fingerprint: the same bad thing twice is one dead letter, seen twice.
insert into ingest.dead_letter (namespace_key, fingerprint, reason, detail, stream, position, event_key, digest, raw,
  raw_bytes, lane, batch, ordinal, first_seen_at, revision)
values (%(namespace_key)s, %(fingerprint)s, %(reason)s, %(detail)s, %(stream)s, %(position)s, %(event_key)s,
  %(digest)s, %(raw)s, %(raw_bytes)s, %(lane)s, %(batch)s, %(ordinal)s, %(first_seen_at)s, %(revision)s)
on conflict (fingerprint) do nothing

-- name: add_sighting
-- One record set aside.
insert into ingest.dead_letter_sighting (lane, batch, ordinal, dead_letter_key, namespace_key)
select %(lane)s, %(batch)s, %(ordinal)s, dead_letter_key, namespace_key from ingest.dead_letter
where fingerprint = %(fingerprint)s

-- name: sightings
-- What batches set aside.
select s.lane, s.batch, s.ordinal, d.fingerprint from ingest.dead_letter_sighting s
join ingest.dead_letter d using (dead_letter_key)

-- name: copy_out_identities
-- Every accepted event in physical order, 50 bytes each, those of 128 pages packed in one value. Each page the table has when
-- asked is read, and what the snapshot sees was on one of them by then.
copy (select (select string_agg(int2send(lane) || int8send(batch) || int4send(ordinal) || uuid_send(key) || uuid_send(digest)
    || int4send(namespace_key), ''::bytea)
  from ingest.identity where ctid >= format('(%s,0)', page)::tid and ctid < format('(%s,0)', page + 128)::tid)
  from generate_series(0, pg_relation_size('ingest.identity') / current_setting('block_size')::int, 128) as page)
to stdout (format binary)

-- name: interrupted
-- Files whose reading stopped half way; held records (migration 0017) are no file.
select count(*) from ingest.partition where completed_at is null and next > 0 and pass > 0 and stream <> 'held'
