// Logging in: a token, or the code that `tiphys dashboard` shows on one's own machine.
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { byCode, logIn } from '../lib/api';

export function Login() {
  const words = useSignal('');
  const withToken = useSignal(!byCode.value);
  const error = useSignal('');
  const busy = useSignal(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), [withToken.value]);
  const send = async (event: Event) => {
    event.preventDefault();
    busy.value = true;
    error.value = '';
    try {
      await logIn(withToken.value ? { token: words.value.trim() } : { code: words.value.trim() });
    } catch (failure) {
      error.value = (failure as Error).message;
    }
    words.value = '';
    busy.value = false;
  };
  return (
    <main class="login">
      <form class="card" onSubmit={send}>
        <img src="/icon.svg" alt="" width="44" height="44" />
        <div><h1>Tiphys</h1><p class="dim">{withToken.value ? 'Log in with a bearer token. You see what its owner may see, and nothing more.' : 'Log in with the code that `tiphys dashboard` shows in its terminal.'}</p></div>
        {error.value && <div class="note bad" role="alert">{error.value}</div>}
        <label for="words">{withToken.value ? 'Token' : 'Code'}</label>
        <input id="words" ref={field} class="field mono" type="password" autocomplete="off" spellcheck={false} required value={words.value} onInput={(event) => (words.value = event.currentTarget.value)} />
        <button class="button primary" type="submit" disabled={busy.value}>{busy.value ? <span class="spin" /> : 'Log in'}</button>
        {byCode.value ? <button class="button quiet" type="button" onClick={() => ((withToken.value = !withToken.value), (error.value = ''))}>{withToken.value ? 'Use the code of this machine' : 'Use a token'}</button> : <p class="dim">For example <code>kubectl create token NAME</code>. It is kept in the server’s memory until you log out, and nowhere else.</p>}
      </form>
    </main>
  );
}
