// What is decided purely, as a file of its own: the page loads it, and tests hold it to what the cluster itself decides.
export { explain, requestsOf } from './lib/pending';
export { verdict } from './lib/policy';
export { whoCan } from './lib/rbac';
