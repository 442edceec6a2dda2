-- name: charges
-- Sums of charges of targets that are locked already.
select w.n - 1, coalesce(a.charge, 0), coalesce(a.posted_charge, 0)
from unnest(%(accounts)s::int[], %(starts)s::bigint[]) with ordinality as w(account_key, start_us, n)
join ledger.accumulator a on a.account_key = w.account_key and a.price_key = %(price_key)s
  and a.period_start = timestamptz 'epoch' + w.start_us * interval '1 microsecond'
order by w.n

-- name: update_charges
-- What the batch made of them.
update ledger.accumulator a set charge = w.charge, posted_charge = w.posted_charge
from unnest(%(accounts)s::int[], %(starts)s::bigint[], %(charges)s::numeric[], %(posted_charges)s::numeric[])
  as w(account_key, start_us, charge, posted_charge)
where a.account_key = w.account_key and a.price_key = %(price_key)s
  and a.period_start = timestamptz 'epoch' + w.start_us * interval '1 microsecond'

-- name: allowance_members
-- Who used up the allowance of these targets so far.
select w.n - 1, m.time_us, m.member, m.value
from unnest(%(accounts)s::int[], %(starts)s::bigint[]) with ordinality as w(account_key, start_us, n)
join ledger.allowance_member m on m.account_key = w.account_key and m.price_key = %(price_key)s
  and m.period_start = timestamptz 'epoch' + w.start_us * interval '1 microsecond'

-- name: add_allowance_members
-- Events that found the allowance open.
insert into ledger.allowance_member (account_key, price_key, period_start, member, namespace_key, time_us, value)
select w.account_key, %(price_key)s, timestamptz 'epoch' + w.start_us * interval '1 microsecond', w.member,
  %(namespace_key)s, w.time_us, w.value
from unnest(%(accounts)s::int[], %(starts)s::bigint[], %(members)s::uuid[], %(times)s::bigint[], %(values)s::numeric[])
  as w(account_key, start_us, member, time_us, value)

-- name: drop_allowance_members
-- Events that an earlier one has pushed out.
delete from ledger.allowance_member m
using unnest(%(accounts)s::int[], %(starts)s::bigint[], %(members)s::uuid[]) as w(account_key, start_us, member)
where m.account_key = w.account_key and m.price_key = %(price_key)s and m.member = w.member
  and m.period_start = timestamptz 'epoch' + w.start_us * interval '1 microsecond'
