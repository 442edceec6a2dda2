-- Nobody drops or detaches a piece of the ledger by accident. Needs a superuser to create; elsewhere `lineitem doctor` says
-- that it is missing. Evidence against a superuser is the chain and its signed checkpoints.
do $guard$
begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    raise notice 'no superuser: the event trigger against DROP and DETACH is not created';
    return;
  end if;

  -- In a schema of their own: `drop schema ledger cascade` would drop its own guard first.
  create schema guard;

  create function guard.refuse_drop() returns event_trigger language plpgsql as $$
  declare gone record;
  begin
    if current_setting('lineitem.sealed_path', true) = 'archive' then
      return;
    end if;
    for gone in select * from pg_event_trigger_dropped_objects() loop
      -- A trigger has no schema of its own; its identity is `name on schema.table`.
      if gone.object_type in ('table', 'trigger', 'schema') and not gone.is_temporary
         and (gone.schema_name in ('ledger', 'ingest', 'billing', 'catalog')
              or gone.object_identity ~ '(^| on )(ledger|ingest|billing|catalog)($|\.)') then
        raise exception 'dropping % % is refused: it is part of the ledger', gone.object_type, gone.object_identity
          using errcode = 'insufficient_privilege';
      end if;
    end loop;
  end $$;

  create function guard.refuse_detach() returns event_trigger language plpgsql as $$
  begin
    if current_setting('lineitem.sealed_path', true) = 'archive' then
      return;
    end if;
    if upper(current_query()) ~ '\mDETACH\M' and current_query() ~* 'line_item' then
      raise exception 'detaching a partition of the ledger is refused' using errcode = 'insufficient_privilege';
    end if;
  end $$;

  create event trigger lineitem_refuse_drop on sql_drop execute function guard.refuse_drop();
  create event trigger lineitem_refuse_detach on ddl_command_end when tag in ('ALTER TABLE')
    execute function guard.refuse_detach();
  alter event trigger lineitem_refuse_drop enable always;
  alter event trigger lineitem_refuse_detach enable always;
end $guard$;

insert into ledger.lane (lane, batch, hash)
select lane, 0, decode(repeat('00', 32), 'hex') from generate_series(0, 4) as lane;
