-- name: add_backfill
-- A backfill of this name begins, or goes on.
insert into ingest.backfill (namespace_key, name) values (%(namespace_key)s, %(name)s) on conflict do nothing

-- name: share_backfill
-- Held by each batch of a backfill, so that reverting waits for it; the lane 0 batch that began to revert it, if any did.
select reverted_batch from ingest.backfill where namespace_key = %(namespace_key)s and name = %(name)s for share

-- name: lock_backfill
-- Whoever reverts it waits for batches that still bring events in.
select reverted_batch from ingest.backfill where namespace_key = %(namespace_key)s and name = %(name)s for update

-- name: close_backfill
-- Nothing comes in under this name any more.
update ingest.backfill set reverted_batch = %(batch)s where namespace_key = %(namespace_key)s and name = %(name)s

-- name: backfills
-- Every backfill: namespace, name, and the first batch of its revert.
select namespace_key, name, reverted_batch from ingest.backfill order by namespace_key, name

-- name: passes
-- Passes whose settings may name a backfill.
select partition_key, namespace_key, settings from ingest.partition
where settings like '%%"backfill":%%' and (%(namespace_key)s::int is null or namespace_key = %(namespace_key)s)
order by partition_key

-- name: revert_events
-- Accepted events of a backfill become reverted ones; those that were retracted stay as they are. Packed, 46 bytes each.
with gone as (
  insert into ingest.reverted_event (key, digest, batch, ordinal, namespace_key, lane, reverted_batch)
  select i.key, i.digest, i.batch, i.ordinal, i.namespace_key, i.lane, %(reverted_batch)s from ingest.identity i
  where i.key = any(%(keys)s) and not exists (select from ingest.retraction r where r.key = i.key)
  returning key, digest, lane, batch, ordinal
)
select coalesce(string_agg(uuid_send(key) || uuid_send(digest) || int2send(lane) || int8send(batch) || int4send(ordinal),
  ''::bytea order by lane, batch, ordinal), ''::bytea) from gone

-- name: free_identities
-- Their identities may come again.
select ingest.free_identities(%(keys)s)

-- name: reverted_places
-- Where events with these keys stood until they were reverted, packed as places are.
select coalesce(string_agg(uuid_send(key) || uuid_send(digest) || int2send(lane) || int8send(batch) || int4send(ordinal),
  ''::bytea), ''::bytea) from ingest.reverted_event where key = any(%(keys)s)

-- name: reverted_ordinals
-- The events of one batch that were reverted, 4 bytes each.
select coalesce(string_agg(int4send(ordinal), ''::bytea), ''::bytea) from ingest.reverted_event
where lane = %(lane)s and batch = %(batch)s

-- name: reverted_in
-- The batch of lane 0 that reverted the event at a place.
select reverted_batch from ingest.reverted_event where lane = %(lane)s and batch = %(batch)s and ordinal = %(ordinal)s

-- name: reverted_by_batch
-- What each batch of lane 0 reverted, in order of their places, as ``revert_events`` gave it.
select reverted_batch, string_agg(uuid_send(key) || uuid_send(digest) || int2send(lane) || int8send(batch) || int4send(ordinal),
  ''::bytea order by lane, batch, ordinal) from ingest.reverted_event group by reverted_batch order by reverted_batch

-- name: copy_out_reverted
-- Reverted events, as ``copy_out_identities`` gives the accepted ones.
copy (select string_agg(int2send(lane) || int8send(batch) || int4send(ordinal) || uuid_send(key) || uuid_send(digest)
    || int4send(namespace_key), ''::bytea) from ingest.reverted_event group by lane, batch)
to stdout (format binary)

-- name: retracted_at
-- How many events accepted in some batches were retracted one by one.
select count(*) from ingest.retraction r join ingest.identity i using (key)
where (i.lane, i.batch) in (select * from unnest(%(lanes)s::smallint[], %(batches)s::bigint[]))
