// What the server publishes about a kind's fields (OpenAPI v3), for completion, explanations and checks while typing.
import { get, type Obj } from './api';
import { apiVersion, type Resource } from './discovery';

export interface Schema {
  type?: string;
  description?: string;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  items?: Schema;
  required?: string[];
  enum?: unknown[];
  format?: string;
  allOf?: Schema[];
  $ref?: string;
  'x-kubernetes-preserve-unknown-fields'?: boolean;
  'x-kubernetes-int-or-string'?: boolean;
  'x-kubernetes-group-version-kind'?: { group: string; version: string; kind: string }[];
  oneOf?: Schema[];
}

type Document = Record<string, Schema>;
const documents = new Map<string, Promise<Document>>();
let index: Promise<Record<string, { serverRelativeURL: string }>> | undefined;

async function load(version: string): Promise<Document> {
  index ??= get('/openapi/v3').then((answer) => answer.paths);
  const paths = await index;
  const entry = paths[version.includes('/') ? `apis/${version}` : `api/${version}`];
  return entry ? ((await get(entry.serverRelativeURL)).components?.schemas ?? {}) : {};
}

export class Kind {
  #all: Document;
  root: Schema | undefined;
  constructor(all: Document, version: string, kind: string) {
    this.#all = all;
    const [group, short] = version.includes('/') ? version.split('/') : ['', version];
    this.root = Object.values(all).find((each) =>
      each['x-kubernetes-group-version-kind']?.some((gvk) => gvk.group === group && gvk.version === short && gvk.kind === kind),
    );
  }

  plain(schema: Schema | undefined): Schema | undefined {
    for (let i = 0; schema && i < 8; i++) {
      const ref: string | undefined = schema.$ref ?? schema.allOf?.[0]?.$ref;
      if (!ref) return schema;
      const target: Schema | undefined = this.#all[ref.split('/').pop()!];
      schema = target && { ...target, description: schema.description ?? target.description };
    }
    return schema;
  }

  // The schema at a path of names; "[]" is an item of a list.
  at(path: string[]): Schema | undefined {
    let schema = this.plain(this.root);
    for (const name of path) {
      if (!schema) return undefined;
      if (name === '[]') schema = this.plain(schema.items);
      else schema = this.plain(schema.properties?.[name] ?? (typeof schema.additionalProperties === 'object' ? schema.additionalProperties : undefined));
    }
    return schema;
  }
}

export async function kindOf(version: string, kind: string): Promise<Kind> {
  if (!documents.has(version)) documents.set(version, load(version).catch((error) => (documents.delete(version), Promise.reject(error))));
  return new Kind(await documents.get(version)!, version, kind);
}

export interface Problem {
  path: (string | number)[];
  text: string;
  onKey: boolean;
}

export function typeName(schema: Schema | undefined): string {
  if (!schema) return '';
  if (schema['x-kubernetes-int-or-string'] || schema.format === 'int-or-string' || schema.oneOf) return 'integer or string';
  if (schema.type === 'array') return `list of ${typeName(schema.items) || 'objects'}`;
  if (schema.additionalProperties && !schema.properties) return 'map';
  return schema.type ?? 'object';
}

export function problems(kind: Kind, obj: Obj): Problem[] {
  const out: Problem[] = [];
  const walk = (value: any, raw: Schema | undefined, path: (string | number)[]) => {
    const schema = kind.plain(raw);
    if (!schema || value === null || value === undefined || out.length > 50) return;
    const wrong = (text: string) => out.push({ path, text, onKey: false });
    if (schema['x-kubernetes-int-or-string'] || schema.format === 'int-or-string' || schema.oneOf) {
      if (typeof value === 'object') wrong('an integer or a string is needed here');
      return;
    }
    if (schema.enum && !schema.enum.includes(value)) wrong(`one of ${schema.enum.join(', ')} is needed here`);
    switch (schema.type) {
      case 'string':
        if (typeof value !== 'string') wrong(`a string is needed here${typeof value === 'object' ? '' : '; put it in quotes'}`);
        return;
      case 'integer':
      case 'number':
        if (typeof value !== 'number') wrong('a number is needed here');
        return;
      case 'boolean':
        if (typeof value !== 'boolean') wrong('true or false is needed here');
        return;
      case 'array':
        if (!Array.isArray(value)) return void wrong('a list is needed here');
        value.forEach((each, i) => walk(each, schema.items, [...path, i]));
        return;
    }
    if (!schema.properties && !schema.additionalProperties) return;
    if (typeof value !== 'object' || Array.isArray(value)) return void wrong('fields are needed here');
    for (const [name, each] of Object.entries(value)) {
      const field = schema.properties?.[name];
      if (field) walk(each, field, [...path, name]);
      else if (typeof schema.additionalProperties === 'object') walk(each, schema.additionalProperties, [...path, name]);
      else if (!schema.additionalProperties && !schema['x-kubernetes-preserve-unknown-fields'])
        out.push({ path: [...path, name], text: `unknown field "${name}"`, onKey: true });
    }
    for (const name of schema.required ?? [])
      if (value[name] === undefined && path.length && path[0] !== 'status') wrong(`"${name}" is missing`);
  };
  walk(obj, kind.root, []);
  return out;
}

// A text to begin with, for a new object.
export function template(resource: Resource, namespace: string): string {
  const meta = `metadata:\n  name: example\n${resource.namespaced ? `  namespace: ${namespace || 'default'}\n` : ''}`;
  const head = `apiVersion: ${apiVersion(resource)}\nkind: ${resource.kind}\n${meta}`;
  const container = (indent: string) => `${indent}containers:\n${indent}- name: main\n${indent}  image: tiphys.local/demo:1\n`;
  switch (resource.kind) {
    case 'Pod':
      return `${head}spec:\n${container('  ')}`;
    case 'Deployment':
    case 'StatefulSet':
    case 'DaemonSet':
    case 'ReplicaSet':
      return `${head}spec:\n${resource.kind === 'DaemonSet' ? '' : '  replicas: 1\n'}  selector:\n    matchLabels:\n      app: example\n  template:\n    metadata:\n      labels:\n        app: example\n    spec:\n${container('      ')}`;
    case 'Service':
      return `${head}spec:\n  selector:\n    app: example\n  ports:\n  - port: 80\n    targetPort: 8080\n`;
    case 'ConfigMap':
      return `${head}data:\n  key: value\n`;
    case 'Secret':
      return `${head}stringData:\n  key: value\n`;
    default:
      return `${head}${resource.group || resource.kind === 'PersistentVolumeClaim' ? 'spec: {}\n' : ''}`;
  }
}
