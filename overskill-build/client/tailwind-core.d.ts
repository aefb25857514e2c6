// `tailwind-core.js` is made by the server (src/preview/tailwind.rs): the app's own Tailwind 4, or the one that is pinned.

type Loaded = { path: string; base: string };

/** Tailwind's compiler. */
export function compile(
  css: string,
  options: {
    base: string;
    loadModule(id: string, base: string, kind: "plugin" | "config"): Promise<Loaded & { module: any }>;
    loadStylesheet(id: string, base: string): Promise<Loaded & { content: string }>;
  },
): Promise<{ features: number; build(candidates: string[]): string }>;

/** Tailwind's own style sheets by their specifiers, such as `tailwindcss/theme.css`. */
export const sheets: Record<string, string>;
