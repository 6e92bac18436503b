// What network policies let through. tests/addons/dashboard/test_decisions.py holds it to real packets. Source: the NetworkPolicy API
// reference.
import type { Obj } from './api';
import { matches, selectorText } from './labels';

export const typesOf = (policy: Obj): string[] => policy.spec.policyTypes ?? (policy.spec.egress ? ['Ingress', 'Egress'] : ['Ingress']);

export function peerText(peer: Obj): string {
  if (peer.ipBlock) return `${peer.ipBlock.cidr}${peer.ipBlock.except?.length ? ` except ${peer.ipBlock.except.join(', ')}` : ''}`;
  const pods = peer.podSelector ? selectorText(peer.podSelector) || 'all pods' : 'all pods';
  if (!peer.namespaceSelector) return `${pods === 'all pods' ? pods : `pods ${pods}`} of this namespace`;
  const spaces = selectorText(peer.namespaceSelector);
  return `${pods === 'all pods' ? pods : `pods ${pods}`} of ${spaces ? `namespaces ${spaces}` : 'all namespaces'}`;
}

export const portText = (port: Obj): string => `${port.protocol ?? 'TCP'} ${port.port ?? 'any port'}${port.endPort ? `–${port.endPort}` : ''}`;

export const selects = (policy: Obj, pod: Obj) => policy.metadata.namespace === pod.metadata.namespace && matches(policy.spec.podSelector ?? {}, pod.metadata.labels);

// An address as a number, with the bits that its family has.
function numberOf(address: string): [bigint, number] {
  const quads = (text: string) => text.split('.').map((part) => BigInt(part));
  if (!address.includes(':')) return [quads(address).reduce((sum, part) => sum * 256n + part, 0n), 32];
  const groups = (text: string) => (text ? text.split(':').flatMap((part) => {
    if (!part.includes('.')) return [BigInt(`0x${part}`)];
    const [a, b, c, d] = quads(part);
    return [a * 256n + b, c * 256n + d];
  }) : []);
  const [head, tail] = address.split('::').map(groups);
  const all = tail === undefined ? head : [...head, ...Array(8 - head.length - tail.length).fill(0n), ...tail];
  return [all.reduce((sum, part) => sum * 65536n + part, 0n), 128];
}

function inBlock(address: string, cidr: string): boolean {
  if (!address) return false;
  const [base, length] = cidr.split('/');
  const [[a, bits], [b, bitsOfBlock]] = [numberOf(address), numberOf(base)];
  const rest = BigInt(bitsOfBlock - Number(length));
  return bits === bitsOfBlock && a >> rest === b >> rest;
}

function peerMatches(peer: Obj, pod: Obj, policy: Obj, namespaces: Record<string, Obj>): boolean {
  if (peer.ipBlock) {
    const addresses: string[] = pod.status?.podIPs?.map((each: Obj) => each.ip) ?? [pod.status?.podIP ?? ''];
    return addresses.some((address) => inBlock(address, peer.ipBlock.cidr) && !(peer.ipBlock.except ?? []).some((each: string) => inBlock(address, each)));
  }
  if (peer.namespaceSelector) {
    if (!matches(peer.namespaceSelector, namespaces[pod.metadata.namespace]?.metadata.labels)) return false;
  } else if (pod.metadata.namespace !== policy.metadata.namespace) return false;
  return !peer.podSelector || matches(peer.podSelector, pod.metadata.labels);
}

function portMatches(each: Obj, port: number, protocol: string, target: Obj): boolean {
  if ((each.protocol ?? 'TCP') !== protocol) return false;
  if (each.port === undefined) return true;
  if (typeof each.port === 'number') return each.endPort ? port >= each.port && port <= each.endPort : port === each.port;
  return (target.spec?.containers ?? []).some((container: Obj) => (container.ports ?? []).some((p: Obj) => p.name === each.port && p.containerPort === port && (p.protocol ?? 'TCP') === protocol));
}

export interface Verdict {
  allowed: boolean;
  policies: string[];
  by: string[];
}

// One direction: which policies concern `pod`, and which of them let the other side through.
export function verdict(direction: 'Ingress' | 'Egress', pod: Obj, other: Obj, port: number, protocol: string, policies: Obj[], namespaces: Record<string, Obj>): Verdict {
  const concerned = policies.filter((each) => typesOf(each).includes(direction) && selects(each, pod));
  if (!concerned.length) return { allowed: true, policies: [], by: [] };
  const target = direction === 'Ingress' ? pod : other;
  const by = concerned.filter((policy) =>
    ((direction === 'Ingress' ? policy.spec.ingress : policy.spec.egress) ?? []).some((rule: Obj) => {
      const peers = direction === 'Ingress' ? rule.from : rule.to;
      const peered = !peers?.length || peers.some((peer: Obj) => peerMatches(peer, other, policy, namespaces));
      return peered && (!rule.ports?.length || rule.ports.some((each: Obj) => portMatches(each, port, protocol, target)));
    }),
  );
  const name = (policy: Obj) => policy.metadata.name;
  return { allowed: by.length > 0, policies: concerned.map(name), by: by.map(name) };
}
