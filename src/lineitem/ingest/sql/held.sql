-- name: add
-- Records of a batch that wait, and the partition they will be read from; nobody has read of it yet.
with made as (
  insert into ingest.partition (namespace_key, stream, content, pass, lane, format, settings)
  values (%(namespace_key)s, %(stream)s, %(content)s, 1, %(own_lane)s, %(format)s, %(settings)s) returning partition_key
)
insert into ingest.held (lane, batch, part, namespace_key, number, account, reason, records, ordinals, keys, held_us, partition_key)
select %(lane)s, %(batch)s, %(part)s, %(namespace_key)s, %(number)s, %(account)s, %(reason)s, %(records)s, %(ordinals)s, %(keys)s,
  %(held_us)s, partition_key from made

-- name: waiting
-- What waits, oldest first, numbers and accounts that may not go on left aside.
select h.partition_key, h.lane, h.batch, h.number, h.account, h.records, h.ordinals, p.next from ingest.partition p
join ingest.held h using (partition_key)
where p.stream = 'held' and p.completed_at is null and h.namespace_key = %(namespace_key)s
  and h.number <> all(%(numbers)s::int[]) and (h.account is null or h.account <> all(%(accounts)s::text[]))
  and h.partition_key <> all(%(partitions)s::int[])
order by h.held_us, h.lane, h.batch, h.part limit %(limit)s

-- name: sums
-- What waits, by number: how many records, since when, and of which code; all namespaces where none is named.
select h.namespace_key, h.number, h.reason, sum(h.records - p.next)::bigint, min(h.held_us), max(h.held_us)
from ingest.partition p join ingest.held h using (partition_key)
where p.stream = 'held' and p.completed_at is null
  and (%(namespace_key)s::int is null or h.namespace_key = %(namespace_key)s::int)
group by h.namespace_key, h.number, h.reason order by h.namespace_key, h.number, h.reason

-- name: stored
-- Everything that was ever held, with the partition it is read from.
select h.lane, h.batch, h.part, h.namespace_key, h.number, h.account, h.reason, h.records, h.ordinals, h.keys, h.held_us,
  h.partition_key, p.next, p.completed_at is not null
from ingest.held h left join ingest.partition p using (partition_key) order by h.lane, h.batch, h.part
