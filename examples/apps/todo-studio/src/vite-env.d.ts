/// <reference types="vite/client" />

interface ImportMetaEnv {
  /** The name in the header and in the page titles; "Todo Studio" when it is not set. */
  readonly VITE_APP_TITLE?: string;
}

interface ImportMeta {
  readonly env: ImportMetaEnv;
}
