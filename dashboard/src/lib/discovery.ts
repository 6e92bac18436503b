// What the server serves, from aggregated discovery: every kind, custom resources and aggregated APIs included.
import { signal } from '@preact/signals';
import { get } from './api';
import { enc } from './util';

export interface Resource {
  group: string;
  version: string;
  plural: string;
  kind: string;
  namespaced: boolean;
  verbs: string[];
  shortNames: string[];
  subresources: string[];
}

export const resources = signal<Resource[]>([]);

const V2 = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';

export async function discover() {
  const found = new Map<string, Resource>();
  for (const document of await Promise.all([get('/api', {}, V2), get('/apis', {}, V2)])) {
    for (const group of document.items ?? [])
      for (const version of group.versions ?? [])
        for (const each of version.resources ?? []) {
          const name = group.metadata?.name ?? '';
          const id = `${name}/${each.resource}`;
          if (found.has(id)) continue; // versions come best first
          found.set(id, {
            group: name,
            version: version.version,
            plural: each.resource,
            kind: each.responseKind?.kind || each.singularResource || each.resource,
            namespaced: each.scope === 'Namespaced',
            verbs: each.verbs ?? [],
            shortNames: each.shortNames ?? [],
            subresources: (each.subresources ?? []).map((sub: any) => sub.subresource),
          });
        }
  }
  resources.value = [...found.values()];
}

export const idOf = (r: Resource) => `${r.group || 'core'}/${r.version}/${r.plural}`;
export const apiVersion = (r: Resource) => (r.group ? `${r.group}/${r.version}` : r.version);

export function find(plural: string, group = ''): Resource | undefined {
  return resources.value.find((r) => r.plural === plural && r.group === group);
}

export function byId(id: string): Resource | undefined {
  const [group, , plural] = id.split('/');
  return find(plural, group === 'core' ? '' : group);
}

export function byKind(kind: string, version: string): Resource | undefined {
  const group = version?.includes('/') ? version.split('/')[0] : '';
  return resources.value.find((r) => r.kind === kind && r.group === group && !r.plural.includes('/'));
}

export function pathOf(r: Resource, namespace = '', name = '', sub = ''): string {
  const root = r.group ? `/apis/${r.group}/${r.version}` : `/api/${r.version}`;
  const place = r.namespaced && namespace ? `/namespaces/${enc(namespace)}` : '';
  return `${root}${place}/${r.plural}${name ? `/${enc(name)}` : ''}${sub ? `/${sub}` : ''}`;
}
