-- name: usage_months
-- Service months with usage, in order.
select distinct a.service_month from ledger.accumulator a join catalog.namespace n using (namespace_key)
where n.namespace = %(namespace)s and a.events > 0 order by 1

-- name: records_between
-- Records of the batches with an event in an interval: how much there is to decode.
select coalesce(sum(b.received), 0)::bigint from ledger.batch b join catalog.namespace n using (namespace_key)
where n.namespace = %(namespace)s and b.segment <> ''
  and b.event_time_max >= %(since_us)s and b.event_time_min < %(until_us)s
