// Why a pod has no node, node by node, and what would change that. The scheduler's own words come first; this explains them
// with what the user may see. Source: the documentation of assigning pods to nodes, and of taints and tolerations.
import type { Obj } from './api';
import { amount, quantity } from './util';

export interface NodeAnswer {
  node: string;
  reasons: string[];
  remedies: string[];
}

export type Amounts = Record<string, number>;

const add = (sum: Amounts, more: Record<string, unknown> = {}) => {
  for (const [name, value] of Object.entries(more)) sum[name] = (sum[name] ?? 0) + quantity(value);
};

// What a pod asks of its node: the most of what its containers need together and what one of its first ones needs.
export function requestsOf(pod: Obj): Amounts {
  const total: Amounts = {};
  const sidecars: Amounts = {};
  const first: Amounts = {};
  for (const each of pod.spec?.containers ?? []) add(total, each.resources?.requests);
  for (const each of pod.spec?.initContainers ?? []) {
    if (each.restartPolicy === 'Always') add(sidecars, each.resources?.requests);
    const alone: Amounts = each.restartPolicy === 'Always' ? { ...sidecars } : { ...sidecars };
    if (each.restartPolicy !== 'Always') add(alone, each.resources?.requests);
    for (const [name, value] of Object.entries(alone)) first[name] = Math.max(first[name] ?? 0, value);
  }
  for (const [name, value] of Object.entries(sidecars)) total[name] = (total[name] ?? 0) + value;
  for (const [name, value] of Object.entries(first)) total[name] = Math.max(total[name] ?? 0, value);
  add(total, pod.spec?.overhead);
  return total;
}

export const isOver = (pod: Obj) => pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';

export function tolerates(pod: Obj, taint: Obj): boolean {
  return (pod.spec?.tolerations ?? []).some((each: Obj) => {
    if (each.effect && each.effect !== taint.effect) return false;
    if (!each.key) return each.operator === 'Exists';
    if (each.key !== taint.key) return false;
    return each.operator === 'Exists' || (each.value ?? '') === (taint.value ?? '');
  });
}

function holds({ key, operator, values = [] }: Obj, labels: Record<string, string>): boolean {
  const value = labels[key];
  switch (operator) {
    case 'In': return values.includes(value);
    case 'NotIn': return value === undefined || !values.includes(value);
    case 'Exists': return value !== undefined;
    case 'DoesNotExist': return value === undefined;
    case 'Gt': return Number(value) > Number(values[0]);
    case 'Lt': return Number(value) < Number(values[0]);
    default: return false;
  }
}

const say = ({ key, operator, values = [] }: Obj) => (operator === 'In' ? `${key}=${values.join(' or ')}` : operator === 'Exists' ? key : operator === 'DoesNotExist' ? `no ${key}` : `${key} ${operator} ${values.join(',')}`);

export function explain(pod: Obj, nodes: Obj[], pods: Obj[]): NodeAnswer[] {
  const wanted = requestsOf(pod);
  const byNode = new Map<string, Obj[]>();
  for (const each of pods)
    if (each.spec?.nodeName && !isOver(each)) byNode.set(each.spec.nodeName, [...(byNode.get(each.spec.nodeName) ?? []), each]);
  return nodes.map((node) => {
    const reasons: string[] = [];
    const remedies: string[] = [];
    const labels = node.metadata.labels ?? {};
    const there = byNode.get(node.metadata.name) ?? [];
    if (node.spec?.unschedulable) {
      reasons.push('is cordoned');
      remedies.push(`uncordon ${node.metadata.name}`);
    }
    for (const taint of node.spec?.taints ?? []) {
      if (taint.effect === 'PreferNoSchedule' || tolerates(pod, taint) || taint.key === 'node.kubernetes.io/unschedulable') continue;
      reasons.push(`has the taint ${taint.key}${taint.value ? `=${taint.value}` : ''}:${taint.effect}`);
      remedies.push(/^node\.kubernetes\.io\//.test(taint.key) ? `mend the node: it reports ${taint.key.split('/')[1]}` : `tolerate ${taint.key}, or take the taint off`);
    }
    for (const [key, value] of Object.entries(pod.spec?.nodeSelector ?? {}))
      if (labels[key] !== value) {
        reasons.push(`lacks the label ${key}=${value}`);
        remedies.push(`label the node ${key}=${value}, or drop it from nodeSelector`);
      }
    const terms = pod.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];
    const fails = (term: Obj) => [
      ...(term.matchExpressions ?? []).filter((each: Obj) => !holds(each, labels)),
      ...(term.matchFields ?? []).filter((each: Obj) => !holds(each, { 'metadata.name': node.metadata.name })),
    ];
    if (terms.length && terms.every((term: Obj) => fails(term).length)) {
      const lacking = fails(terms[0]).map(say).join(' and ');
      reasons.push(`does not match the node affinity (${lacking})`);
      remedies.push(`label a node so that ${lacking}, or widen the affinity`);
    }
    const used: Amounts = {};
    for (const each of there) for (const [name, value] of Object.entries(requestsOf(each))) used[name] = (used[name] ?? 0) + value;
    for (const [name, value] of Object.entries(wanted)) {
      if (value <= 0) continue;
      const total = quantity(node.status?.allocatable?.[name]);
      const free = total - (used[name] ?? 0);
      if (value <= free + 1e-9) continue;
      reasons.push(`has ${amount(name, Math.max(0, free))} of ${name} free, and ${amount(name, value)} are requested`);
      remedies.push(value > total ? `request at most ${amount(name, total)} of ${name}, or add a larger node` : `free ${amount(name, value - free)} of ${name} on this node, or request less`);
    }
    const most = quantity(node.status?.allocatable?.pods ?? 110);
    if (there.length >= most) {
      reasons.push(`has its ${most} pods already`);
      remedies.push('move a pod elsewhere, or add a node');
    }
    const ports = new Set(there.flatMap((each) => hostPorts(each)));
    for (const port of hostPorts(pod).filter((each) => ports.has(each))) {
      reasons.push(`has its port ${port} taken`);
      remedies.push(`drop hostPort ${port}, or end the pod that has it`);
    }
    return { node: node.metadata.name, reasons, remedies };
  });
}

const hostPorts = (pod: Obj): string[] =>
  (pod.spec?.containers ?? []).flatMap((each: Obj) => (each.ports ?? []).filter((port: Obj) => port.hostPort).map((port: Obj) => `${port.hostPort}/${port.protocol ?? 'TCP'}`));
