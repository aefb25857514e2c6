// /api/storage/{path}: files of the caller's own app, in a folder that the token names.

import { invalid, nothing, wrongMethod } from "./answers.ts";
import type { Behind } from "./gateway.ts";
import type { Caller } from "./token.ts";

const MAX_PATH_CHARS = 512;

export async function storage(
  request: Request,
  path: string[],
  caller: Caller,
  bucket: string,
  behind: Behind,
): Promise<Response> {
  if (path.length === 0 || path.join("/").length > MAX_PATH_CHARS) {
    throw invalid("A file's path is 1 to 512 characters.");
  }
  const file = [bucket, caller.app, caller.environment, ...path].map(encodeURIComponent).join("/");
  switch (request.method) {
    case "GET":
    case "HEAD": {
      const answer = await behind("GET", `/storage/v1/object/authenticated/${file}`);
      // Nothing that a user uploaded runs on this origin.
      const headers = {
        "content-type": answer.headers.get("content-type") ?? "application/octet-stream",
        "content-disposition": "attachment",
        "content-security-policy": "sandbox; default-src 'none'",
        "x-content-type-options": "nosniff",
        "cache-control": "private, no-store",
      };
      return new Response(request.method === "HEAD" ? null : answer.body, { status: 200, headers });
    }
    case "POST":
    case "PUT": {
      const headers = {
        "content-type": request.headers.get("content-type") ?? "application/octet-stream",
        "x-upsert": String(request.method === "PUT"),
      };
      await (await behind("POST", `/storage/v1/object/${file}`, { headers, body: request.body })).body?.cancel();
      return nothing();
    }
    case "DELETE":
      await (await behind("DELETE", `/storage/v1/object/${file}`)).body?.cancel();
      return nothing();
    default:
      throw wrongMethod("GET, HEAD, POST, PUT or DELETE");
  }
}
