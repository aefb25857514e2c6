// The socket to the server: opened again whenever it is lost, each time with the position at which the page stands.

/** @import { Message, Position } from "./client.js" */

const PING_EVERY_MS = 25_000;
const PONG_WITHIN_MS = 10_000;
const FIRST_WAIT_MS = 200;
const LONGEST_WAIT_MS = 5_000;
const LONGEST_WAIT_HIDDEN_MS = 60_000;
const MOST_UNSENT = 100;

/**
 * Connects, and stays connected.
 *
 * @param {object} page
 * @param {string} [page.token] what the server asks for
 * @param {number} [page.epoch] tells the server whether the page was loaded before it had to be loaded anew
 * @param {() => Position | undefined} page.position where the page stands now
 * @param {(message: Message, socket: number) => void} page.receive takes a message of the `socket`th socket
 * @param {(event: string, data: unknown) => void} page.notify
 */
export function openSocket({ token, epoch, position, receive, notify }) {
  /** @type {WebSocket | undefined} */
  let socket;
  let count = 0;
  let failures = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let retry;
  /** What was to be said while nobody listened. @type {string[]} */
  const unsent = [];
  /** @type {() => void} */
  let drop = () => {};

  function connect() {
    clearTimeout(retry);
    const opening = new WebSocket(address());
    const number = ++count;
    /** @type {ReturnType<typeof setInterval> | undefined} */
    let pings;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let silence;
    // Whether this server answers pings is learned from its first answer; only then is silence a cut.
    let answers = false;
    socket = opening;

    opening.onopen = () => {
      failures = 0;
      for (const text of unsent.splice(0)) opening.send(text);
      pings = setInterval(() => {
        opening.send('{"type":"ping"}');
        if (answers) silence ??= setTimeout(lost, PONG_WITHIN_MS);
      }, PING_EVERY_MS);
      notify("vite:ws:connect", { webSocket: opening });
    };
    opening.onmessage = ({ data }) => {
      clearTimeout(silence);
      silence = undefined;
      /** @type {Message} */
      const message = JSON.parse(data);
      if (message.type === "pong") answers = true;
      else receive(message, number);
    };
    const lost = () => {
      opening.onopen = opening.onclose = opening.onmessage = null;
      clearInterval(pings);
      clearTimeout(silence);
      opening.close();
      socket = undefined;
      if (pings !== undefined) notify("vite:ws:disconnect", { webSocket: opening });
      const longest = document.hidden ? LONGEST_WAIT_HIDDEN_MS : LONGEST_WAIT_MS;
      const wait = Math.min(longest, FIRST_WAIT_MS * 2 ** Math.min(failures++, 16));
      // Half of it by chance, so that the viewers of a server that came back do not come all at once.
      retry = setTimeout(connect, wait / 2 + (Math.random() * wait) / 2);
    };
    opening.onclose = drop = lost;
  }

  function address() {
    const url = new URL("/@overskill/socket", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    if (token) url.searchParams.set("token", token);
    const at = position();
    if (at) {
      url.searchParams.set("incarnation", at.incarnation);
      url.searchParams.set("seq", String(at.seq));
      if (epoch !== undefined) url.searchParams.set("epoch", String(epoch));
    }
    return url;
  }

  /** Somebody looks again, or the network is back: does not wait any longer for the next try. */
  function connectSoon() {
    if (socket || document.hidden) return;
    failures = 0;
    connect();
  }

  document.addEventListener("visibilitychange", connectSoon);
  addEventListener("online", connectSoon);
  addEventListener("pageshow", connectSoon);
  connect();

  return {
    /** Sends, or keeps for when there is a socket. @param {Message} message */
    send(message) {
      const text = JSON.stringify(message);
      if (socket?.readyState === WebSocket.OPEN) socket.send(text);
      else if (unsent.length < MOST_UNSENT) unsent.push(text);
    },
    /** Leaves this socket for another, and says the number of that one. */
    restart() {
      if (socket) drop();
      return count + 1;
    },
  };
}
