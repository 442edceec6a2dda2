-- name: rates_current
-- What is known of some rates: of each day the newest batch's word.
select distinct on (r.source, r.base, r.quote, r.day) r.source, r.base, r.quote, r.day, r.rate, r.batch
from catalog.fx_rate r
join unnest(%(sources)s::text[], %(bases)s::text[], %(quotes)s::text[], %(days)s::date[]) as w(source, base, quote, day)
  using (source, base, quote, day)
where r.namespace_key = %(namespace_key)s
order by r.source, r.base, r.quote, r.day, r.batch desc

-- name: rates_at
-- The newest day's rate of every pair, up to a day; of a day that was corrected the newest batch's word.
select distinct on (source, base, quote) source, base, quote, day, rate, batch from catalog.fx_rate
where namespace_key = %(namespace_key)s and day <= coalesce(%(day)s::date, 'infinity')
  and (%(source)s::text is null or source = %(source)s)
order by source, base, quote, day desc, batch desc

-- name: rates_all
-- Every row, the newest day first, corrections before what they correct.
select source, base, quote, day, rate, batch from catalog.fx_rate
where namespace_key = %(namespace_key)s and (%(day)s::date is null or day = %(day)s)
  and (%(source)s::text is null or source = %(source)s)
order by day desc, source, base, quote, batch desc

-- name: rates_stored
-- Everything kept, of all namespaces.
select coalesce(n.namespace, ''), r.source, r.base, r.quote, r.day, r.rate, r.batch
from catalog.fx_rate r left join catalog.namespace n using (namespace_key)

-- name: add_rates
-- The rates of one load.
insert into catalog.fx_rate (namespace_key, source, base, quote, day, rate, batch)
select %(namespace_key)s, source, base, quote, day, rate, %(batch)s
from unnest(%(sources)s::text[], %(bases)s::text[], %(quotes)s::text[], %(days)s::date[], %(rates)s::numeric[])
  as w(source, base, quote, day, rate)
