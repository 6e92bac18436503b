// A table of any length: only the rows in sight exist as elements.
import { type Signal, useComputed, useSignal } from '@preact/signals';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import type { LiveTable, Row } from '../lib/live';
import { quantity } from '../lib/amounts';
import { age, now, tone } from '../lib/util';
import { Icon } from './basics';

const ROW = 34;
const SPARE = 8;

interface Props {
  table: LiveTable;
  filter: Signal<string>;
  wide: boolean;
  showNamespace: boolean;
  href: (row: Row) => string;
  onKey?: (key: string, rows: Row[]) => boolean;
  selected: Signal<Set<string>>;
  label: string;
  shown: Signal<number>;
}

const text = (cell: unknown) => (cell === null || cell === undefined ? '' : typeof cell === 'object' ? JSON.stringify(cell) : String(cell));

// Words of the filter must all be in the row; "app=web" and "!app" are about labels.
function passes(row: Row, words: string[]): boolean {
  for (const word of words) {
    const label = /^([\w./-]+)(!?=)([\w.-]*)$/.exec(word);
    if (label) {
      if ((row.labels[label[1]] === label[3]) !== (label[2] === '=')) return false;
    } else if (!row.name.includes(word) && !row.namespace.includes(word) && !row.cells.some((cell) => text(cell).toLowerCase().includes(word))) return false;
  }
  return true;
}

const order = (cell: unknown): number | string => {
  if (typeof cell === 'number') return cell;
  const words = text(cell);
  const ready = /^(\d+)\/(\d+)$/.exec(words);
  if (ready) return Number(ready[1]) / Math.max(1, Number(ready[2]));
  return /^\d+[A-Za-z]{0,2}$/.test(words) ? quantity(words) : words;
};

export function Grid({ table, filter, wide, showNamespace, href, onKey, selected, label, shown }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const sort = useSignal<[number, boolean]>([-1, false]);
  const top = useSignal(0);
  const height = useSignal(600);
  const focus = useSignal(-1);
  void table.version.value;
  const columns = table.columns.map((column, at) => ({ ...column, at })).filter((c) => (wide || c.priority === 0) && c.at > 0 && c.name !== 'Namespace');

  const rows = useComputed(() => {
    void table.version.value;
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let all = [...table.rows.values()];
    if (words.length) all = all.filter((row) => passes(row, words));
    const [at, back] = sort.value;
    const keyOf = (row: Row): number | string => {
      if (at === -1) return row.name;
      if (at === -2) return row.namespace;
      return table.columns[at]?.name === 'Age' ? -Date.parse(row.created) : order(row.cells[at]);
    };
    const keyed = all.map((row) => [keyOf(row), row] as const);
    keyed.sort(([a, x], [b, y]) => {
      const first = typeof a === 'number' && typeof b === 'number' ? a - b : String(a) < String(b) ? -1 : String(a) > String(b) ? 1 : 0;
      return (back ? -first : first) || (x.namespace < y.namespace ? -1 : x.namespace > y.namespace ? 1 : x.name < y.name ? -1 : 1);
    });
    return keyed.map(([, row]) => row);
  });
  const all = rows.value;
  shown.value = all.length;

  useLayoutEffect(() => {
    const element = box.current!;
    const observer = new ResizeObserver(() => (height.value = element.clientHeight));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const sample = all.slice(0, 150);
  const width = (name: string, at: number) => {
    const longest = Math.max(name.length + 3, ...sample.map((row) => (at === -1 ? row.name.length : at === -2 ? row.namespace.length : text(row.cells[at]).length + (tone(text(row.cells[at])) ? 5 : 0))));
    return Math.min(Math.max(longest, 5), at === -1 ? 60 : 44) * 7.6 + 24;
  };
  const named = [...(showNamespace ? [{ name: 'Namespace', at: -2 }] : []), { name: 'Name', at: -1 }, ...columns];
  const template = `36px ${named.map(({ name, at }) => `minmax(${width(name, at)}px, ${width(name, at)}fr)`).join(' ')}`;

  const first = Math.max(0, Math.floor(top.value / ROW) - SPARE);
  const last = Math.min(all.length, Math.ceil((top.value + height.value) / ROW) + SPARE);

  const focusRow = (index: number) => {
    const at = Math.min(Math.max(index, 0), all.length - 1);
    if (at < 0) return;
    focus.value = at;
    const element = box.current!;
    const y = at * ROW;
    if (y < element.scrollTop) element.scrollTop = y;
    else if (y + ROW > element.scrollTop + element.clientHeight - 40) element.scrollTop = y + ROW - element.clientHeight + 40;
    requestAnimationFrame(() => element.querySelector<HTMLElement>(`[aria-rowindex="${at + 2}"]`)?.focus());
  };
  const toggle = (row: Row) => {
    const next = new Set(selected.value);
    if (!next.delete(row.uid)) next.add(row.uid);
    selected.value = next;
  };
  const keys = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(height.value / ROW) - 1);
    const row = all[focus.value];
    const moves: Record<string, number> = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 };
    if (event.key in moves) focusRow((focus.value < 0 ? -1 : focus.value) + moves[event.key]);
    else if (event.key === 'Enter' && row) location.hash = href(row);
    else if (event.key === ' ' && row) toggle(row);
    else {
      const picked = all.filter((each) => selected.value.has(each.uid));
      if (!onKey?.(event.key, picked.length ? picked : row ? [row] : [])) return;
    }
    event.preventDefault();
  };
  useEffect(() => {
    if (focus.value >= all.length) focus.value = all.length - 1;
  }, [all.length]);

  const everySelected = all.length > 0 && all.every((row) => selected.value.has(row.uid));
  const at = now.value;
  return (
    <div ref={box} class="vt" role="grid" aria-label={label} aria-rowcount={all.length + 1} aria-multiselectable="true" tabIndex={focus.value < 0 ? 0 : -1} onKeyDown={keys} onScroll={(event) => (top.value = event.currentTarget.scrollTop)}>
      <div class="vt-head" role="row" aria-rowindex={1} style={{ gridTemplateColumns: template }}>
        <div role="columnheader"><input type="checkbox" aria-label="Select all" checked={everySelected} onChange={() => (selected.value = everySelected ? new Set() : new Set(all.map((row) => row.uid)))} /></div>
        {named.map((column) => {
          const active = sort.value[0] === column.at;
          return (
            <div key={column.at} role="columnheader" aria-sort={active ? (sort.value[1] ? 'descending' : 'ascending') : 'none'}>
              <button type="button" title={'description' in column ? (column.description as string) : column.name} onClick={() => (sort.value = [column.at, active && !sort.value[1]])}>
                <span class="clip">{column.name}</span>{active && <Icon name={sort.value[1] ? 'down' : 'up'} />}
              </button>
            </div>
          );
        })}
      </div>
      <div class="vt-body" role="rowgroup" style={{ height: `${all.length * ROW}px` }}>
        {all.slice(first, last).map((row, i) => {
          const index = first + i;
          const fresh = row.changed && at - row.changed < 7000 && Date.now() - row.changed < 1700;
          return (
            <div key={row.uid} role="row" aria-rowindex={index + 2} aria-selected={selected.value.has(row.uid)} class={`vt-row${row.deleted ? ' gone' : ''}${fresh ? ' fresh' : ''}`} style={{ top: `${index * ROW}px`, gridTemplateColumns: template }} tabIndex={index === focus.value ? 0 : -1} onFocus={() => (focus.value = index)} onClick={(event) => !(event.target as Element).closest('a, input') && (location.hash = href(row))}>
              <div role="gridcell"><input type="checkbox" tabIndex={-1} aria-label={`Select ${row.name}`} checked={selected.value.has(row.uid)} onChange={() => toggle(row)} /></div>
              {named.map((column) => <Cell key={column.at} row={row} at={column.at} name={column.name} href={href} />)}
            </div>
          );
        })}
      </div>
    </div>
  );
}

function Cell({ row, at, name, href }: { row: Row; at: number; name: string; href: (row: Row) => string }) {
  if (at === -1) return <div role="gridcell" title={row.name}><a class="name" tabIndex={-1} href={`#${href(row)}`}>{row.name}</a></div>;
  if (at === -2) return <div role="gridcell" class="dim">{row.namespace}</div>;
  if (name === 'Age' && row.created) return <div role="gridcell" class="dim" title={new Date(row.created).toLocaleString()}>{age(row.created)}</div>;
  const words = text(row.cells[at]);
  const mood = /status|phase|state|condition|ready$|available|type|reason/i.test(name) && !/^\d/.test(words) ? tone(words) : '';
  if (mood) return <div role="gridcell" title={words}><span class={`status ${mood}`}>{words}</span></div>;
  return <div role="gridcell" class={words === '<none>' ? 'dim' : ''} title={words}>{words === '<none>' ? '–' : words}</div>;
}
