// What a Worker has as its `dispatch_namespace` binding: `env.NAMES.get(name, args, options).fetch(request)`.
// The scripts run behind `run`, which is the emulator.
export default function ({ run }) {
  return {
    get(name, args = {}, options = {}) {
      if (typeof name !== 'string' || name === '') throw new TypeError('the name of a script must be a string');
      const wanted = JSON.stringify({ name, outbound: options.outbound ?? args.outbound ?? null });
      return {
        async fetch(input, init) {
          const request = new Request(input, init);
          request.headers.set('x-overskill-run', encodeURIComponent(wanted));
          return run.fetch(request);
        },
      };
    },
  };
}
