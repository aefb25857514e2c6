import type { ReactNode } from "react";
import emptyImage from "@/assets/empty-state.svg";

interface EmptyStateProps {
  title: string;
  description?: string;
  action?: ReactNode;
}

export function EmptyState({ title, description, action }: EmptyStateProps) {
  return (
    <div className="flex flex-col items-center gap-3 rounded-lg border border-dashed px-6 py-10 text-center">
      <img src={emptyImage} alt="" className="h-24 w-auto" />
      <p className="font-medium">{title}</p>
      {description && <p className="max-w-sm text-balance text-sm text-muted-foreground">{description}</p>}
      {action}
    </div>
  );
}
