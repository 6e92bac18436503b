// A node: how full it is, its pods, and taking it out of use.
import { useSignal } from '@preact/signals';
import { ApiError, get, type Obj, patch, post } from '../lib/api';
import { find, idOf, pathOf, type Resource } from '../lib/discovery';
import { useObjects, usePolled } from '../lib/live';
import { isOver, requestsOf } from '../lib/pending';
import { attempt, detailPath, say } from '../lib/state';
import { amount, quantity } from '../lib/amounts';
import { plural } from '../lib/util';
import { Bar, Button, Card, Chips, Dialog, Facts, Failure, StatusPill } from '../ui/basics';
import { podStatus } from './owners';

export function Capacity({ node, pods, usage }: { node: Obj; pods: Obj[]; usage?: Obj }) {
  const there = pods.filter((pod) => !isOver(pod));
  const sum = (name: string) => there.reduce((total, pod) => total + (requestsOf(pod)[name] ?? 0), 0);
  const total = (name: string) => quantity(node.status?.allocatable?.[name]);
  return (
    <div class="col" style={{ gap: '9px' }}>
      {['cpu', 'memory'].map((name) => {
        const used = usage && quantity(usage[name]);
        const text = `${used === undefined ? '' : `${amount(name, used)} used, `}${amount(name, sum(name))} requested of ${amount(name, total(name))}`;
        return <Bar scarce key={name} label={name === 'cpu' ? 'CPU' : 'Memory'} used={used} reserved={sum(name)} total={total(name)} text={text} />;
      })}
      <Bar scarce label="Pods" used={there.length} total={total('pods')} text={`${there.length} of ${total('pods')}`} />
    </div>
  );
}

export const nodeState = (node: Obj): string => {
  const ready = (node.status?.conditions ?? []).find((each: Obj) => each.type === 'Ready')?.status === 'True';
  return `${ready ? 'Ready' : 'NotReady'}${node.spec?.unschedulable ? ', SchedulingDisabled' : ''}`;
};

export function NodeOverview({ node }: { node: Obj }) {
  const pods = useObjects(find('pods'), '', { fieldSelector: `spec.nodeName=${node.metadata.name}` });
  const metrics = find('nodes', 'metrics.k8s.io');
  const usage = usePolled(metrics && (() => get(pathOf(metrics, '', node.metadata.name))), 10, `node ${node.metadata.name}${!!metrics}`);
  const podsResource = find('pods')!;
  const info = node.status?.nodeInfo ?? {};
  const sorted = [...pods.items.value].sort((a, b) => (a.metadata.namespace + a.metadata.name < b.metadata.namespace + b.metadata.name ? -1 : 1));
  return (
    <>
      <Card title="Capacity" extra={<span class="legend"><span><i class="swatch" />used</span><span><i class="swatch second" />requested</span></span>}>
        <Failure error={pods.error.value} /><Capacity node={node} pods={pods.items.value} usage={usage.value.value?.usage} />
      </Card>
      <Card title="Machine">
        <Facts of={[
          ['Addresses', (node.status?.addresses ?? []).map((each: Obj) => `${each.address} (${each.type})`).join(', ')],
          ['Kubelet', info.kubeletVersion], ['Runtime', info.containerRuntimeVersion], ['System', `${info.osImage ?? ''}, ${info.kernelVersion ?? ''}, ${info.architecture ?? ''}`],
          ['Pod addresses', (node.spec?.podCIDRs ?? []).join(', ')], ['Provider', node.spec?.providerID],
          ['Taints', node.spec?.taints?.length && <Chips of={Object.fromEntries(node.spec.taints.map((each: Obj) => [`${each.key}${each.value ? `=${each.value}` : ''}:${each.effect}`, '']))} />],
        ]} />
      </Card>
      <Card title={`Pods (${sorted.length})`} bare>
        <div class="scroll" tabIndex={0} role="group" aria-label="Pods of the node" style={{ maxHeight: '440px' }}>
          <table class="plain">
            <thead><tr><th>Namespace</th><th>Name</th><th>Status</th><th class="right">CPU</th><th class="right">Memory</th></tr></thead>
            <tbody>{sorted.map((pod) => {
              const asked = requestsOf(pod);
              return <tr key={pod.metadata.uid}><td class="dim">{pod.metadata.namespace}</td><td><a href={`#${detailPath(idOf(podsResource), pod.metadata.namespace, pod.metadata.name)}`}>{pod.metadata.name}</a></td><td><StatusPill text={podStatus(pod)} /></td><td class="right mono">{amount('cpu', asked.cpu ?? 0)}</td><td class="right mono">{amount('memory', asked.memory ?? 0)}</td></tr>;
            })}</tbody>
          </table>
        </div>
      </Card>
    </>
  );
}

export const cordon = (resource: Resource, node: Obj, off: boolean) =>
  attempt(`${node.metadata.name} ${off ? 'takes no new pods' : 'takes pods again'}`, () => patch(pathOf(resource, '', node.metadata.name), { spec: { unschedulable: off || null } }));

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

export function Drain({ resource, node, onClose }: { resource: Resource; node: Obj; onClose: () => void }) {
  const rows = useSignal<Record<string, string>>({});
  const state = useSignal<'ask' | 'works' | 'over'>('ask');
  const data = useSignal(true);
  const over = useSignal(false);
  const close = () => ((over.value = true), onClose());

  async function evict(pod: Obj) {
    const { namespace, name, uid } = pod.metadata;
    const id = `${namespace}/${name}`;
    const set = (text: string) => (rows.value = { ...rows.value, [id]: text });
    const path = pathOf(find('pods')!, namespace, name);
    for (let tries = 0; !over.value; tries++) {
      try {
        await post(`${path}/eviction`, { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace }, deleteOptions: { preconditions: { uid } } });
        set('ending');
        break;
      } catch (error) {
        const { code, message } = error as ApiError;
        if (code === 404) return set('gone');
        if (code !== 429) return set(`failed: ${message}`);
        set(`waits: ${message}`);
        await pause(5000);
      }
    }
    for (let tries = 0; tries < 300 && !over.value; tries++) {
      const now = await get(path).catch((error: ApiError) => (error.code === 404 ? null : undefined));
      if (now === null || (now && now.metadata.uid !== uid)) return set('gone');
      await pause(1000);
    }
  }

  async function drain() {
    state.value = 'works';
    if (!(await cordon(resource, node, true))) return void (state.value = 'ask');
    try {
      const { items } = await get('/api/v1/pods', { fieldSelector: `spec.nodeName=${node.metadata.name}` });
      const leaving: Obj[] = [];
      for (const pod of items) {
        const id = `${pod.metadata.namespace}/${pod.metadata.name}`;
        const owner = (pod.metadata.ownerReferences ?? []).find((each: Obj) => each.controller);
        const scratch = (pod.spec.volumes ?? []).some((each: Obj) => each.emptyDir);
        let stays = '';
        if (owner?.kind === 'DaemonSet') stays = 'stays: of a DaemonSet';
        else if (pod.metadata.annotations?.['kubernetes.io/config.mirror']) stays = 'stays: a static pod';
        else if (scratch && !data.value && !isOver(pod)) stays = 'stays: has an emptyDir';
        rows.value = { ...rows.value, [id]: stays || 'to be evicted' };
        if (!stays) leaving.push(pod);
      }
      await Promise.all(leaving.map(evict));
      if (!over.value) say(`${node.metadata.name} is drained: ${plural(leaving.length, 'pod')} left`);
    } catch (error) {
      say((error as Error).message, 'bad');
    }
    state.value = 'over';
  }

  const buttons = state.value === 'ask' ? <><Button onClick={close}>Cancel</Button><Button kind="danger primary" icon="drain" onClick={drain}>Drain</Button></> : <Button onClick={close}>{state.value === 'works' ? 'Stop waiting' : 'Close'}</Button>;
  return (
    <Dialog title={`Drain ${node.metadata.name}`} onClose={close} footer={buttons}>
      {state.value === 'ask' ? (
        <>
          <p>The node takes no new pods, and its pods are evicted, as their disruption budgets allow. Pods of DaemonSets and static pods stay.</p>
          <label class="check"><input type="checkbox" checked={data.value} onChange={() => (data.value = !data.value)} />Also pods with an emptyDir, whose data is lost</label>
        </>
      ) : (
        <table class="plain" aria-live="polite"><tbody>{Object.entries(rows.value).map(([id, text]) => <tr key={id}><td class="mono">{id}</td><td>{text}</td></tr>)}</tbody></table>
      )}
    </Dialog>
  );
}
