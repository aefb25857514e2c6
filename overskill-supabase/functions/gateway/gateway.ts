// Where a call goes: /api/entities, /api/storage and /api/realtime, whatever stands before it in the path.

import { denied, forbidden, fromBehind, json, notFound, Refused, told, wrongMethod } from "./answers.ts";
import { admitted, entities } from "./entities.ts";
import { storage } from "./storage.ts";
import { type Caller, callerOf, type Keys } from "./token.ts";

export interface Config {
  readonly url: string;
  readonly publishableKey: string;
  readonly issuer: string;
  readonly audience: string;
  readonly keys: Keys;
  readonly bucket: string;
}

// A service of the project, as the caller and nobody else. `path` and `query` are ours, or encoded.
export interface Behind {
  (
    method: string,
    path: string,
    more?: { headers?: Record<string, string>; body?: BodyInit | null },
  ): Promise<Response>;
}

const TIMEOUT_MILLIS = 15_000;

export async function gateway(request: Request, config: Config): Promise<Response> {
  try {
    return await route(request, config);
  } catch (error) {
    return told(error);
  }
}

async function route(request: Request, config: Config): Promise<Response> {
  // As it came: `URL` would decode and shorten what is to be refused.
  const raw = request.url.replace(/^[a-z]+:\/\/[^/?#]*/i, "").split(/[?#]/)[0];
  const at = raw.indexOf("/api/");
  if (at < 0) throw notFound();
  const caller = await callerOf(request, config);
  // Whoever names an app in the path means that one, and no other.
  const named = /\/apps\/([^/]*)\/([^/]*)$/.exec(raw.slice(0, at));
  if (named && named[1] !== caller.app) throw denied();
  if (named && named[2] !== caller.environment) throw forbidden();
  const [area, ...rest] = raw.slice(at + "/api/".length).split("/").map(segment);
  const behind = asCaller(caller, config);
  const query = new URL(request.url).searchParams;
  switch (area) {
    case "entities":
      return await entities(request, rest, query, caller, behind);
    case "storage":
      try {
        return await storage(request, rest, caller, config.bucket, behind);
      } catch (error) {
        // Who lost access is told so, and not that there is no such file.
        if (error instanceof Refused && [403, 404].includes(error.status)) await admitted(behind);
        throw error;
      }
    case "realtime":
      if (request.method !== "GET") throw wrongMethod("GET");
      await admitted(behind);
      return realtime(caller, config);
    default:
      throw notFound("There is no such API here: entities, storage and realtime are what there is.");
  }
}

// One segment of a path, decoded once. What could be read as another path is none.
function segment(text: string): string {
  let decoded: string;
  try {
    decoded = decodeURIComponent(text);
  } catch {
    throw notFound();
  }
  // deno-lint-ignore no-control-regex
  if (decoded === "" || decoded === "." || decoded === ".." || /[\x00-\x1f\x7f/\\%]/.test(decoded)) throw notFound();
  return decoded;
}

function asCaller(caller: Caller, config: Config): Behind {
  return async (method, path, { headers = {}, body = null } = {}) => {
    // Nothing of the caller's own header fields goes on.
    const answer = await fetch(`${config.url}${path}`, {
      method,
      headers: { ...headers, apikey: config.publishableKey, authorization: `Bearer ${caller.token}` },
      body,
      redirect: "manual",
      signal: AbortSignal.timeout(TIMEOUT_MILLIS),
    });
    if (answer.ok) return answer;
    const { status, code } = await said(answer);
    throw status >= 300 && status < 400 ? new Refused(500, "Something went wrong.") : fromBehind(status, code);
  };
}

// What went wrong: the database's own code for it, and the status. Storage answers 400 to whatever it refuses, and says in
// the answer which status it means. Nothing else of such an answer is looked at.
async function said(answer: Response): Promise<{ status: number; code: string }> {
  const { status } = answer;
  try {
    const { code, statusCode } = await answer.json();
    return {
      status: status === 400 && /^4[0-9]{2}$/.test(String(statusCode)) ? Number(statusCode) : status,
      code: typeof code === "string" ? code : "",
    };
  } catch {
    return { status, code: "" };
  }
}

// A socket cannot stay open here for long: the client is told where to go, and our policies on `realtime.messages` let it
// into topics of its own app only.
function realtime(caller: Caller, config: Config): Response {
  return json(200, {
    url: `${config.url.replace(/^http/, "ws")}/realtime/v1/websocket`,
    apikey: config.publishableKey,
    topic: `app:${caller.app}:${caller.environment}:`,
    // Only private channels are asked about.
    config: { private: true },
  });
}
