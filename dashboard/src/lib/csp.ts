// Libraries that make style elements and style attributes of their own work under a policy that allows no inline style:
// an element gets this answer's nonce, and an attribute is set by the object model, which the policy does not concern.
export const nonce = document.querySelector<HTMLMetaElement>('meta[name=style-nonce]')?.content ?? '';

const create = document.createElement.bind(document) as (tag: string, options?: ElementCreationOptions) => HTMLElement;
document.createElement = ((tag: string, options?: ElementCreationOptions) => {
  const made = create(tag, options);
  if (tag.toLowerCase() === 'style') made.nonce = nonce;
  return made;
}) as typeof document.createElement;

const setAttribute = Element.prototype.setAttribute;
Element.prototype.setAttribute = function (name: string, value: string) {
  if (name === 'style' && this instanceof HTMLElement) this.style.cssText = value;
  else setAttribute.call(this, name, value);
};
