// A server for tests of the modules that a preview brings into the page (`overskill-build/client`): they are the real ones,
// and so is the browser; what a preview would say is said by the test.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const CLIENT = new URL("../overskill-build/client/", import.meta.url);

/**
 * @typedef {{ type?: string, body: string, status?: number, delayMs?: number, held?: Promise<void> }} Served
 * @typedef {Record<string, unknown>} Message
 */

/** Serves files that are made up by a test, and the page's own modules. */
export class TestServer {
  /** By path, without the query. @type {Map<string, Served>} */
  files = new Map();
  /** Paths with their queries, in the order of the requests. @type {string[]} */
  requests = [];
  /** What pages said on their sockets, but for pings. @type {Message[]} */
  said = [];
  /** The positions at which sockets were opened. @type {(number | undefined)[]} */
  opened = [];
  /** The epochs that were said then. @type {(string | null)[]} */
  epochs = [];
  /** Whether anything is answered at all. */
  up = true;
  seq = 0;
  incarnation = "1f";

  /** @type {{ seq: number, text: string }[]} */
  #history = [];
  #sockets = new WebSocketServer({ noServer: true });
  #server = createServer((request, response) => this.#answer(request, response));

  static async start() {
    const server = new TestServer();
    server.#server.on("upgrade", (request, socket, head) => {
      const url = new URL(request.url ?? "", "http://localhost");
      if (!server.up || url.pathname !== "/@overskill/socket") return socket.destroy();
      server.#sockets.handleUpgrade(request, socket, head, (it) => server.#welcome(it, url));
    });
    await new Promise((resolve) => server.#server.listen(0, () => resolve(undefined)));
    return server;
  }

  async stop() {
    this.cut();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  get port() {
    return /** @type {import("node:net").AddressInfo} */ (this.#server.address()).port;
  }

  /** @param {string} [host] */
  origin(host = "localhost") {
    return `http://${host}:${this.port}`;
  }

  /**
   * A page with the client, and `html` after it.
   *
   * @param {string} path
   * @param {string} html
   * @param {Record<string, unknown>} [config]
   * @param {string} [head] what comes before the client
   */
  page(path, html, config = {}, head = "") {
    const json = { position: `${this.incarnation}:${this.seq}`, token: "a-token", ...config };
    const body = `<!doctype html><html><head>
      <script id="overskill-preview" type="application/json">${JSON.stringify(json)}</script>${head}
      <script type="module" src="/@overskill/client.js"></script></head><body>${html}</body></html>`;
    this.files.set(path, { type: "text/html", body });
  }

  /** A module with `import.meta.hot`. @param {string} path @param {string} code */
  hot(path, code) {
    this.script(
      path,
      `import { createHotContext as __overskill_hot } from "/@overskill/client.js"; import.meta.hot = __overskill_hot(${JSON.stringify(path)});\n${code}`,
    );
  }

  /** @param {string} path @param {string} body */
  script(path, body) {
    this.files.set(path, { type: "text/javascript", body });
  }

  /** Says something that moves nobody. @param {Message} message */
  say(message) {
    for (const socket of this.#sockets.clients) socket.send(JSON.stringify(message));
  }

  /** Says something that brings pages to the next position. @param {Message} message */
  tell(message) {
    this.seq++;
    const text = JSON.stringify({ ...message, position: { incarnation: this.incarnation, seq: this.seq } });
    this.#history.push({ seq: this.seq, text });
    for (const socket of this.#sockets.clients) socket.send(text);
  }

  /** An update of modules that accept themselves, or of `[path, acceptedPath]`. @param {(string | [string, string])[]} paths */
  update(...paths) {
    this.tell({
      type: "update",
      updates: paths.map((it) => {
        const [path, acceptedPath] = typeof it === "string" ? [it, it] : it;
        return { type: "js-update", path, acceptedPath, timestamp: this.seq + 1 };
      }),
    });
  }

  /** Ends all sockets as a lost network does. */
  cut() {
    for (const socket of this.#sockets.clients) socket.terminate();
  }

  /** @param {import("ws").WebSocket} socket @param {URL} url */
  #welcome(socket, url) {
    const seq = url.searchParams.get("seq");
    this.epochs.push(url.searchParams.get("epoch"));
    this.opened.push(seq === null ? undefined : Number(seq));
    socket.on("message", (data) => {
      const message = JSON.parse(String(data));
      if (message.type === "ping") socket.send('{"type":"pong"}');
      else this.said.push(message);
    });
    socket.send('{"type":"connected"}');
    if (seq !== null) for (const entry of this.#history) if (entry.seq > Number(seq)) socket.send(entry.text);
  }

  /** @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response */
  async #answer(request, response) {
    const { pathname, search } = new URL(request.url ?? "/", "http://localhost");
    if (!this.up) return void request.socket.destroy();
    this.requests.push(pathname + search);
    let file = this.files.get(pathname);
    if (!file && pathname.startsWith("/@overskill/")) {
      const body = await readFile(new URL(pathname.slice("/@overskill/".length), CLIENT), "utf8").catch(() => undefined);
      if (body) file = { type: "text/javascript", body };
    }
    await file?.held;
    if (file?.delayMs) await new Promise((resolve) => setTimeout(resolve, file.delayMs));
    response.writeHead(file?.status ?? (file ? 200 : 404), {
      "content-type": `${file?.type ?? "text/plain"}; charset=utf-8`,
      "cache-control": "no-cache",
    });
    response.end(file?.body ?? "not found");
  }
}

/**
 * Waits until `probe` says something true.
 *
 * @template T
 * @param {() => T | Promise<T>} probe
 * @param {string} what
 * @returns {Promise<NonNullable<T>>}
 */
export async function until(probe, what, withinMs = 15_000) {
  const end = Date.now() + withinMs;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
