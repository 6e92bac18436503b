// Access: what I may do, and who may do what.
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { type ApiError, type Obj, post, whoAmI } from '../lib/api';
import { find, idOf, resources } from '../lib/discovery';
import { useObjects } from '../lib/live';
import { subjectText, whoCan } from '../lib/rbac';
import { detailPath, namespace } from '../lib/state';
import { plural } from '../lib/util';
import { Card, Chips, Empty, Failure, Loading, Tabs } from '../ui/basics';

const VERBS = ['get', 'list', 'watch', 'create', 'update', 'patch', 'delete', 'deletecollection', 'impersonate', 'bind', 'escalate', 'approve', 'sign'];
const RBAC = 'rbac.authorization.k8s.io';

export function Access() {
  const tab = useSignal('who');
  return (
    <div class="page">
      <div class="head"><h1>Access</h1><span class="dim">You are <b>{whoAmI.value.username}</b></span><Chips of={Object.fromEntries((whoAmI.value.groups ?? []).map((each) => [each, '']))} /></div>
      <Tabs label="Access" value={tab.value} onChange={(id) => (tab.value = id)} tabs={[['who', 'Who can'], ['me', 'What I can'], ['subject', 'What somebody can']]} />
      {tab.value === 'who' && <WhoCan />}
      {tab.value === 'me' && <Mine />}
      {tab.value === 'subject' && <OfSubject />}
    </div>
  );
}

function useRules() {
  const lists = [useObjects(find('roles', RBAC)), useObjects(find('clusterroles', RBAC)), useObjects(find('rolebindings', RBAC)), useObjects(find('clusterrolebindings', RBAC))];
  return { lists: lists.map((each) => each.items.value), error: lists.map((each) => each.error.value).find(Boolean), loading: lists.some((each) => each.loading.value) };
}

const bindingLink = (binding: Obj) => {
  const resource = find(binding.metadata.namespace ? 'rolebindings' : 'clusterrolebindings', RBAC);
  return resource ? <a href={`#${detailPath(idOf(resource), binding.metadata.namespace ?? '', binding.metadata.name)}`}>{binding.metadata.name}</a> : binding.metadata.name;
};

function WhoCan() {
  const { lists: [roles, clusterRoles, bindings, clusterBindings], error, loading } = useRules();
  const verb = useSignal('delete');
  const what = useSignal('pods');
  const place = useSignal(namespace.value || 'default');
  const names = resources.value.flatMap((each) => [each, ...each.subresources.map((sub) => ({ ...each, plural: `${each.plural}/${sub}` }))]).map((each) => (each.group ? `${each.plural}.${each.group}` : each.plural));
  const [path, ...rest] = what.value.split('.');
  const grants = whoCan({ verb: verb.value, group: rest.join('.'), resource: path, name: '', namespace: place.value }, roles, clusterRoles, bindings, clusterBindings);
  return (
    <>
      <Card>
        <div class="row wrap">
          <label for="verb">Who can</label><select id="verb" class="field" value={verb.value} onChange={(event) => (verb.value = event.currentTarget.value)}>{VERBS.map((each) => <option key={each}>{each}</option>)}</select>
          <label for="what" class="sr">Resource</label><input id="what" class="field" list="kinds" style={{ width: '300px' }} value={what.value} onInput={(event) => (what.value = event.currentTarget.value)} /><datalist id="kinds">{names.map((each) => <option key={each} value={each} />)}</datalist>
          <label for="place">in namespace</label><input id="place" class="field" placeholder="all" value={place.value} onInput={(event) => (place.value = event.currentTarget.value)} />
        </div>
      </Card>
      <Failure error={error} what="Roles and bindings cannot be read" />
      <Card title={`${plural(grants.length, 'grant')} by RBAC`} bare>
        {loading ? <Loading /> : !grants.length ? <Empty title="Nobody, by the rules you may see">Members of system:masters may do everything, whatever the rules.</Empty> : (
          <table class="plain">
            <thead><tr><th>Kind</th><th>Who</th><th>By the binding</th><th>Of the role</th><th>Where</th></tr></thead>
            <tbody>{grants.map((each, i) => <tr key={i}><td class="dim">{each.subject.kind}</td><td><b>{subjectText(each.subject)}</b></td><td>{bindingLink(each.binding)}</td><td>{each.role}</td><td class="dim">{each.binding.metadata.namespace ?? 'everywhere'}</td></tr>)}</tbody>
          </table>
        )}
      </Card>
    </>
  );
}

function RuleTable({ rules }: { rules: Obj[] }) {
  if (!rules.length) return <Empty title="Nothing" />;
  return (
    <div class="scroll">
      <table class="plain">
        <thead><tr><th>Verbs</th><th>Resources</th><th>Groups</th><th>Names</th></tr></thead>
        <tbody>{rules.map((each, i) => <tr key={i}><td><Chips of={Object.fromEntries((each.verbs ?? []).map((v: string) => [v, '']))} /></td><td>{(each.resources ?? each.nonResourceURLs ?? []).join(', ')}</td><td class="dim">{(each.apiGroups ?? []).map((g: string) => g || 'core').join(', ')}</td><td class="dim">{(each.resourceNames ?? []).join(', ')}</td></tr>)}</tbody>
      </table>
    </div>
  );
}

function Mine() {
  const place = namespace.value || 'default';
  const answer = useSignal<Obj | undefined>(undefined);
  const error = useSignal<ApiError | undefined>(undefined);
  useEffect(() => {
    post('/apis/authorization.k8s.io/v1/selfsubjectrulesreviews', { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectRulesReview', spec: { namespace: place } }).then((made) => (answer.value = made.status), (failure) => (error.value = failure));
  }, [place]);
  if (error.value) return <Failure error={error.value} />;
  if (!answer.value) return <Loading />;
  return (
    <>
      {answer.value.incomplete && <div class="note wait">The server cannot list all of it: {answer.value.evaluationError}</div>}
      <Card title={`Resources, in the namespace ${place}`} bare><RuleTable rules={answer.value.resourceRules ?? []} /></Card>
      <Card title="Paths" bare><RuleTable rules={answer.value.nonResourceRules ?? []} /></Card>
    </>
  );
}

function OfSubject() {
  const { lists: [roles, clusterRoles, bindings, clusterBindings], error, loading } = useRules();
  const who = useSignal('');
  const all = [...clusterBindings, ...bindings];
  const known = [...new Set(all.flatMap((each) => (each.subjects ?? []).map((subject: Obj) => `${subject.kind} ${subjectText(subject)}`)))].sort();
  const of = all.filter((each) => (each.subjects ?? []).some((subject: Obj) => `${subject.kind} ${subjectText(subject)}` === who.value));
  return (
    <>
      <Card><div class="row"><label for="subject">Subject</label><input id="subject" class="field grow" list="subjects" placeholder="ServiceAccount kube-system/…, User …, Group …" value={who.value} onInput={(event) => (who.value = event.currentTarget.value)} /><datalist id="subjects">{known.map((each) => <option key={each as string} value={each as string} />)}</datalist></div></Card>
      <Failure error={error} />
      {loading ? <Loading /> : of.map((binding) => {
        const role = binding.roleRef.kind === 'ClusterRole' ? clusterRoles.find((each) => each.metadata.name === binding.roleRef.name) : roles.find((each) => each.metadata.name === binding.roleRef.name && each.metadata.namespace === binding.metadata.namespace);
        return <Card key={binding.metadata.uid} bare title={<>{binding.roleRef.kind} {binding.roleRef.name} <span class="dim">{binding.metadata.namespace ? `in ${binding.metadata.namespace}` : 'everywhere'}, by </span>{bindingLink(binding)}</>}><RuleTable rules={role?.rules ?? []} /></Card>;
      })}
      {!loading && who.value && !of.length && <Empty title="No binding names this subject" />}
    </>
  );
}
