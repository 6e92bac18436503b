// Network policies in words, and whether one pod reaches another.
import { useSignal } from '@preact/signals';
import type { Obj } from '../lib/api';
import { find, idOf } from '../lib/discovery';
import { useObjects } from '../lib/live';
import { peerText, portText, selects, typesOf, type Verdict, verdict } from '../lib/policy';
import { detailPath, namespace } from '../lib/state';
import { selectorText } from '../lib/labels';
import { plural } from '../lib/util';
import { Card, Empty, Failure } from '../ui/basics';

function Rules({ rules, peers }: { rules?: Obj[]; peers: 'from' | 'to' }) {
  if (!rules?.length) return <span class="tone-bad">nothing</span>;
  return (
    <>{rules.map((rule, i) => <div key={i}>{rule[peers]?.length ? rule[peers].map(peerText).join('; or ') : 'everything'}{rule.ports?.length ? <span class="dim">, on {rule.ports.map(portText).join(', ')}</span> : <span class="dim">, on any port</span>}</div>)}</>
  );
}

export function PolicySummary({ policy }: { policy: Obj }) {
  const types = typesOf(policy);
  return (
    <Card title="In words">
      <dl class="facts">
        <dt>Concerns</dt><dd>{selectorText(policy.spec.podSelector) ? `pods ${selectorText(policy.spec.podSelector)}` : 'all pods of the namespace'}</dd>
        {types.includes('Ingress') && <><dt>They are reached by</dt><dd><Rules rules={policy.spec.ingress} peers="from" /></dd></>}
        {types.includes('Egress') && <><dt>They reach</dt><dd><Rules rules={policy.spec.egress} peers="to" /></dd></>}
      </dl>
    </Card>
  );
}

const idOfPod = (pod: Obj) => `${pod.metadata.namespace}/${pod.metadata.name}`;

export function Policies() {
  const policies = useObjects(find('networkpolicies', 'networking.k8s.io'));
  const namespaces = useObjects(find('namespaces'));
  const pods = useObjects(find('pods'), '', { fieldSelector: 'status.phase=Running' });
  const from = useSignal('');
  const to = useSignal('');
  const port = useSignal('80');
  const protocol = useSignal('TCP');
  const resource = find('networkpolicies', 'networking.k8s.io');
  const shown = policies.items.value.filter((each) => !namespace.value || each.metadata.namespace === namespace.value);
  const byId = new Map(pods.items.value.map((pod) => [idOfPod(pod), pod]));
  const [a, b] = [byId.get(from.value), byId.get(to.value)];
  const spaces = Object.fromEntries(namespaces.items.value.map((each) => [each.metadata.name, each]));
  const answers: [string, Verdict][] = a && b ? [[`${from.value} may send`, verdict('Egress', a, b, Number(port.value), protocol.value, policies.items.value, spaces)], [`${to.value} may be reached`, verdict('Ingress', b, a, Number(port.value), protocol.value, policies.items.value, spaces)]] : [];
  const open = pods.items.value.filter((pod) => (!namespace.value || pod.metadata.namespace === namespace.value) && !policies.items.value.some((policy) => typesOf(policy).includes('Ingress') && selects(policy, pod)));
  return (
    <div class="page">
      <div class="head"><h1>Network policies</h1><span class="dim">{plural(open.length, 'running pod')} can be reached by everything</span></div>
      <Failure error={policies.error.value} />
      <Card title="Does it get through?">
        <div class="col">
          <div class="row wrap">
            <label for="from">From</label><input id="from" class="field" list="pods" style={{ width: '280px' }} placeholder="namespace/pod" value={from.value} onInput={(event) => (from.value = event.currentTarget.value)} />
            <label for="to">to</label><input id="to" class="field" list="pods" style={{ width: '280px' }} placeholder="namespace/pod" value={to.value} onInput={(event) => (to.value = event.currentTarget.value)} />
            <label for="port">on port</label><input id="port" class="field" style={{ width: '80px' }} inputMode="numeric" value={port.value} onInput={(event) => (port.value = event.currentTarget.value)} />
            <select class="field" aria-label="Protocol" value={protocol.value} onChange={(event) => (protocol.value = event.currentTarget.value)}><option>TCP</option><option>UDP</option><option>SCTP</option></select>
            <datalist id="pods">{pods.items.value.slice(0, 1000).map((pod) => <option key={idOfPod(pod)} value={idOfPod(pod)} />)}</datalist>
          </div>
          {answers.length > 0 && <div class={`note ${answers.every(([, each]) => each.allowed) ? 'good' : 'bad'}`} role="status"><b>{answers.every(([, each]) => each.allowed) ? 'Yes.' : 'No.'}</b>{answers.map(([text, each]) => <div key={text}>{text}: {each.allowed ? 'yes' : 'no'}, {each.policies.length ? (each.by.length ? `by ${each.by.join(', ')}` : `as ${each.policies.join(', ')} let nothing of this through`) : 'no policy concerns it'}</div>)}</div>}
        </div>
      </Card>
      <Card title={`Policies (${shown.length})`} bare>
        {!shown.length ? <Empty title="No policies">Every pod reaches every other.</Empty> : (
          <div class="scroll">
            <table class="plain">
              <thead><tr><th>Namespace</th><th>Name</th><th>Concerns</th><th>Reached by</th><th>Reach</th></tr></thead>
              <tbody>{shown.map((each) => (
                <tr key={each.metadata.uid}>
                  <td class="dim">{each.metadata.namespace}</td>
                  <td>{resource && <a href={`#${detailPath(idOf(resource), each.metadata.namespace, each.metadata.name)}`}>{each.metadata.name}</a>}</td>
                  <td>{selectorText(each.spec.podSelector) || 'all pods'}<div class="dim">{plural(pods.items.value.filter((pod) => selects(each, pod)).length, 'pod')}</div></td>
                  <td>{typesOf(each).includes('Ingress') ? <Rules rules={each.spec.ingress} peers="from" /> : <span class="dim">not limited</span>}</td>
                  <td>{typesOf(each).includes('Egress') ? <Rules rules={each.spec.egress} peers="to" /> : <span class="dim">not limited</span>}</td>
                </tr>
              ))}</tbody>
            </table>
          </div>
        )}
      </Card>
    </div>
  );
}
