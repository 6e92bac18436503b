// A part of the page that is loaded when it is first shown.
import type { ComponentType } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { Loading } from './basics';

export function lazy<P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  let ready: ComponentType<P> | undefined;
  return function Lazy(props: P) {
    const [Part, setPart] = useState<{ is?: ComponentType<P> }>({ is: ready });
    useEffect(() => {
      if (!ready) void load().then((loaded) => ((ready = loaded), setPart({ is: loaded })));
    }, []);
    return Part.is ? <Part.is {...props} /> : <Loading />;
  };
}

