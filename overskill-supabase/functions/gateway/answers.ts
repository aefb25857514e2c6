// What callers are told: one sentence for each status, and nothing of what is behind.

export class Refused extends Error {
  constructor(readonly status: number, message: string, readonly headers: Record<string, string> = {}) {
    super(message);
  }
}

export const denied = () => new Refused(401, "Access denied.");
export const forbidden = () => new Refused(403, "Access denied.");
export const notFound = (message = "There is no such thing.") => new Refused(404, message);
export const wrongMethod = (allow: string) => new Refused(405, `Use ${allow} here.`, { allow });
export const invalid = (message: string) => new Refused(400, message);

const COMMON = {
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
  "vary": "authorization",
};

export function json(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  return text(status, JSON.stringify(body), headers);
}

// JSON as it came, whatever numbers are in it.
export function text(status: number, body: string, headers: Record<string, string> = {}): Response {
  return new Response(body, {
    status,
    headers: { "content-type": "application/json", ...COMMON, ...headers },
  });
}

export const nothing = () => new Response(null, { status: 204, headers: COMMON });

export function told(error: unknown): Response {
  if (error instanceof Refused) return json(error.status, { error: error.message }, error.headers);
  // For the project's own logs; a stack holds neither tokens nor rows.
  console.error("gateway:", error instanceof Error ? error.stack : "thrown");
  return json(500, { error: "Something went wrong." });
}

// What the service behind said, as the caller may know it. `code` is the database's, where it was its own.
export function fromBehind(status: number, code: string): Refused {
  // An app with its records in another database is not served here: its platform serves it, at the app's own address.
  if (status === 421) return new Refused(421, "This app has its data elsewhere: call it at its own address.");
  // Writes are paused, or the records went elsewhere while this was on its way.
  if (code === "OS001" || code === "OS002") {
    return new Refused(503, "The app is being moved: writes have to wait; try again soon.", { "retry-after": "2" });
  }
  if (code === "54000") {
    return new Refused(413, "Too much: a record is at most 262144 bytes, and an app has at most 500 entities.");
  }
  if (status === 401) return denied();
  if (status === 403) return forbidden();
  if (status === 404 || status === 406) return notFound();
  if (status === 409) return new Refused(409, "There is one with this id already.");
  if (status === 413) return new Refused(413, "Too large: the project takes no files or requests of this size.");
  if (status === 400 || status === 422) return invalid("The request was refused.");
  if (status === 429) return new Refused(429, "Too many requests; try again later.", { "retry-after": "1" });
  return new Refused(500, "Something went wrong.");
}
