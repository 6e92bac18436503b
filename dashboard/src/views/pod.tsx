// A pod: its containers, the way to Ready with each component's part, why it waits, what it uses.
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { get, type Obj } from '../lib/api';
import { find, idOf, pathOf } from '../lib/discovery';
import { useObjects, usePolled } from '../lib/live';
import { explain } from '../lib/pending';
import { detailPath } from '../lib/state';
import { bytes, cores, quantity } from '../lib/amounts';
import { age, duration, plural } from '../lib/util';
import { Card, Copy, Empty, Facts, Failure, StatusPill } from '../ui/basics';
import { Chart } from '../ui/chart';
import { useEvents } from './events';

const at = (time?: string) => (time ? Date.parse(time) : NaN);

function stateText(status: Obj | undefined): string {
  const { running, waiting, terminated } = status?.state ?? {};
  if (running) return status?.ready ? 'Ready' : 'Running';
  if (waiting) return waiting.reason ?? 'Waiting';
  return terminated ? (terminated.reason ?? (terminated.exitCode ? 'Error' : 'Completed')) : 'Waiting';
}

export function Containers({ pod }: { pod: Obj }) {
  const statuses = new Map([...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? []), ...(pod.status?.ephemeralContainerStatuses ?? [])].map((each: Obj) => [each.name, each]));
  const all = [...(pod.spec.initContainers ?? []).map((each: Obj) => [each, each.restartPolicy === 'Always' ? 'sidecar' : 'init']), ...pod.spec.containers.map((each: Obj) => [each, '']), ...(pod.spec.ephemeralContainers ?? []).map((each: Obj) => [each, 'ephemeral'])];
  return (
    <Card title="Containers" bare>
      <div class="scroll">
        <table class="plain">
          <thead><tr><th>Name</th><th>State</th><th>Image</th><th>Restarts</th><th>Requests / limits</th><th>Ports</th></tr></thead>
          <tbody>
            {all.map(([each, role]) => {
              const status: Obj = statuses.get(each.name);
              const last = status?.lastState?.terminated;
              const resources = ['cpu', 'memory'].map((name) => [name, each.resources?.requests?.[name], each.resources?.limits?.[name]]).filter(([, a, b]) => a || b);
              return (
                <tr key={each.name}>
                  <td><b>{each.name}</b>{role && <div class="dim">{role}</div>}</td>
                  <td><StatusPill text={stateText(status)} />{status?.state?.waiting?.message && <div class="dim">{status.state.waiting.message}</div>}</td>
                  <td class="mono">{each.image}</td>
                  <td>{status?.restartCount ?? 0}{last && <div class="dim">{last.reason ?? 'ended'}, code {last.exitCode}, {age(last.finishedAt)} ago</div>}</td>
                  <td class="mono">{resources.length ? resources.map(([name, a, b]) => <div key={name}>{name} {a ?? '–'} / {b ?? '–'}</div>) : <span class="dim">none</span>}</td>
                  <td class="mono">{(each.ports ?? []).map((port: Obj) => `${port.containerPort}/${port.protocol ?? 'TCP'}`).join(', ')}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </Card>
  );
}

interface Step {
  name: string;
  by: string;
  from: number;
  to: number;
}

// The steps from created to Ready, as the conditions and events say; times have whole seconds unless an event is finer.
export function stepsOf(pod: Obj, events: Obj[]): Step[] {
  const condition = (type: string) => {
    const each = (pod.status?.conditions ?? []).find((c: Obj) => c.type === type && c.status === 'True');
    return each ? at(each.lastTransitionTime) : NaN;
  };
  const created = at(pod.metadata.creationTimestamp);
  const event = (reason: string, container?: string) => events.filter((each) => each.reason === reason && (!container || each.involvedObject?.fieldPath?.includes(`{${container}}`))).map((each) => at(each.eventTime ?? each.firstTimestamp)).filter((t) => !isNaN(t)).sort()[0];
  const steps: Step[] = [];
  const push = (name: string, by: string, from: number, to: number) => {
    if (!isNaN(from) && !isNaN(to)) steps.push({ name, by, from: Math.min(from, to), to });
  };
  const scheduled = condition('PodScheduled');
  push('finds a node', 'scheduler', created, scheduled);
  const network = condition('PodReadyToStartContainers');
  push('sandbox, volumes, network', 'kubelet', scheduled, network);
  const statuses = new Map([...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])].map((each: Obj) => [each.name, each]));
  for (const each of [...(pod.spec.initContainers ?? []), ...pod.spec.containers]) {
    const status: Obj = statuses.get(each.name);
    const pulling = event('Pulling', each.name);
    const pulled = event('Pulled', each.name);
    if (pulling && pulled) push(`pulls ${each.image.split('/').pop()}`, 'runtime', pulling, pulled);
    const started = at(status?.state?.running?.startedAt ?? status?.state?.terminated?.startedAt);
    const from = pulled ?? (isNaN(network) ? scheduled : network);
    push(`starts ${each.name}`, 'runtime', from, started);
    const finished = at(status?.state?.terminated?.finishedAt);
    if (finished) push(`runs ${each.name}`, 'app', started, finished);
  }
  const starts = steps.filter((step) => step.name.startsWith('starts ')).map((step) => step.to);
  const ready = condition('Ready');
  if (starts.length) push('becomes ready', 'app', Math.max(...starts), ready);
  return steps;
}

export function Timeline({ pod, events }: { pod: Obj; events: Obj[] }) {
  const steps = stepsOf(pod, events);
  if (!steps.length) return null;
  const begin = at(pod.metadata.creationTimestamp);
  const end = Math.max(...steps.map((step) => step.to), begin + 1000);
  const share = (t: number) => `${((100 * Math.max(0, t - begin)) / (end - begin)).toFixed(2)}%`;
  return (
    <Card title="From created to ready" extra={<span class="dim">{duration(end - begin)}</span>}>
      <div class="timeline" role="list">
        {steps.map((step, i) => (
          <div class="step" role="listitem" key={i} aria-label={`${step.name}, by ${step.by}, ${duration(step.to - step.from)}`}>
            <span class="clip" title={step.name}>{step.name}</span>
            <div class="track"><i class={step.by} style={{ left: share(step.from), width: `calc(${share(begin + step.to - step.from)})` }} /></div>
            <span class="mono right">{step.to - step.from < 1000 ? '< 1 s' : duration(step.to - step.from)}</span>
          </div>
        ))}
      </div>
      <div class="legend" style={{ marginTop: '12px' }}>{[['scheduler', 'scheduler'], ['kubelet', 'kubelet'], ['runtime', 'runtime and images'], ['app', 'the containers themselves']].map(([id, text]) => <span key={id}><i class={`swatch ${id}`} />{text}</span>)}</div>
    </Card>
  );
}

export function Pending({ pod, events }: { pod: Obj; events: Obj[] }) {
  const nodes = useObjects(find('nodes'));
  const pods = useObjects(find('pods'), '', { fieldSelector: 'spec.nodeName!=' });
  const claims = useObjects(find('persistentvolumeclaims'), pod.metadata.namespace);
  const unscheduled = (pod.status?.conditions ?? []).find((each: Obj) => each.type === 'PodScheduled' && each.status === 'False');
  const gates = pod.spec.schedulingGates ?? [];
  const said = unscheduled?.message || events.find((each) => each.reason === 'FailedScheduling')?.message;
  const used = (pod.spec.volumes ?? []).map((volume: Obj) => volume.persistentVolumeClaim?.claimName).filter(Boolean);
  const unbound = used.filter((name: string) => !claims.loading.value && claims.items.value.find((each) => each.metadata.name === name)?.status?.phase !== 'Bound');
  const answers = explain(pod, nodes.items.value, pods.items.value);
  const fits = answers.filter((each) => !each.reasons.length);
  return (
    <Card title="Why it is pending, and what would let it run">
      <div class="col">
        {said && <div class="note wait"><b>The scheduler says:</b> {said}</div>}
        {gates.length > 0 && <div class="note info">Scheduling gates hold it: {gates.map((each: Obj) => each.name).join(', ')}. It is looked at once they are taken off.</div>}
        {unbound.map((name: string) => <div class="note wait" key={name}>The claim <b>{name}</b> has no volume yet: create it, or give it a StorageClass that makes one.</div>)}
        <Failure error={nodes.error.value ?? pods.error.value} what="Not all of the answer can be shown" />
        {fits.length > 0 && !nodes.error.value && !pods.error.value && <div class="note info">By labels, taints and free resources it would fit on {fits.map((each) => each.node).join(', ')}; what holds it is something else, such as spread, affinity to pods, or its volumes.</div>}
        <div class="scroll">
          <table class="plain">
            <thead><tr><th>Node</th><th>What is in the way</th><th>What would help</th></tr></thead>
            <tbody>{answers.slice(0, 100).map((each) => <tr key={each.node}><td><b>{each.node}</b></td><td>{each.reasons.length ? each.reasons.map(({ text }) => <div key={text}>{text}</div>) : <span class="tone-good">nothing found</span>}</td><td>{each.reasons.map(({ remedy }) => <div key={remedy}>{remedy}</div>)}</td></tr>)}</tbody>
          </table>
        </div>
      </div>
    </Card>
  );
}

export function PodOverview({ pod }: { pod: Obj }) {
  const { events } = useEvents(pod);
  const node = find('nodes');
  const pending = pod.status?.phase === 'Pending' && !pod.spec.nodeName;
  return (
    <>
      {pending && <Pending pod={pod} events={events} />}
      <Card title="Placement">
        <Facts of={[
          ['Node', pod.spec.nodeName && node && <a href={`#${detailPath(idOf(node), '', pod.spec.nodeName)}`}>{pod.spec.nodeName}</a>],
          ['Addresses', (pod.status?.podIPs ?? []).map((each: Obj) => each.ip).join(', ')],
          ['Service account', pod.spec.serviceAccountName], ['Quality of service', pod.status?.qosClass],
          ['Priority', pod.spec.priorityClassName && `${pod.spec.priorityClassName} (${pod.spec.priority})`],
          ['Restart policy', pod.spec.restartPolicy],
          ['Forward a port', pod.spec.containers.some((each: Obj) => each.ports?.length) && <PortForward pod={pod} />],
          ['Copy files', <span class="row"><code class="clip">kubectl cp -n {pod.metadata.namespace} {pod.metadata.name}:/path ./path</code></span>],
        ]} />
      </Card>
      <Containers pod={pod} />
      <Timeline pod={pod} events={events} />
    </>
  );
}

function PortForward({ pod }: { pod: Obj }) {
  const port = pod.spec.containers.flatMap((each: Obj) => each.ports ?? [])[0].containerPort;
  const command = `kubectl port-forward -n ${pod.metadata.namespace} pod/${pod.metadata.name} ${port < 1024 ? 8000 + port : port}:${port}`;
  return <span class="row"><code class="clip">{command}</code><Copy text={command} label="Copy the command" /></span>;
}

interface History {
  times: number[];
  cpu: Map<string, (number | null)[]>;
  memory: Map<string, (number | null)[]>;
}

// What metrics.k8s.io says, from when the page was opened on.
export function Usage({ path, read, label }: { path: string; read: (answer: Obj) => Record<string, Obj>; label: string }) {
  const history = useRef<History>({ times: [], cpu: new Map(), memory: new Map() });
  const version = useSignal(0);
  const { value, error } = usePolled(() => get(path), 10, path);
  const answer = value.value;
  useEffect(() => {
    if (!answer) return;
    const h = history.current;
    const t = at(answer.timestamp) / 1000;
    if (h.times.at(-1) === t) return;
    h.times.push(t);
    for (const [name, usage] of Object.entries(read(answer)))
      for (const [kind, series] of [['cpu', h.cpu], ['memory', h.memory]] as const) {
        if (!series.has(name)) series.set(name, Array(h.times.length - 1).fill(null));
        series.get(name)!.push(quantity(usage[kind]));
      }
    version.value++;
  }, [answer]);
  if (error.value && error.value.code !== 404) return <Failure error={error.value} what="Usage cannot be read" />;
  const h = history.current;
  if (!h.times.length) return <Empty title="No figures yet">The metrics server has figures some seconds after a start.</Empty>;
  const series = (of: Map<string, (number | null)[]>) => [...of].map(([name, values]) => ({ label: name, values: values.slice() }));
  void version.value;
  return (
    <div class="grid">
      <Card title="CPU, cores"><Chart times={h.times.slice()} series={series(h.cpu)} format={cores} label={`CPU of ${label}`} /></Card>
      <Card title="Memory"><Chart times={h.times.slice()} series={series(h.memory)} format={bytes} label={`Memory of ${label}`} /></Card>
      <p class="dim">{plural(h.times.length, 'point')} since this page was opened.</p>
    </div>
  );
}

export const podUsage = (answer: Obj) => Object.fromEntries((answer.containers ?? []).map((each: Obj) => [each.name, each.usage]));
export const metricsPath = (plural: string, namespace: string, name: string) => {
  const resource = find(plural, 'metrics.k8s.io');
  return resource && pathOf(resource, namespace, name);
};
