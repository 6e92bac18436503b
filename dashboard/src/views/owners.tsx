// Who made an object, and what it made in turn: owner references upwards and downwards.
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { get, type Obj } from '../lib/api';
import { byKind, find, idOf, pathOf, type Resource } from '../lib/discovery';
import { detailPath } from '../lib/state';
import { Card, Loading, StatusPill } from '../ui/basics';

interface Node {
  kind: string;
  name: string;
  namespace: string;
  uid: string;
  id: string;
  status: string;
  children: Node[];
}

const PARTIAL = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json';
const OWNED: [string, string][] = [
  ['replicasets', 'apps'], ['pods', ''], ['jobs', 'batch'], ['controllerrevisions', 'apps'], ['statefulsets', 'apps'],
  ['deployments', 'apps'], ['daemonsets', 'apps'], ['endpointslices', 'discovery.k8s.io'], ['persistentvolumeclaims', ''],
  ['services', ''], ['configmaps', ''], ['secrets', ''],
];

const node = (resource: Resource, meta: Obj, status = ''): Node => ({
  kind: resource.kind, name: meta.name, namespace: meta.namespace ?? '', uid: meta.uid, id: idOf(resource), status, children: [],
});

export function podStatus(pod: Obj): string {
  if (pod.metadata.deletionTimestamp) return 'Terminating';
  const states = [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])];
  for (const { state } of states) if (state?.waiting?.reason && state.waiting.reason !== 'PodInitializing') return state.waiting.reason;
  for (const { state } of states) if (state?.terminated && state.terminated.exitCode !== 0) return state.terminated.reason ?? 'Error';
  return pod.status?.reason ?? pod.status?.phase ?? 'Unknown';
}

async function read(resource: Resource, object: Obj): Promise<Node[]> {
  const namespace = object.metadata.namespace ?? '';
  const self = node(resource, object.metadata);
  const top = await above(object.metadata, namespace, self);
  if (!namespace) return [top];
  const owned = new Map<string, Node[]>();
  await Promise.all(
    OWNED.map(async ([plural, group]) => {
      const each = find(plural, group);
      if (!each) return;
      const whole = plural === 'pods';
      const list = await get(pathOf(each, namespace), { limit: '2000' }, whole ? 'application/json' : PARTIAL).catch(() => ({ items: [] }));
      for (const item of list.items ?? [])
        for (const owner of item.metadata.ownerReferences ?? []) {
          if (!owned.has(owner.uid)) owned.set(owner.uid, []);
          owned.get(owner.uid)!.push(node(each, item.metadata, whole ? podStatus(item) : ''));
        }
    }),
  );
  const grow = (at: Node, depth: number) => {
    if (depth > 8) return;
    for (const child of owned.get(at.uid) ?? []) {
      if (at.children.some((each) => each.uid === child.uid)) continue;
      at.children.push(child);
      grow(child, depth + 1);
    }
    at.children.sort((a, b) => (a.kind + a.name < b.kind + b.name ? -1 : 1));
  };
  grow(self, 0);
  return [top];
}

async function above(meta: Obj, namespace: string, below: Node, depth = 0): Promise<Node> {
  const owner = (meta.ownerReferences ?? []).find((each: Obj) => each.controller) ?? meta.ownerReferences?.[0];
  const resource = owner && byKind(owner.kind, owner.apiVersion);
  if (!resource || depth > 6) return below;
  const found = await get(pathOf(resource, resource.namespaced ? namespace : '', owner.name)).catch(() => undefined);
  if (!found) return below;
  const parent = node(resource, found.metadata);
  parent.children.push(below);
  return above(found.metadata, namespace, parent, depth + 1);
}

export function Owners({ resource, object }: { resource: Resource; object: Obj }) {
  const tree = useSignal<Node[] | undefined>(undefined);
  useEffect(() => {
    let over = false;
    void read(resource, object).then((nodes) => !over && (tree.value = nodes));
    return () => void (over = true);
  }, [object.metadata.uid, object.metadata.generation, JSON.stringify(object.status?.replicas ?? object.status?.active ?? object.status?.phase ?? '')]);
  const nodes = tree.value;
  if (nodes && nodes.length === 1 && !nodes[0].children.length) return null;
  return <Card title="Owner tree">{nodes ? <ul class="tree">{nodes.map((each) => <Branch key={each.uid} node={each} self={object.metadata.uid} />)}</ul> : <Loading />}</Card>;
}

function Branch({ node, self }: { node: Node; self: string }) {
  const most = 60;
  return (
    <li>
      <div class={`node ${node.uid === self ? 'self' : ''}`}>
        <span class="dim">{node.kind}</span>
        <a class="clip" href={`#${detailPath(node.id, node.namespace, node.name)}`}>{node.name}</a>
        {node.status && <StatusPill text={node.status} />}
      </div>
      {node.children.length > 0 && <ul>{node.children.slice(0, most).map((each) => <Branch key={each.uid} node={each} self={self} />)}{node.children.length > most && <li class="dim">and {node.children.length - most} more</li>}</ul>}
    </li>
  );
}
