/** One record of the app's own data service: what was stored, and what the service adds. */
export type Entity<T> = T & { id: string; created_at: string; updated_at: string };

export class ApiError extends Error {
  readonly status: number;

  constructor(message: string, status: number) {
    super(message);
    this.name = "ApiError";
    this.status = status;
  }
}

const BASE = "/api/entities";

async function request(path: string, init?: RequestInit): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(`${BASE}${path}`, {
      ...init,
      headers: { Accept: "application/json", "Content-Type": "application/json", ...init?.headers },
    });
  } catch {
    throw new ApiError("The data service cannot be reached.", 0);
  }
  if (!response.ok) {
    throw new ApiError(
      response.status === 404 ? "This app has no data service yet." : `The data service answered ${response.status}.`,
      response.status,
    );
  }
  // A server without an API answers every unknown path with the page itself.
  if (!response.headers.get("content-type")?.includes("json")) {
    throw new ApiError("This app has no data service yet.", 404);
  }
  return response.json();
}

export async function listEntities<T>(type: string): Promise<Entity<T>[]> {
  const body = (await request(`/${type}`)) as { items?: Entity<T>[] };
  if (!Array.isArray(body.items)) throw new ApiError("The data service sent something that is not a list.", 200);
  return body.items;
}

export async function createEntity<T>(type: string, data: T): Promise<Entity<T>> {
  const body = await request(`/${type}`, { method: "POST", body: JSON.stringify(data) });
  return body as Entity<T>;
}
