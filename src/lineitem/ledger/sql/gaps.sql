-- name: acts
-- What was said of gaps, in order.
select f.kind, f.body, b.batch, b.recorded_us from ledger.fact f join ledger.batch b using (lane, batch)
where f.lane = 0 and f.namespace_key = %(namespace_key)s and f.kind in ('gap_waive', 'gap_reopen') order by f.batch, f.seq
