import "./style.css";
import teapot from "./teapot.svg";
import { mountTimer } from "./timer.ts";

const root = document.querySelector<HTMLDivElement>("#root")!;

root.innerHTML = `
  <header>
    <img src="${teapot}" width="64" height="48" alt="A teapot" data-testid="teapot" />
    <h1>Tea timer</h1>
  </header>
  <section id="timer"></section>
  <button type="button" id="load" data-testid="load-facts">What is in the cup?</button>
  <div id="facts"></div>
`;

const timerHost = root.querySelector<HTMLElement>("#timer")!;
let unmount = mountTimer(timerHost, import.meta.hot?.data.seconds);

// The facts are a chunk of their own: most visitors only want the timer.
root.querySelector("#load")!.addEventListener("click", async () => {
  const { renderFacts } = await import("./facts.ts");
  renderFacts(root.querySelector<HTMLElement>("#facts")!);
});

if (import.meta.hot) {
  // A new timer takes over where the old one stood.
  import.meta.hot.accept("./timer.ts", (next) => {
    const seconds = unmount();
    unmount = (next as unknown as typeof import("./timer.ts")).mountTimer(timerHost, seconds);
  });
  import.meta.hot.dispose((data) => {
    data.seconds = unmount();
  });
  import.meta.hot.accept();
}
