// A dispatch namespace on one machine: `env.DISPATCHER.get(name, args, options).fetch(request)` over a worker loader.

/** @param {{ LOADER: WorkerLoader, control: Fetcher, namespace: string }} env */
export default function (env) {
  const { LOADER, control, namespace } = env;
  return {
    /** @param {string} name @param {unknown} _args @param {{ limits?: unknown, outbound?: unknown }} [options] */
    get(name, _args, options) {
      return {
        /** @param {Request} request */
        async fetch(request) {
          const at = `http://control/script/${namespace}/${encodeURIComponent(name)}`;
          const answer = await control.fetch(at);
          if (answer.status === 404) throw new Error("Worker not found.");
          const { version, code, env: bindings } = /** @type {any} */ (await answer.json());
          const worker = LOADER.get(`${namespace}/${name}@${version} ${JSON.stringify(options)}`, async () => ({
            mainModule: "main.js",
            modules: { "main.js": code },
            compatibilityDate: "2026-10-01",
            env: { ...bindings, OPTIONS: JSON.stringify(options ?? null) },
            globalOutbound: null,
          }));
          return worker.getEntrypoint().fetch(request);
        },
      };
    },
  };
}
