// YAML with completion, explanations and checks by the server's own schema; and the difference of two texts.
import { autocompletion, type CompletionContext, type CompletionResult } from '@codemirror/autocomplete';
import { yaml } from '@codemirror/lang-yaml';
import { HighlightStyle, syntaxHighlighting } from '@codemirror/language';
import { type Diagnostic, linter, lintGutter } from '@codemirror/lint';
import { MergeView, unifiedMergeView } from '@codemirror/merge';
import { EditorState, type Extension } from '@codemirror/state';
import { EditorView, hoverTooltip } from '@codemirror/view';
import { tags } from '@lezer/highlight';
import { basicSetup } from 'codemirror';
import { useEffect, useRef } from 'preact/hooks';
import { isMap, isScalar, parseDocument } from 'yaml';
import { nonce } from '../lib/csp';
import { type Kind, problems, typeName } from '../lib/schema';

const colours = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: 'var(--accent)' },
  { tag: [tags.string, tags.content], color: 'var(--text)' },
  { tag: [tags.number, tags.bool, tags.null, tags.keyword], color: 'var(--info)' },
  { tag: [tags.comment, tags.meta], color: 'var(--dim)' },
]);

const base: Extension = [EditorView.cspNonce.of(nonce), basicSetup, yaml(), syntaxHighlighting(colours)];

// The path of names to a position, by indentation: good enough while a text is not yet YAML.
export function pathAt(state: EditorState, position: number): { path: string[]; indent: number } {
  const line = state.doc.lineAt(position);
  const lead = /^(\s*)((?:- +)*)/.exec(line.text)!;
  let indent = lead[0].length;
  const path: string[] = [];
  let listAt = lead[2] ? lead[1].length : -1;
  if (listAt >= 0) path.unshift('[]');
  const own = indent;
  let limit = listAt >= 0 ? listAt + 1 : indent;
  for (let n = line.number - 1; n > 0 && limit > 0; n--) {
    const text = state.doc.line(n).text;
    if (/^---/.test(text)) break;
    if (!text.trim() || /^\s*#/.test(text)) continue;
    const match = /^(\s*)((?:- +)*)("?[\w./-]+"?):(\s|$)/.exec(text);
    const item = /^(\s*)-(\s|$)/.exec(text);
    const at = match ? match[1].length + match[2].length : -1;
    if (match && at < limit) {
      path.unshift(match[3].replaceAll('"', ''));
      limit = at;
    }
    if (item && item[1].length < limit && !(match && at < limit && !match[2])) {
      path.unshift('[]');
      limit = item[1].length + 1;
    } else if (item && match && match[2] && item[1].length < limit) {
      path.unshift('[]');
      limit = item[1].length + 1;
    }
    indent = limit;
    listAt = -1;
  }
  return { path, indent: own };
}

const source = (kind: () => Kind | undefined) => (context: CompletionContext): CompletionResult | null => {
  const known = kind();
  if (!known) return null;
  const line = context.state.doc.lineAt(context.pos);
  const before = line.text.slice(0, context.pos - line.from);
  const value = /^\s*(?:- +)*([\w./-]+):\s+(\S*)$/.exec(before);
  const { path } = pathAt(context.state, context.pos);
  if (value) {
    const schema = known.at([...path, value[1]]);
    const options = schema?.enum ?? (schema?.type === 'boolean' ? [true, false] : []);
    return options.length ? { from: context.pos - value[2].length, options: options.map((each) => ({ label: String(each), type: 'enum' })) } : null;
  }
  const word = /^\s*(?:- +)*([\w-]*)$/.exec(before);
  if (!word || (!word[1] && !context.explicit)) return null;
  const schema = known.at(path);
  const fields = Object.entries(schema?.properties ?? {});
  if (!fields.length) return null;
  return {
    from: context.pos - word[1].length,
    validFor: /^[\w-]*$/,
    options: fields.map(([name, raw]) => {
      const field = known.plain(raw);
      const nested = field?.type === 'object' || field?.properties ? ':' : field?.type === 'array' ? ':' : ': ';
      return { label: name, type: 'property', detail: typeName(field), info: field?.description, apply: name + nested, boost: schema?.required?.includes(name) ? 1 : 0 };
    }),
  };
};

const explain = (kind: () => Kind | undefined) =>
  hoverTooltip((view, position) => {
    const known = kind();
    const line = view.state.doc.lineAt(position);
    const match = /^(\s*(?:- +)*)([\w./-]+):/.exec(line.text);
    if (!known || !match || position - line.from > match[0].length) return null;
    const schema = known.at([...pathAt(view.state, position).path, match[2]]);
    if (!schema?.description) return null;
    return {
      pos: line.from + match[1].length,
      end: line.from + match[0].length,
      create: () => {
        const dom = document.createElement('div');
        dom.className = 'doc';
        dom.textContent = `${match[2]}: ${typeName(schema)}\n${schema.description}`;
        return { dom };
      },
    };
  });

const check = (kind: () => Kind | undefined) =>
  linter((view) => {
    const text = view.state.doc.toString();
    const out: Diagnostic[] = [];
    let offset = 0;
    for (const part of text.split(/^(?=---\s*$)/m)) {
      const document = parseDocument(part.replace(/^---/, '   '));
      for (const error of document.errors) out.push({ from: offset + error.pos[0], to: Math.min(text.length, offset + error.pos[1]), severity: 'error', message: error.message.split('\n')[0] });
      const known = kind();
      if (known?.root && !document.errors.length)
        for (const problem of problems(known, document.toJS())) {
          const node = document.getIn(problem.path, true) as any;
          let range = node?.range as [number, number, number] | undefined;
          const parent = document.getIn(problem.path.slice(0, -1), true) as any;
          if (problem.onKey && isMap(parent)) {
            const pair = parent.items.find((each) => isScalar(each.key) && each.key.value === problem.path.at(-1));
            range = (pair?.key as any)?.range ?? range;
          }
          range ??= [0, 1, 1];
          out.push({ from: offset + range[0], to: Math.min(text.length, offset + Math.max(range[0] + 1, Math.min(range[1], range[0] + 80))), severity: 'error', message: problem.text });
        }
      offset += part.length;
    }
    return out;
  }, { delay: 350 });

interface EditorProps {
  text: string;
  kind?: Kind;
  onChange: (text: string) => void;
  label: string;
  readOnly?: boolean;
}

export function Editor({ text, kind, onChange, label, readOnly }: EditorProps) {
  const box = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const known = useRef<Kind | undefined>(kind);
  known.current = kind;
  const changed = useRef(onChange);
  changed.current = onChange;
  useEffect(() => {
    const current = () => known.current;
    view.current = new EditorView({
      parent: box.current!,
      state: EditorState.create({
        doc: text,
        extensions: [
          base,
          EditorView.contentAttributes.of({ 'aria-label': label }),
          EditorState.readOnly.of(!!readOnly),
          autocompletion({ override: [source(current)] }),
          explain(current),
          check(current),
          lintGutter(),
          EditorView.updateListener.of((update) => update.docChanged && changed.current(update.state.doc.toString())),
        ],
      }),
    });
    view.current.scrollDOM.tabIndex = 0;
    return () => view.current?.destroy();
  }, []);
  useEffect(() => {
    const editor = view.current;
    if (editor && editor.state.doc.toString() !== text) editor.dispatch({ changes: { from: 0, to: editor.state.doc.length, insert: text } });
  }, [text]);
  return <div class="editor" ref={box} />;
}

export function Diff({ before, after, unified }: { before: string; after: string; unified?: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const fixed = [base, EditorState.readOnly.of(true), EditorView.editable.of(false), EditorView.contentAttributes.of({ 'aria-label': 'Difference', tabindex: '0' })];
    const collapse = { margin: 4, minSize: 6 };
    const made = unified
      ? new EditorView({ parent: box.current!, doc: after, extensions: [fixed, unifiedMergeView({ original: before, mergeControls: false, collapseUnchanged: collapse })] })
      : new MergeView({ parent: box.current!, a: { doc: before, extensions: fixed }, b: { doc: after, extensions: fixed }, collapseUnchanged: collapse, gutter: true });
    for (const view of made instanceof MergeView ? [made.a, made.b] : [made]) view.scrollDOM.tabIndex = 0;
    return () => made.destroy();
  }, [before, after, unified]);
  return <div class="editor" ref={box} data-diff />;
}

