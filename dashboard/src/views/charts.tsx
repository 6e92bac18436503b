// Charts over time from Prometheus, which is asked through the API server as the user: `tiphys up --addons monitoring`.
import { useSignal } from '@preact/signals';
import { type ApiError, get, type Obj } from '../lib/api';
import { usePolled } from '../lib/live';
import { bytes, cores } from '../lib/amounts';
import { Card, Empty, Failure, Loading } from '../ui/basics';
import { Chart } from '../ui/chart';

const PROMETHEUS = '/api/v1/namespaces/monitoring/services/prometheus:web/proxy';

interface Panel {
  title: string;
  query: string;
  label: (labels: Record<string, string>) => string;
  format: (value: number) => string;
}

const plain = (value: number) => Number(value.toPrecision(value >= 100 ? 6 : 2)).toLocaleString();
const seconds = (value: number) => (value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`);
const rate = (value: number) => `${plain(value)}/s`;

const PANELS: Panel[] = [
  { title: 'API requests by verb', query: 'sum by (verb) (rate(apiserver_request_total[2m]))', label: (l) => l.verb, format: rate },
  { title: 'API latency, 99th percentile', query: 'cluster_quantile:apiserver_request_sli_duration_seconds:histogram_quantile{quantile="0.99"}', label: (l) => `${l.verb ?? ''} ${l.resource ?? ''}`.trim(), format: seconds },
  { title: 'API errors', query: 'sum by (code) (rate(apiserver_request_total{code=~"5.."}[2m]))', label: (l) => l.code, format: rate },
  { title: 'API requests in flight', query: 'sum by (request_kind) (apiserver_current_inflight_requests)', label: (l) => l.request_kind, format: plain },
  { title: 'Objects in the store', query: 'topk(8, apiserver_storage_objects or apiserver_resource_objects)', label: (l) => l.resource, format: plain },
  { title: 'Containers on nodes', query: 'sum by (node) (kubelet_running_containers{container_state="running"})', label: (l) => l.node, format: plain },
  { title: 'CPU by namespace', query: 'sum by (namespace) (node_namespace_pod_container:container_cpu_usage_seconds_total:sum_rate5m)', label: (l) => l.namespace, format: cores },
  { title: 'Memory by namespace', query: 'sum by (namespace) (node_namespace_pod_container:container_memory_working_set_bytes)', label: (l) => l.namespace, format: bytes },
  { title: 'CPU of nodes', query: 'instance:node_cpu_utilisation:rate5m', label: (l) => l.instance, format: (v) => `${Math.round(v * 100)} %` },
  { title: 'Memory of nodes', query: 'instance:node_memory_utilisation:ratio', label: (l) => l.instance, format: (v) => `${Math.round(v * 100)} %` },
  { title: 'Memory of components', query: 'process_resident_memory_bytes{job=~"apiserver|kubelet"}', label: (l) => l.job, format: bytes },
];
const SPANS: [string, number][] = [['15 minutes', 900], ['1 hour', 3600], ['6 hours', 21600], ['1 day', 86400]];

export function Charts() {
  const span = useSignal(900);
  const targets = usePolled(() => get(`${PROMETHEUS}/api/v1/query`, { query: 'up' }), 15, 'up');
  const error = targets.error.value as ApiError | undefined;
  const up: Obj[] = targets.value.value?.data?.result ?? [];
  return (
    <div class="page">
      <div class="head">
        <h1>Charts</h1>
        {up.length > 0 && <span class="dim">{up.filter((each) => each.value[1] === '1').length} of {up.length} targets are up</span>}
        <span class="grow" />
        <select class="field" aria-label="Span of time" value={span.value} onChange={(event) => (span.value = Number(event.currentTarget.value))}>{SPANS.map(([text, value]) => <option key={value} value={value}>{text}</option>)}</select>
      </div>
      {error && (error.code === 403 ? <Failure error={error} /> : <div class="card"><Empty title="No Prometheus answers in this cluster">Start one: <code>tiphys up --addons monitoring</code>. Usage of single pods and nodes is on their own pages, without it.</Empty></div>)}
      {!error && !targets.value.value && <Loading />}
      {!error && targets.value.value && <div class="grid">{PANELS.map((panel) => <PanelCard key={panel.title + span.value} panel={panel} span={span.value} />)}</div>}
    </div>
  );
}

function PanelCard({ panel, span }: { panel: Panel; span: number }) {
  const step = Math.max(5, Math.round(span / 180));
  const read = async () => {
    const end = Math.floor(Date.now() / 1000 / step) * step;
    return get(`${PROMETHEUS}/api/v1/query_range`, { query: panel.query, start: String(end - span), end: String(end), step: String(step) });
  };
  const { value, error } = usePolled(read, Math.max(10, step), panel.title + span);
  const result: Obj[] = value.value?.data?.result ?? [];
  const times = [...new Set(result.flatMap((each) => each.values.map((point: [number, string]) => point[0])))].sort((a, b) => a - b) as number[];
  const at = new Map(times.map((t, i) => [t, i]));
  const series = result.map((each) => {
    const values: (number | null)[] = Array(times.length).fill(null);
    for (const [t, v] of each.values) values[at.get(t)!] = Number.isFinite(Number(v)) ? Number(v) : null;
    return { label: panel.label(each.metric) || 'total', values };
  });
  series.sort((a, b) => (b.values.at(-1) ?? 0) - (a.values.at(-1) ?? 0));
  return <Card title={panel.title}>{error.value ? <Failure error={error.value} /> : times.length ? <Chart times={times} series={series.slice(0, 8)} format={panel.format} label={panel.title} /> : <Empty title="Nothing measured yet" />}</Card>;
}
