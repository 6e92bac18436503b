// Following a collection: list in pages, then watch; again from the start if the version is too old. Source: the API
// concepts' "efficient detection of changes".
import { signal, type Signal } from '@preact/signals';
import { useEffect, useMemo } from 'preact/hooks';
import { ApiError, get, type Obj, stream, url } from './api';
import { pathOf, type Resource } from './discovery';

const PAGE = 500;
const TABLE = 'application/json;as=Table;g=meta.k8s.io;v=v1,application/json';

type Query = Record<string, string | undefined>;

interface Sink {
  begin(): void;
  page(list: Obj): void;
  listed(): void;
  events(events: { type: string; object: Obj }[]): void;
  failed(error: ApiError | undefined): void;
}

export function follow(path: string, query: Query, accept: string, sink: Sink): () => void {
  let over = false;
  let stop: () => void = () => {};
  let timer = 0;
  let failures = 0;

  const later = (what: () => void, least = 0) => {
    const wait = Math.max(least, Math.min(500 * 2 ** failures++, 15000));
    timer = window.setTimeout(() => !over && what(), wait);
  };

  async function list() {
    sink.begin();
    try {
      let token: string | undefined;
      let version = '';
      do {
        const page = await get(path, { ...query, limit: String(PAGE), continue: token }, accept);
        if (over) return;
        sink.page(page);
        version = page.metadata?.resourceVersion ?? '';
        token = page.metadata?.continue;
      } while (token);
      sink.listed();
      watch(version);
    } catch (error) {
      if (over) return;
      sink.failed(error as ApiError);
      const code = (error as ApiError).code;
      if (code !== 401 && code !== 404 && code !== 405) later(list, code === 403 ? 30000 : 0);
    }
  }

  function watch(from: string) {
    let version = from;
    let rest = '';
    let relist = false;
    const asked = { ...query, watch: 'true', allowWatchBookmarks: 'true', resourceVersion: version };
    stop = stream(url(path, asked), accept, {
      open: () => {
        failures = 0;
        sink.failed(undefined);
      },
      text: (text) => {
        const lines = (rest + text).split('\n');
        rest = lines.pop() ?? '';
        const events = [];
        for (const line of lines) {
          if (!line) continue;
          const event = JSON.parse(line);
          if (event.type === 'ERROR') {
            relist = true;
            continue;
          }
          const at = event.object.metadata?.resourceVersion ?? event.object.rows?.[0]?.object?.metadata?.resourceVersion;
          if (at) version = at;
          if (event.type !== 'BOOKMARK') events.push(event);
        }
        if (events.length) sink.events(events);
      },
      end: (error) => {
        if (over || error?.code === 401) return;
        if (error && error.code !== 410) sink.failed(error);
        if (relist || error?.code === 410) later(list);
        else if (error) later(() => watch(version));
        else watch(version);
      },
    });
  }

  void list();
  return () => {
    over = true;
    clearTimeout(timer);
    stop();
  };
}

export interface Row {
  uid: string;
  name: string;
  namespace: string;
  created: string;
  deleted: boolean;
  labels: Record<string, string>;
  cells: unknown[];
  changed: number;
}

export interface Column {
  name: string;
  type: string;
  priority: number;
  description: string;
}

export interface Live {
  version: Signal<number>;
  error: Signal<ApiError | undefined>;
  loading: Signal<boolean>;
}

export interface LiveTable extends Live {
  rows: Map<string, Row>;
  columns: Column[];
}

export function useTable(resource: Resource | undefined, namespace: string): LiveTable {
  const path = resource ? pathOf(resource, namespace) : '';
  const table = useMemo<LiveTable>(
    () => ({ rows: new Map(), columns: [], version: signal(0), error: signal(undefined), loading: signal(true) }),
    [path],
  );
  useEffect(() => (path ? follow(path, {}, TABLE, tableSink(table)) : undefined), [path]);
  return table;
}

function tableSink(table: LiveTable): Sink {
  let frame = 0;
  let seen = new Set<string>();
  const show = () => {
    frame ||= requestAnimationFrame(() => ((frame = 0), table.version.value++));
  };
  const take = (list: Obj, changed: number) => {
    if (list.columnDefinitions?.length) table.columns = list.columnDefinitions;
    for (const { cells, object } of list.rows ?? []) {
      const { uid, name, namespace = '', creationTimestamp, deletionTimestamp, labels = {} } = object.metadata;
      const key = uid || `${namespace}/${name}`;
      seen.add(key);
      table.rows.set(key, { uid: key, name, namespace, created: creationTimestamp, deleted: !!deletionTimestamp, labels, cells, changed });
    }
  };
  return {
    begin: () => (seen = new Set()),
    page: (list) => {
      take(list, 0);
      table.loading.value = false;
      show();
    },
    listed: () => {
      for (const key of table.rows.keys()) if (!seen.has(key)) table.rows.delete(key);
      show();
    },
    events: (events) => {
      for (const { type, object } of events) {
        if (type !== 'DELETED') take(object, Date.now());
        else for (const row of object.rows ?? []) table.rows.delete(row.object.metadata.uid);
      }
      show();
    },
    failed: (error) => {
      table.error.value = error;
      if (error) table.loading.value = false;
    },
  };
}

export interface LiveList extends Live {
  items: Signal<Obj[]>;
}

// Whole objects, for what a view needs beside tables. Without a resource, nothing.
export function useObjects(resource: Resource | undefined, namespace = '', query: Query = {}): LiveList {
  const path = resource?.verbs.includes('list') ? pathOf(resource, namespace) : '';
  const id = `${path}?${JSON.stringify(query)}`;
  const list = useMemo<LiveList>(
    () => ({ items: signal<Obj[]>([]), version: signal(0), error: signal(undefined), loading: signal(!!path) }),
    [id],
  );
  useEffect(() => (path ? follow(path, query, 'application/json', listSink(list)) : undefined), [id]);
  return list;
}

function listSink(list: LiveList): Sink {
  const items = new Map<string, Obj>();
  let fresh = new Map<string, Obj>();
  let frame = 0;
  const show = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      list.items.value = [...items.values()];
      list.version.value++;
    });
  };
  const slim = (obj: Obj) => {
    if (obj.metadata) delete obj.metadata.managedFields;
    return obj;
  };
  return {
    begin: () => (fresh = new Map()),
    page: (page) => {
      const kind = page.kind?.replace(/List$/, '');
      for (const obj of page.items ?? [])
        fresh.set(obj.metadata.uid ?? obj.metadata.name, slim({ apiVersion: page.apiVersion, kind, ...obj }));
    },
    listed: () => {
      items.clear();
      for (const [key, obj] of fresh) items.set(key, obj);
      list.items.value = [...items.values()];
      list.loading.value = false;
    },
    events: (events) => {
      for (const { type, object } of events) {
        if (type === 'DELETED') items.delete(object.metadata.uid ?? object.metadata.name);
        else items.set(object.metadata.uid ?? object.metadata.name, slim(object));
      }
      show();
    },
    failed: (error) => {
      list.error.value = error;
      if (error) list.loading.value = false;
    },
  };
}

export function useObject(resource: Resource | undefined, namespace: string, name: string) {
  const list = useObjects(name ? resource : undefined, namespace, { fieldSelector: `metadata.name=${name}` });
  return { object: list.items.value[0] as Obj | undefined, loading: list.loading.value, error: list.error.value };
}

// Read now and then, for what cannot be watched (metrics).
export function usePolled<T>(read: (() => Promise<T>) | undefined, seconds: number, id: string) {
  const state = useMemo(() => ({ value: signal<T | undefined>(undefined), error: signal<ApiError | undefined>(undefined) }), [id]);
  useEffect(() => {
    if (!read) return;
    let over = false;
    let timer = 0;
    const tick = async () => {
      try {
        const value = await read();
        if (!over) ((state.value.value = value), (state.error.value = undefined));
      } catch (error) {
        if (!over) state.error.value = error as ApiError;
      }
      if (!over) timer = window.setTimeout(tick, seconds * 1000);
    };
    void tick();
    return () => ((over = true), clearTimeout(timer));
  }, [id]);
  return state;
}
