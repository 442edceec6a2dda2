-- What is due without usage: minimums and fixed dues of a period that has ended and was billed or closed.
set local role lineitem_owner;

alter table ledger.accumulator
  add column settled bigint check (settled >= 0);   -- null: not yet; 0: for its usage; n: so many parts of it
                                                    -- its account was active (prorate's days or microseconds, else 1)

grant update (settled) on ledger.accumulator to lineitem_post;
