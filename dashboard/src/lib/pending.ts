// Why a pod has no node, node by node, and what would change that. The scheduler's own words come first; this explains them
// with what the user may see. tests/addons/dashboard/test_decisions.py holds it to the scheduler's own filters, which it
// names. Source: the documentation of assigning pods to nodes, and of taints and tolerations.
import { amount, quantity } from './amounts';
import type { Obj } from './api';

export interface Reason {
  by: string; // the scheduler's plugin
  text: string;
  remedy: string;
}

export interface NodeAnswer {
  node: string;
  reasons: Reason[];
}

export type Amounts = Record<string, number>;

const add = (sum: Amounts, more: Amounts) => {
  for (const [name, value] of Object.entries(more)) sum[name] = (sum[name] ?? 0) + value;
};
const raise = (sum: Amounts, more: Amounts) => {
  for (const [name, value] of Object.entries(more)) sum[name] = Math.max(sum[name] ?? 0, value);
};
const read = (list: Record<string, unknown> = {}): Amounts => Object.fromEntries(Object.entries(list).map(([name, text]) => [name, quantity(text)]));

// During a resize the most of what is asked for, granted and there counts; not what the node can never give.
function inForce(wanted: Amounts, status: Obj, pod: Obj): Amounts {
  const infeasible = (pod.status?.conditions ?? []).some((each: Obj) => each.type === 'PodResizePending' && each.reason === 'Infeasible');
  const result = infeasible ? {} : { ...wanted };
  raise(result, read(status.resources?.requests));
  raise(result, read(status.allocatedResources));
  return result;
}

const isSidecar = (container: Obj) => container.restartPolicy === 'Always';
const isPodLevel = (name: string) => ['cpu', 'memory'].includes(name) || name.startsWith('hugepages-');

// What a pod asks of its node: the most of what its containers need together and what one of its first ones needs, or what the
// pod itself asks for, and overhead on top.
export function requestsOf(pod: Obj): Amounts {
  const statuses = new Map([...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? [])].map((each: Obj) => [each.name, each]));
  const needs = (container: Obj, resizable: boolean) => {
    const status = resizable ? statuses.get(container.name) : undefined;
    const wanted = read(container.resources?.requests);
    return status?.resources ? inForce(wanted, status, pod) : wanted;
  };
  const total: Amounts = {};
  const sidecars: Amounts = {};
  const first: Amounts = {};
  for (const each of pod.spec?.containers ?? []) add(total, needs(each, true));
  for (const each of pod.spec?.initContainers ?? []) {
    const needed = needs(each, isSidecar(each));
    if (isSidecar(each)) {
      add(total, needed);
      add(sidecars, needed);
      raise(first, sidecars);
    } else {
      add(needed, sidecars);
      raise(first, needed);
    }
  }
  raise(total, first);
  const own = read(pod.spec?.resources?.requests);
  const counted = pod.status?.resources ? inForce(own, pod.status, pod) : own;
  for (const name of Object.keys(own).filter(isPodLevel)) total[name] = counted[name] ?? 0;
  add(total, read(pod.spec?.overhead));
  return total;
}

export const isOver = (pod: Obj) => pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';

export function tolerates(pod: Obj, taint: Obj): boolean {
  return (pod.spec?.tolerations ?? []).some((each: Obj) => {
    if (each.effect && each.effect !== taint.effect) return false;
    if (each.key && each.key !== taint.key) return false;
    if (each.operator === 'Exists') return true;
    return (!each.operator || each.operator === 'Equal') && (each.value ?? '') === (taint.value ?? '');
  });
}

const whole = (text: string | undefined) => (/^[+-]?\d+$/.test(text ?? '') ? BigInt(text!.replace('+', '')) : undefined);

function compares(value: string | undefined, bound: string, wanted: number): boolean {
  const [a, b] = [whole(value), whole(bound)];
  return a !== undefined && b !== undefined && (a < b ? -1 : a > b ? 1 : 0) === wanted;
}

function holds({ key, operator, values = [] }: Obj, labels: Record<string, string>): boolean {
  const value = labels[key];
  switch (operator) {
    case 'In': return values.includes(value);
    case 'NotIn': return value === undefined || !values.includes(value);
    case 'Exists': return value !== undefined;
    case 'DoesNotExist': return value === undefined;
    case 'Gt': return values.length === 1 && compares(value, values[0], 1);
    case 'Lt': return values.length === 1 && compares(value, values[0], -1);
    default: return false;
  }
}

const say = ({ key, operator, values = [] }: Obj) => (operator === 'In' ? `${key}=${values.join(' or ')}` : operator === 'Exists' ? key : operator === 'DoesNotExist' ? `no ${key}` : `${key} ${operator} ${values.join(',')}`);

const CORDON = { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' };

function cordoned(pod: Obj, node: Obj): Reason[] {
  if (!node.spec?.unschedulable || tolerates(pod, CORDON)) return [];
  return [{ by: 'NodeUnschedulable', text: 'is cordoned', remedy: `uncordon ${node.metadata.name}` }];
}

function tainted(pod: Obj, node: Obj): Reason[] {
  const said = (taint: Obj) => node.spec.unschedulable && taint.key === CORDON.key && taint.effect === CORDON.effect && !taint.value; // by `cordoned`
  return (node.spec?.taints ?? []).filter((taint: Obj) => ['NoSchedule', 'NoExecute'].includes(taint.effect) && !tolerates(pod, taint) && !said(taint)).map((taint: Obj) => ({
    by: 'TaintToleration',
    text: `has the taint ${taint.key}${taint.value ? `=${taint.value}` : ''}:${taint.effect}`,
    remedy: /^node\.kubernetes\.io\//.test(taint.key) ? `mend the node: it reports ${taint.key.split('/')[1]}` : `tolerate ${taint.key}, or take the taint off`,
  }));
}

function unselected(pod: Obj, node: Obj): Reason[] {
  const labels = node.metadata.labels ?? {};
  return Object.entries(pod.spec?.nodeSelector ?? {}).filter(([key, value]) => labels[key] !== value).map(([key, value]) => ({
    by: 'NodeAffinity', text: `lacks the label ${key}=${value}`, remedy: `label the node ${key}=${value}, or drop it from nodeSelector`,
  }));
}

function repelled(pod: Obj, node: Obj): Reason[] {
  const terms: Obj[] | undefined = pod.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  if (!terms) return [];
  const asked = (term: Obj): [Obj, boolean][] => [
    ...(term.matchExpressions ?? []).map((each: Obj) => [each, holds(each, node.metadata.labels ?? {})]),
    ...(term.matchFields ?? []).map((each: Obj) => [each, holds(each, { 'metadata.name': node.metadata.name })]),
  ];
  const answers = terms.map(asked);
  if (answers.some((term) => term.length && term.every(([, held]) => held))) return [];
  const lacking = (answers.find((term) => term.length) ?? []).filter(([, held]) => !held).map(([each]) => say(each)).join(' and ');
  if (!lacking) return [{ by: 'NodeAffinity', text: 'does not match the node affinity, whose terms are empty', remedy: 'say in the affinity which nodes will do' }];
  return [{ by: 'NodeAffinity', text: `does not match the node affinity (${lacking})`, remedy: `label a node so that ${lacking}, or widen the affinity` }];
}

type HostPort = [address: string, protocol: string, port: number];
const EVERYWHERE = '0.0.0.0';

const hostPorts = (pod: Obj): HostPort[] =>
  [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? []).filter(isSidecar)].flatMap((each: Obj) =>
    (each.ports ?? []).filter((port: Obj) => port.hostPort).map((port: Obj): HostPort => [port.hostIP || EVERYWHERE, port.protocol ?? 'TCP', port.hostPort]));

const collide = ([a, protocol, port]: HostPort, [b, otherProtocol, otherPort]: HostPort) => protocol === otherProtocol && port === otherPort && (a === b || a === EVERYWHERE || b === EVERYWHERE);

function portless(pod: Obj, there: Obj[]): Reason[] {
  const taken = there.flatMap(hostPorts);
  return hostPorts(pod).filter((each) => taken.some((other) => collide(each, other))).map(([, protocol, port]) => ({
    by: 'NodePorts', text: `has its port ${port}/${protocol} taken`, remedy: `drop hostPort ${port}/${protocol}, or end the pod that has it`,
  }));
}

// As the scheduler counts: processors in thousandths, everything else in units, rounded up.
const units = (name: string, value: number) => Math.ceil(value * (name === 'cpu' ? 1000 : 1) - 1e-6);

function full(pod: Obj, node: Obj, there: Obj[]): Reason[] {
  const by = 'NodeResourcesFit';
  const reasons: Reason[] = [];
  const most = quantity(node.status?.allocatable?.pods);
  if (there.length >= most) reasons.push({ by, text: `has its ${most} pods already`, remedy: 'move a pod elsewhere, or add a node' });
  const used: Amounts = {};
  const asked = there.map(requestsOf);
  for (const [name, value] of Object.entries(requestsOf(pod))) {
    const total = quantity(node.status?.allocatable?.[name]);
    used[name] = asked.reduce((sum, each) => sum + units(name, each[name] ?? 0), 0) / (name === 'cpu' ? 1000 : 1);
    const free = total - used[name];
    if (!units(name, value) || units(name, value) <= units(name, free)) continue;
    reasons.push({
      by,
      text: `has ${amount(name, Math.max(0, free))} of ${name} free, and ${amount(name, value)} are requested`,
      remedy: value > total ? `request at most ${amount(name, total)} of ${name}, or add a larger node` : `free ${amount(name, value - free)} of ${name} on this node, or request less`,
    });
  }
  return reasons;
}

export function explain(pod: Obj, nodes: Obj[], pods: Obj[]): NodeAnswer[] {
  const byNode = new Map<string, Obj[]>();
  for (const each of pods) {
    if (!each.spec?.nodeName || isOver(each)) continue;
    const there = byNode.get(each.spec.nodeName);
    if (there) there.push(each);
    else byNode.set(each.spec.nodeName, [each]);
  }
  return nodes.map((node) => {
    const there = byNode.get(node.metadata.name) ?? [];
    return { node: node.metadata.name, reasons: [...cordoned(pod, node), ...tainted(pod, node), ...unselected(pod, node), ...repelled(pod, node), ...portless(pod, there), ...full(pod, node, there)] };
  });
}
