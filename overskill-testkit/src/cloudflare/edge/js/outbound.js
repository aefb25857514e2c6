// Around the main module of an outbound Worker: the parameters of the dispatch become bindings.
import * as user from './MAIN';
export * from './MAIN';

export default {
  fetch(request, env, ctx) {
    const params = request.headers.get('x-overskill-params');
    if (params === null) return user.default.fetch(request, env, ctx);
    const plain = new Request(request);
    plain.headers.delete('x-overskill-params');
    return user.default.fetch(plain, { ...env, ...JSON.parse(decodeURIComponent(params)) }, ctx);
  },
};
