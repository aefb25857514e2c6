// The platform's own pages and answers: nothing to show, not there yet, something wrong.

const POLICY = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE =
  "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;color:#1c2024;background:#fff}" +
  "h1{font-size:1.4rem}small{color:#60646c}@media(prefers-color-scheme:dark){body{color:#edeef0;background:#111113}" +
  "small{color:#b0b4ba}}";

/** @param {string} text */
const escape = (text) => text.replace(/[&<>"']/g, (it) => `&#${it.charCodeAt(0)};`);

/** Whether whoever asks would take a page. @param {Headers} headers */
export const wantsPage = (headers) => headers.get("accept")?.includes("text/html") ?? false;

/**
 * A page for people, or a line for a script.
 *
 * @param {Request} request
 * @param {number} status
 * @param {string} title
 * @param {string} detail text, not markup
 * @param {string} [frameAncestors]
 */
export function problem(request, status, title, detail, frameAncestors = "'self'") {
  if (!wantsPage(request.headers)) return plain(status, detail);
  return page(status, title, `<p>${escape(detail)}</p>`, "", frameAncestors);
}

/**
 * The same for what will be there soon: the page asks again by itself.
 *
 * @param {Request} request
 * @param {string} [frameAncestors]
 */
export function waiting(request, frameAncestors = "'self'") {
  const detail = "This preview is being prepared. If it stays so, open it again where the app is edited.";
  const again = '<meta http-equiv="refresh" content="1">';
  const hint = "<p><small>This page tries again every second.</small></p>";
  const answer = wantsPage(request.headers)
    ? page(503, "One moment", `<p>${detail}</p>${hint}`, again, frameAncestors)
    : plain(503, detail);
  answer.headers.set("retry-after", "1");
  return answer;
}

/** @param {number} status @param {string} detail */
export function plain(status, detail) {
  const headers = { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" };
  return new Response(`${detail}\n`, { status, headers });
}

/** @param {number} status @param {string} detail */
export function json(status, detail) {
  return Response.json({ error: detail }, { status, headers: { "cache-control": "no-store" } });
}

/** @param {number} status @param {string} title @param {string} body @param {string} head @param {string} frameAncestors */
function page(status, title, body, head, frameAncestors) {
  const html =
    `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">${head}` +
    `<title>${escape(title)}</title><style>${STYLE}</style></head><body><h1>${escape(title)}</h1>${body}</body></html>\n`;
  const headers = {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "content-security-policy": `${POLICY}; frame-ancestors ${frameAncestors}`,
  };
  return new Response(html, { status, headers });
}
