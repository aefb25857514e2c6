import { Badge, type BadgeProps } from "@/components/ui/badge";
import { PRIORITY_LABELS, type Priority } from "@/types/task";

const variants: Record<Priority, BadgeProps["variant"]> = {
  low: "outline",
  medium: "secondary",
  high: "destructive",
};

export function PriorityBadge({ priority }: { priority: Priority }) {
  return <Badge variant={variants[priority]}>{PRIORITY_LABELS[priority]}</Badge>;
}
