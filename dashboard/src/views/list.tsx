// All objects of one kind, live.
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { byId, idOf, type Resource } from '../lib/discovery';
import { type Row, useTable } from '../lib/live';
import { detailPath, go, here, namespace, setQuery, wide } from '../lib/state';
import { plural } from '../lib/util';
import { Button, Empty, Failure, Loading, Search } from '../ui/basics';
import { Delete, type Doomed, Write } from '../ui/changes';
import { Grid } from '../ui/grid';

const pluralOf = (kind: string) => (/(s|x|ch)$/.test(kind) ? `${kind}es` : /[^aeiou]y$/.test(kind) ? `${kind.slice(0, -1)}ies` : `${kind}s`);

export function List({ id }: { id: string }) {
  const resource = byId(id);
  if (!resource) return <div class="page"><Empty title="The server has no such kind">It may have been removed, with its CustomResourceDefinition.</Empty></div>;
  return <ListOf key={id} resource={resource} />;
}

function ListOf({ resource }: { resource: Resource }) {
  const place = resource.namespaced ? namespace.value : '';
  const table = useTable(resource, place);
  const filter = useSignal(here.value.query.get('q') ?? '');
  const selected = useSignal(new Set<string>());
  const doomed = useSignal<Doomed[]>([]);
  const creating = useSignal(false);
  const shown = useSignal(0);
  useEffect(() => filter.subscribe((text) => text !== (here.value.query.get('q') ?? '') && setQuery('q', text)), []);
  useEffect(() => void (selected.value = new Set()), [place]);
  void table.version.value;
  const doom = (rows: Row[]) => (doomed.value = rows.map((row) => ({ resource, namespace: row.namespace, name: row.name, uid: row.uid })));
  const href = (row: Row) => detailPath(idOf(resource), row.namespace, row.name);
  const can = (verb: string) => resource.verbs.includes(verb);
  const onKey = (key: string, rows: Row[]): boolean => {
    if (!rows.length) return false;
    const tabs: Record<string, string> = { l: 'logs', s: 'terminal', e: 'yaml' };
    if (key === 'd' && can('delete')) doom(rows);
    else if (key in tabs && (key === 'e' || resource.plural === 'pods')) go(`${href(rows[0])}?tab=${tabs[key]}`);
    else return false;
    return true;
  };
  const chosen = [...selected.value].map((uid) => table.rows.get(uid)).filter((row): row is Row => !!row);
  const total = table.rows.size;
  return (
    <div class="page full">
      <div class="head">
        <h1>{pluralOf(resource.kind)}</h1>
        <span class="dim" role="status">{shown.value === total ? total.toLocaleString() : `${shown.value.toLocaleString()} of ${total.toLocaleString()}`}{place && ` in ${place}`}</span>
        <span class="grow" />
        {chosen.length > 0 && can('delete') && <Button kind="danger" icon="trash" onClick={() => doom(chosen)}>Delete {plural(chosen.length, 'object')}</Button>}
        <Button aria-pressed={!!wide.value} onClick={() => (wide.value = wide.value ? '' : 'yes')}>All columns</Button>
        {can('create') && <Button kind="primary" icon="plus" onClick={() => (creating.value = true)}>Create</Button>}
      </div>
      <div class="row"><Search value={filter} label="Filter: words, app=web, app!=web" /></div>
      <Failure error={table.error.value} what="The list cannot be read" />
      {table.loading.value ? <Loading /> : total === 0 && !table.error.value ? (
        <div class="card"><Empty title={`No ${pluralOf(resource.kind)} here`}>{place ? `The namespace ${place} has none.` : 'The cluster has none.'} New ones appear by themselves.</Empty></div>
      ) : total > 0 ? (
        <Grid table={table} filter={filter} wide={!!wide.value} showNamespace={resource.namespaced && !place} href={href} onKey={onKey} selected={selected} label={`List of ${resource.kind}`} shown={shown} />
      ) : null}
      {doomed.value.length > 0 && <Delete objects={doomed.value} onClose={() => (doomed.value = [])} onDone={() => (selected.value = new Set())} />}
      {creating.value && <Write resource={resource} namespace={namespace.value} onClose={() => (creating.value = false)} />}
    </div>
  );
}
