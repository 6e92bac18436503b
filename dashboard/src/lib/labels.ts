// Labels and their selectors. Pure.
import type { Obj } from './api';

// Label selectors, as objects have them, against labels.
export function matches(selector: Obj, labels: Record<string, string> = {}): boolean {
  if (!selector) return false;
  for (const [name, value] of Object.entries(selector.matchLabels ?? {})) if (labels[name] !== value) return false;
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    const value = labels[key];
    if (operator === 'In' && !values.includes(value)) return false;
    if (operator === 'NotIn' && value !== undefined && values.includes(value)) return false;
    if (operator === 'Exists' && value === undefined) return false;
    if (operator === 'DoesNotExist' && value !== undefined) return false;
    if (operator === 'Gt' && !(Number(value) > Number(values[0]))) return false;
    if (operator === 'Lt' && !(Number(value) < Number(values[0]))) return false;
  }
  return true;
}

export function selectorText(selector: Obj): string {
  const parts = Object.entries(selector?.matchLabels ?? {}).map(([name, value]) => `${name}=${value}`);
  for (const { key, operator, values } of selector?.matchExpressions ?? []) {
    if (operator === 'Exists') parts.push(key);
    else if (operator === 'DoesNotExist') parts.push(`!${key}`);
    else parts.push(`${key} ${operator === 'In' ? 'in' : 'notin'} (${values.join(',')})`);
  }
  return parts.join(',');
}
