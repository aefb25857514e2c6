import styles from "./timer.module.css";

const STEEP_SECONDS = 180;

const clock = (seconds: number) => `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;

/** Shows a timer in `host`. The function it returns stops it and says how many seconds were left. */
export function mountTimer(host: HTMLElement, left: number = STEEP_SECONDS): () => number {
  let ticking: ReturnType<typeof setInterval> | undefined;

  const face = document.createElement("output");
  face.className = styles.face;
  face.dataset.testid = "timer";

  const button = (label: string, testid: string, onClick: () => void) => {
    const element = document.createElement("button");
    element.type = "button";
    element.textContent = label;
    element.dataset.testid = testid;
    element.addEventListener("click", onClick);
    return element;
  };

  const show = () => {
    face.textContent = clock(left);
    face.classList.toggle(styles.ready, left === 0);
  };

  const stop = () => {
    clearInterval(ticking);
    ticking = undefined;
  };

  const tick = () => {
    left = Math.max(0, left - 1);
    if (left === 0) stop();
    show();
  };

  const controls = document.createElement("p");
  controls.className = styles.controls;
  controls.append(
    button("Start or pause", "toggle", () => {
      if (ticking) stop();
      else if (left > 0) ticking = setInterval(tick, 1000);
    }),
    button("−10 s", "less", () => {
      left = Math.max(0, left - 10);
      show();
    }),
    button("+10 s", "more", () => {
      left += 10;
      show();
    }),
  );

  show();
  host.replaceChildren(face, controls);

  return () => {
    stop();
    return left;
  };
}
