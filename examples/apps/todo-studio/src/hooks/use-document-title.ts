import { useEffect } from "react";
import { appTitle } from "@/lib/utils";

export function useDocumentTitle(page: string) {
  useEffect(() => {
    document.title = `${page} · ${appTitle}`;
  }, [page]);
}
