// The cluster at a glance: what is not well comes first.
import type { Obj } from '../lib/api';
import { get } from '../lib/api';
import { find, idOf, pathOf } from '../lib/discovery';
import { useObjects, usePolled } from '../lib/live';
import { detailPath, listPath, namespace } from '../lib/state';
import { plural } from '../lib/util';
import { Card, Empty, Failure, Loading, StatusPill } from '../ui/basics';
import { EventTable, lastSeen } from './events';
import { Capacity, nodeState } from './node';
import { podStatus } from './owners';

const wrong = (pod: Obj) => {
  const status = podStatus(pod);
  if (['Succeeded', 'Completed', 'Terminating'].includes(status)) return false;
  const ready = (pod.status?.conditions ?? []).find((each: Obj) => each.type === 'Ready')?.status === 'True';
  return !ready || status !== 'Running';
};

export function Overview() {
  const place = namespace.value;
  const nodes = useObjects(find('nodes'));
  const pods = useObjects(find('pods'), place);
  const deployments = useObjects(find('deployments', 'apps'), place);
  const events = useObjects(find('events'), place, { fieldSelector: 'type=Warning' });
  const metrics = find('nodes', 'metrics.k8s.io');
  const usage = usePolled(metrics && (() => get(pathOf(metrics))), 10, `nodes${!!metrics}`);
  const version = usePolled(() => get('/version'), 3600, 'version');
  const used = new Map((usage.value.value?.items ?? []).map((each: Obj) => [each.metadata.name, each.usage]));
  const bad = pods.items.value.filter(wrong);
  const behind = deployments.items.value.filter((each) => (each.status?.readyReplicas ?? 0) < (each.spec?.replicas ?? 1));
  const ready = nodes.items.value.filter((each) => nodeState(each).startsWith('Ready'));
  const podsResource = find('pods');
  const nodesResource = find('nodes');
  const warnings = [...events.items.value].sort((a, b) => (lastSeen(a) < lastSeen(b) ? 1 : -1));
  const tile = (text: string, number: number | string, path: string, sub: string) => <a class="tile" href={`#${path}`}><span>{text}</span><b>{number}</b><span>{sub}</span></a>;
  const denied = nodes.error.value ?? pods.error.value;
  return (
    <div class="page">
      <div class="head"><h1>{place ? `Namespace ${place}` : 'Cluster'}</h1>{version.value.value && <span class="dim">Kubernetes {version.value.value.gitVersion}</span>}</div>
      <div class="tiles">
        {nodesResource && !nodes.error.value && tile('Nodes', nodes.items.value.length, listPath(idOf(nodesResource)), `${ready.length} ready`)}
        {podsResource && !pods.error.value && tile('Pods', pods.items.value.length.toLocaleString(), listPath(idOf(podsResource)), bad.length ? `${bad.length} not ready` : 'all ready')}
        {!deployments.error.value && tile('Deployments', deployments.items.value.length, listPath('apps/v1/deployments'), behind.length ? `${behind.length} behind` : 'all available')}
        {!events.error.value && tile('Warnings', warnings.length, listPath('core/v1/events'), 'in the last hour')}
      </div>
      <Failure error={denied} what="Not everything can be shown" />
      {(bad.length > 0 || behind.length > 0) && (
        <Card title="Needs a look" bare>
          <div class="scroll" tabIndex={0} role="group" aria-label="Needs a look" style={{ maxHeight: '330px' }}>
            <table class="plain"><tbody>
              {behind.slice(0, 20).map((each) => <tr key={each.metadata.uid}><td class="dim">Deployment</td><td class="dim">{each.metadata.namespace}</td><td><a href={`#${detailPath('apps/v1/deployments', each.metadata.namespace, each.metadata.name)}`}>{each.metadata.name}</a></td><td>{each.status?.readyReplicas ?? 0} of {each.spec.replicas} ready</td></tr>)}
              {podsResource && bad.slice(0, 60).map((pod) => <tr key={pod.metadata.uid}><td class="dim">Pod</td><td class="dim">{pod.metadata.namespace}</td><td><a href={`#${detailPath(idOf(podsResource), pod.metadata.namespace, pod.metadata.name)}`}>{pod.metadata.name}</a></td><td><StatusPill text={podStatus(pod)} /></td></tr>)}
            </tbody></table>
          </div>
        </Card>
      )}
      {nodesResource && nodes.items.value.length > 0 && (
        <div class="grid">
          {nodes.items.value.slice(0, 24).map((node) => (
            <Card key={node.metadata.uid} title={<a href={`#${detailPath(idOf(nodesResource), '', node.metadata.name)}`}>{node.metadata.name}</a>} extra={<StatusPill text={nodeState(node)} />}>
              {place ? <p class="dim">Choose all namespaces to see how full it is.</p> : <Capacity node={node} pods={pods.items.value.filter((pod) => pod.spec.nodeName === node.metadata.name)} usage={used.get(node.metadata.name) as Obj} />}
            </Card>
          ))}
        </div>
      )}
      {nodes.loading.value && <Loading />}
      {!events.error.value && <Card title="Recent warnings" bare>{warnings.length ? <EventTable events={warnings.slice(0, 50)} /> : <Empty title="No warnings">{plural(nodes.items.value.length, 'node')} and nothing to report.</Empty>}</Card>}
    </div>
  );
}
