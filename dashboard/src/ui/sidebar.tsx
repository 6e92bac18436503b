// The way around: what is used every day, then every kind that the server has.
import { idOf, find, type Resource, resources } from '../lib/discovery';
import { here, listPath } from '../lib/state';
import { Icon } from './basics';

export const VIEWS: [string, string, string][] = [
  ['/', 'Overview', 'home'],
  ['/charts', 'Charts', 'chart'],
  ['/storage', 'Storage', 'storage'],
  ['/policies', 'Network policies', 'shield'],
  ['/access', 'Access', 'lock'],
];

type Entry = [plural: string, group: string, icon: string, text?: string];
const GROUPS: [string, Entry[]][] = [
  ['Workloads', [['pods', '', 'pod', 'Pods'], ['deployments', 'apps', 'deploy', 'Deployments'], ['statefulsets', 'apps', 'layers', 'StatefulSets'], ['daemonsets', 'apps', 'grid', 'DaemonSets'], ['jobs', 'batch', 'job', 'Jobs'], ['cronjobs', 'batch', 'clock', 'CronJobs'], ['horizontalpodautoscalers', 'autoscaling', 'scale', 'Autoscalers']]],
  ['Network', [['services', '', 'network', 'Services'], ['ingresses', 'networking.k8s.io', 'link', 'Ingresses'], ['endpointslices', 'discovery.k8s.io', 'network', 'EndpointSlices']]],
  ['Configuration', [['configmaps', '', 'config', 'ConfigMaps'], ['secrets', '', 'lock', 'Secrets'], ['persistentvolumeclaims', '', 'storage', 'Claims']]],
  ['Cluster', [['nodes', '', 'node', 'Nodes'], ['namespaces', '', 'folder', 'Namespaces'], ['events', '', 'bell', 'Events'], ['serviceaccounts', '', 'user', 'ServiceAccounts'], ['customresourcedefinitions', 'apiextensions.k8s.io', 'box', 'Definitions']]],
];
const BUILT_IN = /^(|apps|batch|autoscaling|policy|.*\.k8s\.io)$/;

export function Sidebar({ open, onNavigate }: { open: boolean; onNavigate: () => void }) {
  const { parts } = here.value;
  const at = parts[0] === 'r' || parts[0] === 'o' ? parts.slice(1, 4).join('/') : `/${parts.join('/')}`;
  const link = (path: string, id: string, text: string, icon: string) => (
    <a key={path} href={`#${path}`} aria-current={at === id ? 'page' : undefined} onClick={onNavigate}><Icon name={icon} /><span class="clip">{text}</span></a>
  );
  const kinds = resources.value.filter((each) => each.verbs.includes('list'));
  const custom = new Map<string, Resource[]>();
  for (const each of kinds) if (!BUILT_IN.test(each.group)) custom.set(each.group, [...(custom.get(each.group) ?? []), each]);
  const shown = new Set(GROUPS.flatMap(([, entries]) => entries.map(([plural, group]) => `${group}/${plural}`)));
  const rest = kinds.filter((each) => BUILT_IN.test(each.group) && !shown.has(`${each.group}/${each.plural}`)).sort((a, b) => (a.kind < b.kind ? -1 : 1));
  return (
    <aside class={`side ${open ? 'open' : ''}`}>
      <a class="brand" href="#/"><img src="/icon.svg" alt="" />Tiphys</a>
      <nav class="nav" aria-label="Main" tabIndex={-1}>
        {VIEWS.map(([path, text, icon]) => link(path, path, text, icon))}
        {GROUPS.map(([title, entries]) => (
          <div key={title}>
            <h2>{title}</h2>
            {entries.map(([plural, group, icon, text]) => {
              const resource = find(plural, group);
              return resource && link(listPath(idOf(resource)), idOf(resource), text ?? resource.kind, icon);
            })}
          </div>
        ))}
        {custom.size > 0 && <h2>Custom resources</h2>}
        {[...custom].sort(([a], [b]) => (a < b ? -1 : 1)).map(([group, list]) => <details key={group} open={at.startsWith(`${group}/`)}><summary title={group}>{group}</summary>{list.map((each) => link(listPath(idOf(each)), idOf(each), each.kind, 'box'))}</details>)}
        <h2>More</h2>
        <details open={rest.some((each) => idOf(each) === at)}><summary>All kinds ({rest.length})</summary>{rest.map((each) => link(listPath(idOf(each)), idOf(each), each.kind, 'box'))}</details>
      </nav>
    </aside>
  );
}
