-- name: tag_sums
-- What the line items of a posting month, or all of them, come to by tag set, currency and the era their event time lies in.
select t.tags, s.currency, s.era, s.line_items, s.amount_nano
from (
  select l.tag_set_key, p.currency, width_bucket(l.event_time, %(changes)s::timestamptz[]) as era, count(*) as line_items,
    sum(coalesce(l.amount_wide, l.amount_nano)) as amount_nano
  from ledger.line_item l
  join catalog.price_version v using (price_version_key)
  join catalog.price p on p.price_key = v.price_key
  where l.namespace_key = %(namespace_key)s and l.kind <> 7  -- prepaid credit: who has paid already is no matter of tags
    and (%(posting_month)s::int is null or l.posting_month = %(posting_month)s::int)
  group by 1, 2, 3
) s
join catalog.tag_set t using (tag_set_key)
order by s.currency, t.tags, s.era
