// Who may do what, by roles and bindings. tests/addons/dashboard/test_decisions.py holds it to the authorizer. Source: the RBAC
// API reference.
import type { Obj } from './api';

export interface Question {
  verb: string;
  group: string;
  resource: string;
  name: string;
  namespace: string;
}

const any = (list: string[] | undefined, word: string) => (list ?? []).some((each) => each === '*' || each === word);

export function ruleAllows(rule: Obj, { verb, group, resource, name }: Question): boolean {
  if (!any(rule.verbs, verb) || !any(rule.apiGroups, group)) return false;
  const sub = resource.includes('/') ? `*/${resource.split('/')[1]}` : '';
  if (!any(rule.resources, resource) && !(sub && rule.resources?.includes(sub))) return false;
  return !rule.resourceNames?.length || rule.resourceNames.includes(name);
}

export interface Grant {
  subject: Obj;
  binding: Obj;
  role: string;
}

export function whoCan(question: Question, roles: Obj[], clusterRoles: Obj[], bindings: Obj[], clusterBindings: Obj[]): Grant[] {
  const grants: Grant[] = [];
  const cluster = new Map(clusterRoles.map((each) => [each.metadata.name, each]));
  const local = new Map(roles.map((each) => [`${each.metadata.namespace}/${each.metadata.name}`, each]));
  const consider = (binding: Obj) => {
    const ref = binding.roleRef;
    const role = ref.kind === 'ClusterRole' ? cluster.get(ref.name) : local.get(`${binding.metadata.namespace}/${ref.name}`);
    if (!(role?.rules ?? []).some((rule: Obj) => ruleAllows(rule, question))) return;
    for (const subject of binding.subjects ?? []) grants.push({ subject, binding, role: `${ref.kind} ${ref.name}` });
  };
  clusterBindings.forEach(consider);
  if (question.namespace) bindings.filter((each) => each.metadata.namespace === question.namespace).forEach(consider);
  return grants;
}

export const subjectText = (subject: Obj) => (subject.kind === 'ServiceAccount' ? `${subject.namespace}/${subject.name}` : subject.name);
